"""Checks of the train and evaluate hooks, on a handful of images, and of the weights in a manifest."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import msgspec
import torch
from torch import Tensor

import zoo
from zoo import hub, registry
from zoo.data import ImageSet
from zoo.errors import DataError, HubError, IntegrityError, ProbeError, TensorMismatchError, ZooError
from zoo.evaluation import counting, hook
from zoo.evaluation.outputs import Outputs
from zoo.loading import safetensors_file
from zoo.manifest import Weights
from zoo.registry.listing import params_of
from zoo.spec import Model
from zoo.testing.subject import BATCH, CheckError, Subject, expect
from zoo.testing.values import expect_close
from zoo.training import Recipe, Run, TrainingData, by_name, choice
from zoo.training.run import Silent
from zoo.verify import probe

CLASSES = 4
IMAGES = 32
FEW = 8
"""Images of a network that computes long."""


def training(subject: Subject) -> str:
    """Checks that two trainings with one seed give the same bytes, and one with another seed gives others.

    The training is one epoch on a handful of images, by the recipe's defaults or, with a train hook of its own, by the
    first recipe for the model. A network that is fitted may be the same for any seed, and may find too little in noise
    to learn from: a :class:`zoo.DataError` then leaves this out.

    Fix: draw random numbers from torch's generators, which the recipe's seed sets, and keep nothing between trainings.
    """
    try:
        first = _trained(subject, 1)
    except DataError as error:
        if subject.model.fitted:
            return f"its training refuses noise: {error}"
        raise
    again = _trained(subject, 1)
    differing = [key for key, tensor in first.items() if not torch.equal(tensor, again[key])]
    expect(not differing, f"trained twice with seed 1, it differs in {', '.join(differing)}")
    if not subject.model.fitted:
        other = _trained(subject, 2)
        is_other = any(not torch.equal(tensor, other[key]) for key, tensor in first.items())
        expect(is_other, "trained with seed 1 and with seed 2, it is the same")
    return ""


def answers(subject: Subject) -> str:
    """Checks that the evaluate hook answers each image, and the same whatever the labels are.

    Fix: return ``zoo.evaluation.logits(...)``, or a class for each image that the hook gets.
    """
    model = subject.model
    if model.evaluate == hook.DEFAULT.evaluate:
        return "Zoo's own evaluate hook scores it"
    module, images = subject.module, _images(subject, model.num_classes)  # once: a giant is built at each access
    outputs: list[Outputs] = []
    for labels in (images.labels, images.labels.flip(0)):
        labeled = replace(images, labels=labels)
        report = hook.evaluate(model, module, labeled, preprocess=model.preprocess, take=outputs.append, batch_size=8)
        expect(not report.stated_by, f"{model.evaluate} reads the labels")
    first, second = outputs
    expect(torch.equal(first.ranked, second.ranked), f"{model.evaluate} answers otherwise if the labels are shuffled")
    if first.logits is not None and second.logits is not None:
        expect_close(second.logits, first.logits, "with shuffled labels, the logits")
    return ""


def _images(subject: Subject, classes: int) -> ImageSet:
    """Returns noise of the declared input's size; the classes differ in brightness."""
    channels, height, width = subject.model.preprocess.input_size
    count = FEW if subject.is_long else IMAGES
    labels = torch.arange(count) % classes
    noise = torch.randint(128, (count, channels, height, width), generator=torch.Generator().manual_seed(0))
    pixels = (noise + (labels * 127 // max(1, classes - 1))[:, None, None, None]).to(torch.uint8)
    names = tuple(map(str, range(classes)))
    return ImageSet("noise", "train", names, labels, pixels, redraw=lambda numbers, _: pixels[numbers])


def _trained(subject: Subject, seed: int) -> dict[str, Tensor]:
    """Returns the tensors of the network after a short training."""
    model = subject.model
    images = _images(subject, CLASSES)
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        run = Run(Path(folder, "run"), display=Silent())
        recipe = _recipe(subject, {"seed": seed, "batch_size": len(images) // 2})
        by_name.carry_out(model, TrainingData(images, None), recipe, run, args={}, device="cpu")
        return safetensors_file.read(run.model)


def _recipe(subject: Subject, fields: dict[str, Any]) -> Recipe:
    """Returns the first recipe for the model if its train hook is its own, else the defaults, made short."""
    plugin = registry.current().find(f"{subject.plugin}/{subject.model.name}").plugin
    tables = choice.read(plugin) if subject.model.train != hook.DEFAULT.train else {}
    name, table = next(
        ((name, table) for name, table in tables.items() if choice.suits(table, subject.model.name)), ("default", {})
    )
    long = ("progressive", "adversarial", "distill", "compile", "keep", "validation", "warmup_epochs")
    short = {key: value for key, value in table.items() if key not in long}
    recipe = choice.resolve(name, {**short, "epochs": 1, **fields}, own=choice.own_fields(plugin))
    return msgspec.structs.replace(recipe, lr=min(recipe.lr, 0.01)) if not tables else recipe


class Shape(NamedTuple):
    """An entry's network and input."""

    args: Mapping[str, Any]
    num_classes: int
    input_size: tuple[int, int, int]
    params: int


def shape(model: Model, entry: Weights) -> Shape:
    classes = model.num_classes if entry.num_classes is None else entry.num_classes
    return Shape(entry.args, classes, (entry.preprocess or model.preprocess).input_size, params_of(model, entry))


def is_embedded(entry: Weights) -> bool:
    return entry.hub.startswith("embedded:") and entry.pinned


def weights(subject: Subject, entry: Weights) -> None:
    """Checks that the entry's arguments build a network of the size that is stated, which takes the input it declares.

    Embedded weights are loaded as well, and must pass their probe; others would need a network.

    Fix: the field of the entry that the message names; ``zoo publish --manifest FILE`` writes all of them.
    """
    if is_embedded(entry):
        _embedded(subject, entry)
    args, classes, size, stated = shape(subject.model, entry)
    device = subject.shape_device
    with subject.on(device):
        module = subject.build(num_classes=classes, in_chans=size[0], **args)
        try:
            logits = module(subject.images(device, size=size))
        except Exception as error:  # a network may raise anything
            raise CheckError(f"the network does not take input_size {list(size)}: {error}", "preprocess") from error
    got = tuple(logits.shape)
    expect(got == (BATCH, classes), f"the output is {got}, expected {(BATCH, classes)}", field="num_classes")
    counted = counting.params(module)
    advice = f"set params = {counted}"
    expect(counted == stated, f"the listing has {stated:_} params, the network {counted:_}: {advice}", field="params")


def fetched(entry: Weights) -> str:
    """Checks that the file arrives from where its entry says, in an empty cache and without a token.

    Fix: the ``hub``, ``repo``, ``file`` or ``sha256`` of the entry; ``zoo publish --manifest FILE`` writes them.
    """
    if not hub.source_at(entry.hub).is_local and (switch := hub.offline_switch()):
        return f"network access is disabled ({switch})"
    no_token = mock.patch("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, ZOO_CACHE=folder), no_token:
        try:
            (hub.fetch if entry.sha256 else hub.fetch_unpinned)(entry, source=entry.hub)
        except HubError as error:
            raise CheckError(error.message, "sha256" if isinstance(error, IntegrityError) else "hub") from error
    return ""


def _embedded(subject: Subject, entry: Weights) -> None:
    _, classes, size, _ = shape(subject.model, entry)
    trained = _loaded(subject, entry).eval()
    with torch.no_grad():
        logits = trained(subject.images(size=size))
    is_right = logits.shape == (BATCH, classes)
    expect(is_right, f"trained for {classes} classes, it gives {tuple(logits.shape)}", field="num_classes")
    expect(logits.isfinite().all(), "the trained network's logits are not finite", field="file")
    if entry.probe is not None:
        try:
            probe.check(trained, entry.preprocess or subject.model.preprocess, entry.probe)
        except ProbeError as error:
            raise CheckError(str(error), "probe") from error


def _loaded(subject: Subject, entry: Weights) -> Any:
    """Returns the network of embedded weights; raises :class:`CheckError` with the field of the entry that is wrong."""
    file = registry.resource(f"{entry.hub.removeprefix('embedded:')}:{entry.path}")
    expect(file.is_file(), f"file: there is no {file}", field="file")
    size = file.stat().st_size
    expect(not entry.size or entry.size == size, f"size = {entry.size} is stated, {file} has {size}", field="size")
    try:
        return zoo.create(entry.name if "/" in entry.name else f"{subject.plugin}/{entry.name}")
    except IntegrityError as error:
        raise CheckError(str(error), "sha256") from error
    except TensorMismatchError as error:
        built = f"num_classes = {entry.num_classes} and args = {dict(entry.args)}"
        raise CheckError(f"args: the network of {built} does not fit {file.name}: {error}", "args") from error
    except ZooError as error:
        raise CheckError(str(error), "file") from error

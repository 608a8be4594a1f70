"""Checks of the train and evaluate hooks, on a handful of images."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from zoo import registry
from zoo.data import ImageSet
from zoo.evaluation import hook
from zoo.evaluation.outputs import Outputs
from zoo.loading import safetensors_file
from zoo.testing.expectation import expect
from zoo.testing.subject import Subject
from zoo.testing.values import expect_close
from zoo.training import Recipe, Run, TrainingData, by_name, choice
from zoo.training.display import Silent

CLASSES = 4
IMAGES = 32
FEW = 8
"""Images of a network that computes long."""


def training(subject: Subject) -> str:
    """Trained twice with one seed, the network has the same bytes, and with another seed other ones.

    The training is one epoch on a handful of images, by the recipe's defaults or, with a train hook of its own, by the
    first recipe for the model. A network that is fitted may be the same for any seed.

    Fix: draw random numbers from torch's generators, which the recipe's seed sets, and keep nothing between trainings.
    """
    first = _trained(subject, 1)
    again = _trained(subject, 1)
    differing = [key for key, tensor in first.items() if not torch.equal(tensor, again[key])]
    expect(not differing, f"trained twice with seed 1, it differs in {', '.join(differing)}")
    if not subject.model.fitted:
        other = _trained(subject, 2)
        is_other = any(not torch.equal(tensor, other[key]) for key, tensor in first.items())
        expect(is_other, "trained with seed 1 and with seed 2, it is the same")
    return ""


def answers(subject: Subject) -> str:
    """The evaluate hook answers each image, and the same whatever the labels are.

    Fix: return ``zoo.evaluation.logits(...)``, or a class for each image that the hook gets.
    """
    model = subject.model
    if model.evaluate == hook.DEFAULT.evaluate:
        return "Zoo's own evaluate hook scores it"
    images = _images(subject, model.num_classes)
    given: list[Outputs] = []
    for labels in (images.labels, images.labels.flip(0)):
        labelled = replace(images, labels=labels)
        report = hook.evaluate(
            model, subject.module, labelled, preprocess=model.preprocess, take=given.append, batch_size=8
        )
        expect(not report.stated_by, f"{model.evaluate} reads the labels")
    first, second = given
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

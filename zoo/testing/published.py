"""Checks of the weights in a manifest."""

import os
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple
from unittest import mock

import torch

import zoo
from zoo import hub, registry
from zoo.errors import HubError, IntegrityError, ProbeError, TensorMismatchError, ZooError
from zoo.evaluation import counting
from zoo.manifest import Weights
from zoo.registry.listing import params_of
from zoo.spec import Model
from zoo.testing.expectation import CheckError, expect
from zoo.testing.subject import BATCH, Subject
from zoo.verify import probe


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
    """The entry's arguments build a network of the size that is stated, which takes the input it declares.

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
    """The file arrives from where its entry says, in an empty cache and without a token.

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
    """The network of embedded weights; raises :class:`CheckError` with the field of the entry that is wrong."""
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

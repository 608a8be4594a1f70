"""A network that runs an exported file."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
import torch
from torch import Tensor, nn

from zoo import names, registry
from zoo.errors import FileFormatError, IntegrityError, SpecError, UnknownNameError, WeightsError
from zoo.exported import formats
from zoo.exported.about import About, Sidecar
from zoo.exported.runtimes import OPENERS, Run
from zoo.loading import ModelInfo, Network
from zoo.manifest import Weights
from zoo.spec import Model
from zoo.system import storage

log = logging.getLogger("zoo")


class ExportedNetwork(nn.Module):
    """Runs an exported file on the CPU, with the input and the output of the network that was exported.

    If the file normalises its input itself, that is undone first. There are no parameters, features or gradients.
    """

    def __init__(self, about: About, run: Run, info: ModelInfo) -> None:
        super().__init__()
        self.about = about
        self.zoo_info = info
        self.num_classes = about.num_classes
        self._run = [run]  # in a list, so that a module of torch's is not a part of this one, which eval() would change

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad and torch.is_grad_enabled():
            raise self._limited("gradients")
        with torch.no_grad():
            output = self._run[0](as_taken(self.about, x.detach().cpu()).contiguous())
        return output.float().to(x.device)

    def forward_features(self, x: Tensor) -> Tensor:
        raise self._limited("features")

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        raise self._limited("features")

    def _limited(self, what: str) -> WeightsError:
        source = self.about.weights or self.about.model
        hint = f"Use the network itself: {source}."
        return WeightsError(f"{self.zoo_info.name} is an exported network, which computes no {what}.", hint=hint)


def as_taken(about: About, x: Tensor) -> Tensor:
    """What a file takes, for images ``x`` that are prepared as the network takes them."""
    if about.input == "normalised":
        return x.float()
    preprocess = about.preprocess
    mean, std = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (preprocess.mean, preprocess.std))
    values = x.double() * std + mean
    return values.float() if about.input == "float32" else values.mul(255).round().to(torch.uint8)


def open_alone(file: Path, weights: object, args: Mapping[str, Any]) -> Network:
    """As :func:`open_file`; raises :class:`SpecError` if the caller gives ``weights`` or build arguments as well."""
    if weights is not None or args:
        raise SpecError(f"{file} is an exported network with its weights.", hint="Leave out weights and arguments.")
    return cast(Network, open_file(file))


def open_file(file: Path) -> ExportedNetwork:
    """The network in an exported file, with the ``zoo_info`` that the file states.

    Raises :class:`FileFormatError` if the file is damaged or ``zoo export`` did not write it, :class:`IntegrityError`
    if it was changed since, :class:`MissingExtraError`.
    """
    if not file.is_file():
        raise WeightsError(f"{file}: no such file.", hint="zoo export NAME -o FILE writes one.")
    _check_hashes(file)
    about, run = OPENERS[formats.of_file(file)](file)
    info = ModelInfo(
        str(file), _row(about), _entry(about, file), file, about.preprocess, about.classes, about.class_names, {}
    )
    return ExportedNetwork(about, run, info)


def _check_hashes(file: Path) -> None:
    """Raises :class:`IntegrityError` if the file beside states other hashes; it may be missing."""
    sidecar = formats.sidecar(file)
    if not sidecar.is_file():
        return
    try:
        stated = msgspec.json.decode(sidecar.read_bytes(), type=Sidecar).sha256
    except msgspec.MsgspecError as error:
        raise FileFormatError(f"{sidecar}: not a description of {file.name}: {error}", hint="Remove it.") from None
    if (got := storage.sha256_of(file)) not in stated.values():  # whatever the file is called now
        raise IntegrityError(
            f"{file} has sha256 {got}, expected {' or '.join(stated.values())} as in {sidecar.name}: it was changed.",
            hint="Export the weights again.",
        )


def _row(about: About) -> Model:
    """The model of that name here; without its plugin, one that evaluates as usual."""
    try:
        return registry.current().find(about.model).model
    except UnknownNameError:
        return Model(about.model, build="zoo.loading:build", preprocess=about.preprocess)


def _entry(about: About, file: Path) -> Weights | None:
    """The manifest's entry of the weights that were exported, if it names the same bytes."""
    if not about.sha256 or names.is_repository(about.weights):
        return None
    try:
        entry = registry.current().find(about.weights).weights
    except UnknownNameError:
        return None
    if entry is not None and entry.sha256 != about.sha256:
        log.warning(
            "%s was exported from %s with sha256 %s, but the manifest has %s: its scores do not apply",
            file, about.weights, about.sha256, entry.sha256,
        )  # fmt: skip
        return None
    return entry

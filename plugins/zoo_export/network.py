"""Networks that run exported files, each format in its runtime."""

import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from zoo import names, registry
from zoo.errors import FileFormatError, IntegrityError, UnknownNameError, WeightsError
from zoo.loading import ModelInfo, onnx_session
from zoo.manifest import Weights
from zoo.spec import Model
from zoo.system import storage
from zoo_export import formats
from zoo_export.formats import KEY, About, Format, Sidecar, read_about

log = logging.getLogger("zoo")

Run = Callable[[Tensor], Tensor]
"""Outputs for a batch of inputs, both on the CPU."""


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
    """Returns what a file takes, for images ``x`` that are prepared as the network takes them."""
    if about.input == "normalised":
        return x.float()
    preprocess = about.preprocess
    mean, std = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (preprocess.mean, preprocess.std))
    values = x.double() * std + mean
    return values.float() if about.input == "float32" else values.mul(255).round().to(torch.uint8)


def open_file(file: Path) -> ExportedNetwork:
    """Opens the network in an exported file, with the ``zoo_info`` that the file states.

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
    """Returns the model of that name here; without its plugin, one that evaluates as usual."""
    try:
        return registry.current().find(about.model).model
    except UnknownNameError:
        return Model(about.model, build="zoo.loading:build", preprocess=about.preprocess)


def _entry(about: About, file: Path) -> Weights | None:
    """Returns the manifest's entry of the weights that were exported, if it names the same bytes."""
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


def open_onnx(file: Path) -> tuple[About, Run]:
    session = onnx_session.start(file, str(file), what=f"Running {file.name}", extra="zoo-vision[export]")
    described = read_about(session.get_modelmeta().custom_metadata_map.get(KEY), file)
    output = session.get_outputs()[0].name
    return described, lambda images: onnx_session.run(session, output, images, str(file))


def open_torch_export(file: Path) -> tuple[About, Run]:
    described = _described_in_archive(file)
    with _blaming(file):
        module = torch.export.load(file).module()
    return described, module


LONGEST = 1 << 24
"""Bytes of a description, at most: a thousand classes take 20 kB."""

OPENERS: dict[Format, Callable[[Path], tuple[About, Run]]] = {
    "onnx": open_onnx,
    "torch-export": open_torch_export,
}
"""Readers by format: the description of a file and the function that it computes.

Raise :class:`FileFormatError` for a damaged file and for one that does not describe itself, and
:class:`zoo.errors.MissingExtraError`.
"""


def _described_in_archive(file: Path) -> About:
    """Reads the description in a file of torch's, a zip archive, before torch runs what else is in it."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(f"/{KEY}")]
            is_small = bool(entries) and entries[0].file_size <= LONGEST
            text = archive.read(entries[0]).decode() if is_small else None
    except (zipfile.BadZipFile, UnicodeDecodeError, EOFError, NotImplementedError) as error:
        raise FileFormatError(f"{file}: damaged: {error}") from None
    return read_about(text, file)


@contextmanager
def _blaming(file: Path) -> Iterator[None]:
    """Makes a runtime's exceptions within it errors that name ``file``; its warnings are not shown."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # the runtimes raise many kinds at damaged files
        reason = str(error).strip().partition("\n")[0]
        raise FileFormatError(f"{file}: damaged: {type(error).__name__}: {reason}") from None

"""Networks that run exported files, each in a process of its own: a sandbox, since such a file is a program."""

import logging
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from zoo import names, registry
from zoo.errors import IntegrityError, UnknownNameError, WeightsError
from zoo.loading import ModelInfo
from zoo.manifest import Weights
from zoo.spec import Model
from zoo.system import sandbox, storage
from zoo.system.process import Worker
from zoo_export import formats, runtime
from zoo_export.formats import About, read_about

log = logging.getLogger("zoo")

Run = Callable[[Tensor], Tensor]
"""Outputs for a batch of inputs, both on the CPU."""


class ExportedNetwork(nn.Module):
    """Runs an exported file on the CPU, in a sandbox, with the input and the output of the network that was exported.

    If the file normalises its input itself, that is undone first. There are no parameters, features or gradients.
    """

    def __init__(self, about: About, run: Run, info: ModelInfo) -> None:
        super().__init__()
        self.about = about
        self.zoo_info = info
        self.num_classes = about.num_classes
        self.is_approximate = about.precision != "float32"
        self._run = run

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad and torch.is_grad_enabled():
            raise self._limited("gradients")
        with torch.no_grad():
            output = self._run(as_taken(self.about, x.detach().cpu()).contiguous())
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
    about, run = open_apart(file)
    info = ModelInfo(
        str(file), _row(about), _entry(about, file), file, about.preprocess, about.classes, about.class_names, {}
    )
    return ExportedNetwork(about, run, info)


def _check_hashes(file: Path) -> None:
    """Raises :class:`IntegrityError` if the file beside states other hashes; it may be missing."""
    stated = formats.read_sidecar(file)
    if stated is None:
        return
    if (got := storage.sha256_of(file)) not in stated.sha256.values():  # whatever the file is called now
        raise IntegrityError(
            f"{file} has sha256 {got}, expected {' or '.join(stated.sha256.values())} as in "
            f"{formats.sidecar(file).name}: it was changed.",
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


TIMEOUT = 1200.0
"""Seconds that opening a file, or one batch, may take."""


class Apart:
    """The function of an exported file, computed by a process in a sandbox that ends with this object."""

    def __init__(self, file: Path) -> None:
        self._name = file.name
        self._folder = Path(tempfile.mkdtemp(prefix="zoo-export-"))
        self._worker = Worker(sandbox=sandbox.around(file, writable=self._folder))
        self._turn = threading.Lock()
        weakref.finalize(self, _end, self._worker, self._folder)
        arguments = {
            "file": str(file.absolute()), "format": formats.of_file(file), "threads": torch.get_num_threads(),
        }  # fmt: skip
        self.text = str(self._ask("open_here", arguments))

    def __call__(self, images: Tensor) -> Tensor:
        given, answer = self._folder / "images", self._folder / "outputs"
        with self._turn:
            safetensors.torch.save_file({"images": images}, given)
            self._ask("run_here", {"images": str(given), "outputs": str(answer)})
            try:
                with storage.open_regular(answer, follow=False) as stream:
                    return safetensors.torch.load(stream.read())["outputs"]
            except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
                raise WeightsError(f"Running {self._name} gave no outputs: {error}") from None

    def __deepcopy__(self, _: object) -> "Apart":
        return self  # it holds no state of the network's

    def _ask(self, function: str, arguments: dict[str, Any]) -> Any:
        hint = f"Allow more memory with {sandbox.VARIABLE}, or use a smaller batch."
        what = f"Running {self._name}"
        return self._worker.ask(f"zoo_export.runtime:{function}", arguments, what=what, timeout=TIMEOUT, hint=hint)


def _end(worker: Worker, folder: Path) -> None:
    worker.close()
    shutil.rmtree(folder, ignore_errors=True)


def open_apart(file: Path) -> tuple[About, Run]:
    """Returns the description of a file, and the function that it computes, in a sandbox."""
    if sandbox.layers() is not None:  # this process is one, and cannot start another
        text, here = runtime.OPENERS[formats.of_file(file)](file)
        return read_about(text, file), here
    run = Apart(file)
    return read_about(run.text, file), run

"""The network that is exported, with as much of its preprocessing as a graph can hold."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from zoo import registry
from zoo.errors import ExportError, PluginError, SpecError, ZooError
from zoo.evaluation.forward import in_eval_mode
from zoo.registry import extensions, hooks
from zoo.spec import Preprocess
from zoo_export.formats import Input, Precision

INPUT, OUTPUT = "images", "logits"
"""The names of a graph's input and output."""

EXTRA = "zoo-vision[export]"
"""The extra that installs the libraries that ONNX files need."""

BATCH = 2
"""Images in the example that is traced: torch takes the size 1 for one that never changes."""


class Graph(nn.Module):
    """A module from images B C H W, as ``input`` states them, to float32 outputs.

    In ``float16``, the network alone computes with half precision: preprocessing and both ends stay float32.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, preprocess: Preprocess, input: Input, precision: Precision) -> None:
        super().__init__()
        self.is_half = precision == "float16"
        self.network = copy.deepcopy(network).half() if self.is_half else network
        self.input = input
        self.register_buffer("mean", torch.tensor(preprocess.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(preprocess.std)[:, None, None])
        self.eval()  # exporters put back the mode of the whole, also in the network

    def prepared(self, images: Tensor) -> Tensor:
        """Returns ``images`` as the network takes them."""
        x = images.float() / 255 if self.input == "uint8" else images
        return (x - self.mean) / self.std if self.input != "normalised" else x

    def forward(self, images: Tensor) -> Tensor:
        x = self.prepared(images)
        output = self.network(x.half() if self.is_half else x)
        if not isinstance(output, Tensor):
            raise ExportError(f"it returns {type(output).__name__}, expected one tensor.")
        return output.float()

    def takes_any_size(self, size: tuple[int, int, int]) -> bool:
        """Returns whether the network takes images of twice this height and width."""
        channels, height, width = size
        try:
            with torch.inference_mode():
                self(self.example((channels, 2 * height, 2 * width)))
        except Exception:  # a plugin's code may raise anything
            return False
        return True

    def example(self, size: tuple[int, int, int]) -> Tensor:
        shape = (BATCH, *size)
        return torch.full(shape, 128, dtype=torch.uint8) if self.input == "uint8" else torch.full(shape, 0.5)


def input_of(preprocess: str, input: str) -> Input:
    """Returns what the graph takes; raises :class:`SpecError` for values that are not possible."""
    if preprocess not in ("inside", "beside"):
        raise SpecError(f"preprocess = {preprocess!r}: expected inside or beside.")
    if input not in ("float32", "uint8"):
        raise SpecError(f"input = {input!r}: expected float32 or uint8.")
    if preprocess == "beside":
        if input == "uint8":
            raise SpecError("uint8 pixels are not normalised yet.", hint="Use --preprocess inside, or --input float32.")
        return "normalised"
    return "uint8" if input == "uint8" else "float32"


def first_line(error: Exception) -> str:
    """Returns what an exporter says, in one line; of a chain of its exceptions, the first."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, ZooError):  # of the family, about what it computes outside torch
        return error.message
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].strip() if lines else ''}"


@contextmanager
def on_cpu(network: nn.Module) -> Iterator[nn.Module]:
    """Yields a float32 copy on the CPU if ``network`` is elsewhere, else itself; in eval mode, which is put back."""
    tensors = [*network.parameters(), *network.buffers()]
    is_elsewhere = any(t.device.type != "cpu" or t.dtype in (torch.float16, torch.bfloat16) for t in tensors)
    used = copy.deepcopy(network).to("cpu", torch.float32) if is_elsewhere else network
    with in_eval_mode(used):
        yield used


def check_passes(names: Sequence[str]) -> None:
    """Raises :class:`UnknownNameError` unless all are export passes."""
    for name in names:
        extensions.require("exports", name)


def run_passes(network: nn.Module, names: Sequence[str]) -> nn.Module:
    """Returns a copy of ``network`` after the passes ``names``, in this order; itself if there are none.

    Raises :class:`ExportError` for a pass that fails, :class:`PluginError` for one that returns no network.
    """
    if not names:
        return network
    changed = copy.deepcopy(network)
    for name in names:
        row = extensions.require("exports", name).spec
        hook = registry.hook(row.run, row.requires, role=hooks.EXPORT, of=name)
        try:
            with in_eval_mode(changed):
                returned = hook(changed)
        except ZooError:
            raise
        except Exception as error:  # a plugin's code may raise anything
            raise ExportError(f"The export pass {name} failed: {type(error).__name__}: {error}") from error
        if not isinstance(returned, nn.Module):
            raise PluginError(f"{row.run} returned {type(returned).__name__}, expected the changed network.")
        changed = returned
    return changed.eval()

"""Runs an exported file, in a sandbox, and compares its outputs with those of the network."""

from contextlib import suppress
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from zoo import data
from zoo.data.preprocess import Transform
from zoo.errors import ExportError, ZooError
from zoo.spec import Preprocess
from zoo.verify import probe
from zoo_export import network as exported
from zoo_export.formats import About, Agreement, Precision

TOLERANCES: dict[Precision, float] = {"float32": 1e-4, "float16": 2e-2, "int8": 0.3}
"""The largest difference that is accepted, relative to the largest output."""

OF_DATA_SET = 10
"""Images of the training split that are compared as well, if the data set is on this machine."""


def check(network: nn.Module, file: Path, about: About) -> Agreement:
    """Compares ``file`` with ``network``, which is on the CPU in eval mode.

    Raises :class:`ExportError` if the outputs differ by more than the tolerance of its precision, and the errors of
    :func:`zoo_export.network.open_file`.
    """
    return compare(network, about, answers_of(file), runtime_of(about))


def compare(network: nn.Module, about: About, outputs: dict[str, Tensor], runtime: str) -> Agreement:
    """Compares ``outputs``, the answers of a file, with ``network``: see :func:`check`."""
    tolerance = TOLERANCES[about.precision]
    worst, same, images = 0.0, 0, 0
    sizes = sorted(name.removeprefix("pixels") for name in outputs if name.startswith("pixels"))
    for size in sizes:
        pixels = outputs[f"pixels{size}"]
        with torch.inference_mode():
            ours = network(as_input(about.preprocess, pixels)).float()
        for name in ("alone", "together"):
            theirs = outputs[f"{name}{size}"]
            if theirs.shape != ours.shape:
                raise ExportError(
                    f"The file's outputs have shape {tuple(theirs.shape)}, those of the network {tuple(ours.shape)}."
                )
            difference = probe.difference(theirs, ours)
            if not difference <= tolerance:  # NaN must fail
                raise ExportError(
                    f"The file's outputs in {runtime} differ from the network's by {difference:.1e} of the largest, "
                    f"on {len(pixels)} images {'one at a time' if name == 'alone' else 'in one batch'}; "
                    f"{about.precision} allows {tolerance:g}.",
                    hint="No file was written. Another --format or --precision may be exact enough.",
                )
            worst = max(worst, difference)
        if not probe.depends_on_image(ours):
            raise ExportError("The network's outputs hardly differ from image to image, so they prove nothing.")
        same += int((theirs.flatten(1).argmax(1) == ours.flatten(1).argmax(1)).sum())
        images += len(pixels)
    return Agreement(images, (1, len(outputs["pixels"])), worst, tolerance, same, runtime)


def answers_of(file: Path) -> dict[str, Tensor]:
    """Returns pixels of photographs and of training images, and the outputs of ``file`` for them."""
    network = exported.open_file(file)
    about = network.about
    outputs = _answers(network, about.preprocess, pictures(about), "")
    if about.any_size:
        channels, height, width = about.preprocess.input_size
        larger = msgspec.structs.replace(about.preprocess, input_size=(channels, 2 * height, 2 * width))
        transform = Transform(larger)
        pixels = torch.stack([transform.pixels(image) for image in probe.photographs()[:2]])
        outputs |= _answers(network, larger, pixels, ".larger")
    return outputs


def _answers(network: nn.Module, preprocess: Preprocess, pixels: Tensor, size: str) -> dict[str, Tensor]:
    inputs = as_input(preprocess, pixels)
    alone = torch.cat([network(image[None]) for image in inputs])
    return {f"pixels{size}": pixels, f"alone{size}": alone, f"together{size}": network(inputs)}


def pictures(about: About) -> Tensor:
    """Returns photographs, and training images if they are on this machine: uint8 B C H W of the input's size."""
    transform = Transform(about.preprocess)
    images = probe.photographs()
    with suppress(ZooError, OSError):  # if the data set is not on this machine: this process has no network
        training = data.load(about.classes, "train") if about.classes else None
        images += [training.image(number) for number in range(min(OF_DATA_SET, len(training)))] if training else []
    return torch.stack([transform.pixels(image) for image in images])


def as_input(preprocess: Preprocess, pixels: Tensor) -> Tensor:
    """Pixels uint8 B C H W that are cut already, as the network takes them."""
    size = (pixels.shape[1], pixels.shape[2], pixels.shape[3])
    whole = msgspec.structs.replace(preprocess, input_size=size, crop_pct=1.0, crop_mode="squash")
    return Transform(whole).batch(pixels)


def runtime_of(about: About) -> str:
    """Returns the runtime of a format, with its version."""
    from importlib.metadata import version

    name = "onnxruntime" if about.format == "onnx" else "torch"
    return f"{name} {version(name)}"

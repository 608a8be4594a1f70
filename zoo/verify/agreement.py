"""Compares the outputs of two implementations of a network on photographs."""

from PIL import Image
from torch import Tensor

from zoo.verify import probe

SEEN = 1e-3
"""How much outputs must differ from image to image, relative to the largest, so that equal ones prove anything."""


def photographs() -> list[Image.Image]:
    """The photograph of the probes, its mirror image, and parts of both."""
    with Image.open(probe.PICTURE) as opened:
        whole = opened.convert("RGB")
    mirrored = whole.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    width, height = whole.size
    parts = [whole.crop((0, 0, width // 2, height // 2)), whole.crop((width // 3, height // 3, width, height))]
    parts += [mirrored.crop((0, height // 2, width // 2, height)), whole.rotate(180)]
    return [whole, mirrored, *parts]


def difference(got: Tensor, expected: Tensor) -> float:
    """The largest difference of outputs B ..., relative to the largest of ``expected``; NaN if an output is."""
    return float((got - expected).abs().max()) / (float(expected.abs().max()) or 1.0)


def depends_on_image(outputs: Tensor) -> bool:
    """Whether outputs B ... differ from image to image, so that a comparison of them proves anything."""
    return float((outputs - outputs[:1]).abs().max()) > SEEN * float(outputs.abs().max())

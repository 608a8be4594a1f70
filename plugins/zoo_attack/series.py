"""A few images attacked at several epsilons, with the predictions: what the gallery's slider shows."""

from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from zoo.creation import info_of
from zoo.data import ImageSet
from zoo.data.sheet import block, opaque, webp
from zoo.errors import SpecError
from zoo.evaluation.prediction import class_names_of
from zoo.evaluation.score import Measured, provenance
from zoo.training.pixel_model import PixelTransform, under_attack
from zoo_attack.gradient import perturb
from zoo_attack.method import Method
from zoo_attack.picture import Said
from zoo_attack.robustness import images_of, network_of


class Attacked(msgspec.Struct, frozen=True):
    """Image ``image`` of the split, its class, and the prediction at each epsilon."""

    image: int
    label: int
    said: tuple[Said, ...]


class Series(Measured, frozen=True, kw_only=True):
    """``attacked`` images at ``epsilons``. ``sheet`` is a WebP file of the pictures, a row for each image.

    A picture has the size ``tile``, width and height. Pictures have 8 bits, and the predictions are about these.
    """

    method: Method
    classes: tuple[str, ...]
    epsilons: tuple[float, ...]
    attacked: tuple[Attacked, ...]
    tile: tuple[int, int]
    sheet: bytes


def attack_series(
    model: str | nn.Module,
    data: str | Path | ImageSet,
    method: Method,
    epsilons: Iterable[float],
    *,
    split: str = "test",
    limit: int = 8,
    device: torch.device | str | None = None,
    progress: Callable[[int, int], None] | None = None,
    command: str = "",
) -> Series:
    """``limit`` images of ``data``, at equal distances, attacked within each of ``epsilons`` and within 0."""
    radii = sorted({0.0, *epsilons})
    if not 0 <= radii[0] <= radii[-1] < float("inf"):
        raise SpecError(f"epsilons {radii} are invalid: expected finite numbers of at least 0.")
    network = network_of(model, device)
    whole = images_of(network, data, split)
    numbers = [place * len(whole) // min(limit, len(whole)) for place in range(min(limit, len(whole)))]
    images = whole.subset(numbers, whole.split)
    pixels = PixelTransform(info_of(network).preprocess).take(images, torch.arange(len(images)))
    changed, said = [], []
    for done, epsilon in enumerate(radii):
        attacked = perturb(network, pixels, images.labels, epsilon, method)
        changed.append((attacked * 255).round() / 255)
        said.append(_say(network, changed[-1]))
        if progress is not None:
            progress(done + 1, len(radii))
    rows = torch.stack(changed, dim=1)  # images, epsilons, C, H, W
    sheet = block([opaque(picture) for picture in rows.flatten(0, 1)], len(radii), gap=0)
    return Series(
        **provenance(network, images, len(images), None, command),
        method=method,
        classes=tuple(class_names_of(network)),
        epsilons=tuple(radii),
        attacked=tuple(
            Attacked(number, int(label), answers)
            for number, label, answers in zip(numbers, images.labels, zip(*said, strict=True), strict=True)
        ),
        tile=(rows.shape[-1], rows.shape[-2]),
        sheet=webp(sheet[:3]),
    )


def _say(network: nn.Module, pixels: Tensor) -> list[Said]:
    classes = class_names_of(network)
    with under_attack(network) as pixel_model, torch.no_grad():
        best = pixel_model(pixels.to(pixel_model.device)).softmax(dim=1).max(dim=1)
    return [
        Said(index, classes[index] if index < len(classes) else "", round(probability, 4))
        for probability, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]

"""Attacks on pictures, one or several at growing strengths, with what the network answers before and after."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from PIL import Image
from torch import Tensor, nn

from zoo.data import ImageSet
from zoo.data.image_file import block, opaque, webp
from zoo.errors import SpecError
from zoo.evaluation.prediction import class_names_of
from zoo.evaluation.score import Measured, provenance
from zoo.loading.create import info_of
from zoo.training.perturbation import PixelModel, PixelTransform, under_attack
from zoo_attack.gradient import perturb
from zoo_attack.method import Method
from zoo_attack.robustness import images_of, network_of


class Said(msgspec.Struct, frozen=True):
    """The class of a picture, by number and name ("" if unknown), and its probability."""

    index: int
    name: str
    probability: float

    def __str__(self) -> str:
        return f"{self.name or f'class {self.index}'}, {100 * self.probability:.1f}%"


@dataclass(frozen=True, eq=False)
class Picture:
    """``image`` and ``attacked``, float32 C H W in [0, 1], and the network's prediction for each.

    ``stored`` is the prediction for ``attacked`` rounded to 8 bits, as in an image file: small changes may be lost.
    """

    image: Tensor
    attacked: Tensor
    before: Said
    after: Said
    stored: Said
    epsilon: float
    method: Method

    @property
    def change(self) -> Tensor:
        """The change, scaled to [0, 1] around mid-grey by its largest value, float32 C H W."""
        change = self.attacked - self.image
        return 0.5 + change / (2 * change.abs().max().clamp_min(1e-12))


def attack_picture(
    model: nn.Module,
    image: Image.Image,
    method: Method,
    epsilon: float,
    *,
    target: int | None = None,
    classes: Sequence[str] = (),
) -> Picture:
    """Attacks ``image`` within ``epsilon`` (pixels in [0, 1], at the network's input size).

    Away from the network's prediction, or towards the class ``target``. ``classes`` are names by number.
    """
    pixels = PixelTransform(info_of(model).preprocess)(image)[None]
    with under_attack(model) as pixel_model:
        before = _predictions(pixel_model, pixels, classes)[0]
        label = torch.tensor([before.index if target is None else target])
        attacked = perturb(pixel_model, pixels, label, epsilon, method, is_targeted=target is not None)
        after = _predictions(pixel_model, attacked, classes)[0]
        stored = _predictions(pixel_model, (attacked * 255).round() / 255, classes)[0]
    return Picture(pixels[0], attacked[0], before, after, stored, epsilon, method)


def _predictions(model: PixelModel, images: Tensor, classes: Sequence[str]) -> list[Said]:
    """Returns the most probable class of each of ``images``, B C H W in [0, 1]."""
    with torch.no_grad():
        best = model(images.to(model.device)).softmax(dim=1).max(dim=1)
    return [
        Said(index, classes[index] if index < len(classes) else "", probability)
        for probability, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


class Attacked(msgspec.Struct, frozen=True):
    """Image ``image`` of the split, its class, and the prediction at each epsilon."""

    image: int
    label: int
    said: tuple[Said, ...]


class Series(Measured, frozen=True, kw_only=True, tag_field="kind", tag="attack_series"):
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
    """Attacks ``limit`` images of ``data``, at equal distances, within each of ``epsilons`` and within 0."""
    radii = sorted({0.0, *epsilons})
    if not 0 <= radii[0] <= radii[-1] < float("inf"):
        raise SpecError(f"epsilons {radii} are invalid: expected finite numbers of at least 0.")
    network = network_of(model, device)
    whole = images_of(network, data, split)
    numbers = [place * len(whole) // min(limit, len(whole)) for place in range(min(limit, len(whole)))]
    images = whole.subset(numbers, whole.split)
    pixels = PixelTransform(info_of(network).preprocess).take(images, torch.arange(len(images)))
    classes, changed, answered = class_names_of(network), [], []
    for done, epsilon in enumerate(radii):
        attacked = perturb(network, pixels, images.labels, epsilon, method)
        changed.append((attacked * 255).round() / 255)
        with under_attack(network) as pixel_model:
            answered.append(_predictions(pixel_model, changed[-1], classes))
        if progress is not None:
            progress(done + 1, len(radii))
    rows = torch.stack(changed, dim=1)  # images, epsilons, C, H, W
    sheet = block([opaque(picture) for picture in rows.flatten(0, 1)], len(radii), gap=0)
    return Series(
        **provenance(network, images, len(images), None, command),
        method=method,
        classes=tuple(classes),
        epsilons=tuple(radii),
        attacked=tuple(
            Attacked(number, int(label), answers)
            for number, label, answers in zip(numbers, images.labels, zip(*answered, strict=True), strict=True)
        ),
        tile=(rows.shape[-1], rows.shape[-2]),
        sheet=webp(sheet[:3]),
    )

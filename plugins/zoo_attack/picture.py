"""An attack on one picture, with the network's predictions before, after, and for the saved 8-bit file."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import torch
from PIL import Image
from torch import Tensor, nn

from zoo.creation import info_of
from zoo.training.perturbation import PixelModel, PixelTransform, under_attack
from zoo_attack.gradient import perturb
from zoo_attack.method import Method
from zoo_attack.robustness import answers


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
    """``image`` attacked within ``epsilon`` (pixels in [0, 1], at the network's input size).

    Away from the network's prediction, or towards the class ``target``. ``classes`` are names by number.
    """
    pixels = PixelTransform(info_of(model).preprocess)(image)[None]
    with under_attack(model) as pixel_model:
        before = _say(pixel_model, pixels, classes)
        label = torch.tensor([before.index if target is None else target])
        attacked = perturb(pixel_model, pixels, label, epsilon, method, is_targeted=target is not None)
        after = _say(pixel_model, attacked, classes)
        stored = _say(pixel_model, (attacked * 255).round() / 255, classes)
    return Picture(pixels[0], attacked[0], before, after, stored, epsilon, method)


def _say(model: PixelModel, images: Tensor, classes: Sequence[str]) -> Said:
    images = images.to(model.device)
    index = int(answers(model, images))
    with torch.no_grad():
        probability = float(model(images).softmax(dim=1)[0, index])
    return Said(index, classes[index] if index < len(classes) else "", probability)

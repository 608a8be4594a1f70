"""Adversarial attacks: on images, by patches, and robust accuracy.

::

    import zoo

    model = zoo.create("resnet20.c10")
    fooled = zoo.attack.pgd(model, images, labels, epsilon=8 / 255)  # images float32 B C H W in [0, 1]
    zoo.attack.curve(model, "cifar10", "pgd", [0, 1 / 255, 2 / 255], limit=500).points

Attacks change images as pixels in [0, 1] at the network's input size; mean and std are part of the model that is
attacked. Names are bound on first use, so that torch-free code can read ``zoo.attack.method``.
"""

from typing import TYPE_CHECKING

from zoo.system import lazy

if TYPE_CHECKING:
    from zoo.attack.gradient import fgsm as fgsm
    from zoo.attack.gradient import pgd as pgd
    from zoo.attack.gradient import random_sign as random_sign
    from zoo.attack.method import Method as Method
    from zoo.attack.patch import Patch as Patch
    from zoo.attack.patch import Ranges as Ranges
    from zoo.attack.patch import apply as apply
    from zoo.attack.patch import read_patch as read_patch
    from zoo.attack.patch_training import success as success
    from zoo.attack.patch_training import train_patch as train_patch
    from zoo.attack.pixel_model import PixelModel as PixelModel
    from zoo.attack.pixel_model import PixelTransform as PixelTransform
    from zoo.attack.pixel_model import applicable as applicable
    from zoo.attack.pixel_model import under_attack as under_attack
    from zoo.attack.robustness import curve as curve

_HOMES = {
    "Method": "method",
    "Patch": "patch",
    "Ranges": "patch",
    "PixelModel": "pixel_model",
    "PixelTransform": "pixel_model",
    "applicable": "pixel_model",
    "apply": "patch",
    "curve": "robustness",
    "fgsm": "gradient",
    "pgd": "gradient",
    "random_sign": "gradient",
    "read_patch": "patch",
    "success": "patch_training",
    "train_patch": "patch_training",
    "under_attack": "pixel_model",
}

__all__ = list(_HOMES)

__getattr__ = lazy.binder(__name__, {name: f"zoo.attack.{home}" for name, home in _HOMES.items()})

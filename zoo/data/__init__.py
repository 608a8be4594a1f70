"""Data sets by name or path, and what happens to an image before a network sees it.

Names are bound on first use, so that torch-free code can read ``zoo.data.augmentation`` (what a
recipe may say) and ``zoo.data.classes`` (the names of classes) at no cost.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.data.augment import Augment as Augment
    from zoo.data.augmentation import Affine as Affine
    from zoo.data.augmentation import Augmentation as Augmentation
    from zoo.data.classes import class_names as class_names
    from zoo.data.fingerprint import Fingerprint as Fingerprint
    from zoo.data.images import ImageSet as ImageSet
    from zoo.data.preprocess import Transform as Transform
    from zoo.data.sources import load as load
    from zoo.data.statistics import mean_and_std as mean_and_std
    from zoo.data.stratify import hold_out as hold_out
    from zoo.data.whitening import ZCA as ZCA

_HOMES = {
    "Affine": "augmentation",
    "Augment": "augment",
    "Augmentation": "augmentation",
    "Fingerprint": "fingerprint",
    "ImageSet": "images",
    "Transform": "preprocess",
    "ZCA": "whitening",
    "class_names": "classes",
    "hold_out": "stratify",
    "load": "sources",
    "mean_and_std": "statistics",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value

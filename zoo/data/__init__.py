"""Data sets by name or path, and preprocessing.

Names are bound on first use, so that torch-free code can read ``zoo.data.augmentation`` (what a
recipe may say) and ``zoo.data.classes`` (the names of classes) at no cost.
"""

from typing import TYPE_CHECKING

from zoo.system import lazy

if TYPE_CHECKING:
    from zoo.data.augment import Augment as Augment
    from zoo.data.augmentation import Affine as Affine
    from zoo.data.augmentation import Augmentation as Augmentation
    from zoo.data.augmentation import ResizedCrop as ResizedCrop
    from zoo.data.classes import class_names as class_names
    from zoo.data.fingerprint import Fingerprint as Fingerprint
    from zoo.data.image_set import ImageSet as ImageSet
    from zoo.data.image_stream import ImageStream as ImageStream
    from zoo.data.preprocess import Transform as Transform
    from zoo.data.readers.huggingface import from_huggingface as from_huggingface
    from zoo.data.readers.webdataset import from_shards as from_shards
    from zoo.data.readers.webdataset_writer import index_shards as index_shards
    from zoo.data.readers.webdataset_writer import write_shards as write_shards
    from zoo.data.sources import address as address
    from zoo.data.sources import load as load
    from zoo.data.sources import open_stream as open_stream
    from zoo.data.sources import splits as splits
    from zoo.data.statistics import mean_and_std as mean_and_std
    from zoo.data.stratify import hold_out as hold_out
    from zoo.data.whitening import ZCA as ZCA

_HOMES = {
    "Affine": "augmentation",
    "Augment": "augment",
    "Augmentation": "augmentation",
    "Fingerprint": "fingerprint",
    "ImageSet": "image_set",
    "ImageStream": "image_stream",
    "ResizedCrop": "augmentation",
    "Transform": "preprocess",
    "ZCA": "whitening",
    "address": "sources",
    "class_names": "classes",
    "from_huggingface": "readers.huggingface",
    "from_shards": "readers.webdataset",
    "hold_out": "stratify",
    "index_shards": "readers.webdataset_writer",
    "load": "sources",
    "mean_and_std": "statistics",
    "open_stream": "sources",
    "splits": "sources",
    "write_shards": "readers.webdataset_writer",
}

__all__ = list(_HOMES)

__getattr__ = lazy.binder(__name__, {name: f"zoo.data.{home}" for name, home in _HOMES.items()})

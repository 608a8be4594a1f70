"""What a plugin brings apart from models: each has a name and a hook."""

from zoo.names import is_part
from zoo.spec.checked import Spec


class DatasetSpec(Spec, frozen=True):
    """A data set that a family brings.

    Args:
        name: The name, for ``--data``.
        load: The hook ``load(root, split)``, which returns a ``zoo.data.ImageSet``.
        splits: Names of its splits.
        source: Where it is published.
        license: Its licence, for the manifests of weights that are trained on it.
        images: How many images its training split has; 0 if not stated.
    """

    name: str
    load: str
    splits: tuple[str, ...] = ("train", "test")
    source: str = ""
    license: str = ""
    images: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(is_part(self.name), "a name has lower case letters, digits and _")
        self.require(self.images >= 0, "images must not be negative")
        self.require_hooks("load")

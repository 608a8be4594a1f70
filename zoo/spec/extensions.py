"""What a plugin brings apart from models: each has a name and a hook."""

from zoo.names import is_part
from zoo.spec.checked import Spec


class DatasetSpec(Spec, frozen=True):
    """A data set that a family brings: ``load(root, split)`` returns a ``zoo.data.ImageSet``.

    ``images`` is how many its training split holds, 0 if not stated.
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
        self.require_hooks(self.load)

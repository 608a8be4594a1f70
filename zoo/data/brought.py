"""Data sets and readers that plugins bring."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo import registry
from zoo.data.image_set import ImageSet
from zoo.errors import DataError, PluginError
from zoo.registry import extensions, roles
from zoo.registry.extensions import Offered
from zoo.registry.hooks import blaming
from zoo.spec import Reader


def find_set(name: str) -> Offered | None:
    """The data set ``name``."""
    return extensions.find("datasets", name)


def load_set(found: Offered, split: str, place: Path) -> ImageSet:
    """A split of the data set ``found``, whose files are in ``place``."""
    spec = found.spec
    _require_split(spec.name, split, spec.splits)
    read = registry.hook(spec.load, found.plugin.requires, role=roles.LOAD, of=spec.name)
    return _images(spec.load, f"{spec.name}/{split}", lambda: read(place, split))


def by_prefix(address: str) -> Reader | None:
    """The reader of addresses that begin as ``address`` does, which is then not a path."""
    return next((row for row in _readers() if row.prefix and address.startswith(row.prefix)), None)


def by_suffix(path: Path) -> Reader | None:
    """The reader of files, or folders, whose names end as that of ``path`` does."""
    return next((row for row in _readers() if path.name.endswith(row.suffixes)), None)


def read(row: Reader, address: str | Path, split: str) -> ImageSet:
    """A split of ``address``, by the reader ``row``."""
    _require_split(str(address), split, row.splits)
    hook = registry.hook(row.run, row.requires, role=roles.READ, of=row.name)
    return _images(row.run, str(address), lambda: hook(str(address), split))


def _readers() -> list[Reader]:
    return [one.spec for one in extensions.offered("readers")]


def _require_split(name: str, split: str, known: tuple[str, ...]) -> None:
    if split not in known:
        raise DataError(f"{name} has no split {split!r}.", hint=f"Its splits are {', '.join(known)}.")


def _images(target: str, what: str, call: Callable[[], Any]) -> ImageSet:
    """The images that a plugin's hook returns; raises :class:`PluginError` for anything else."""
    with blaming(target, what):
        images = call()
    if not isinstance(images, ImageSet):
        raise PluginError(f"{target} returned {type(images).__name__}, expected zoo.data.ImageSet.")
    return images

"""The installed distributions that have plugins, read one at a time: a damaged one does not affect the others."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from zoo.registry.search_path import SearchPath
from zoo.registry.seen import Stamp, settle, stamp_of

if TYPE_CHECKING:  # it imports a parser of e-mails: too slow for every command
    import importlib.metadata

GROUP = "zoo.plugins"
DISTRIBUTION = "zoo-vision"


class Distribution(msgspec.Struct, frozen=True, array_like=True):
    """A distribution and its entry points of the group ``zoo.plugins``: names and targets, ``"module:attribute"``.

    ``folder`` holds its metadata. ``damage`` says why its entry points cannot be read.
    """

    folder: str
    entry_points: Stamp | None
    metadata: Stamp | None = None
    name: str = ""
    version: str = ""
    points: tuple[tuple[str, str], ...] = ()
    damage: str = ""

    @property
    def key(self) -> str:
        """The name as pip compares names. Other distributions cannot take it, whatever their metadata states."""
        return re.sub(r"[-_.]+", "-", _in_name(self.folder)[0] or self.name).lower()

    @property
    def is_builtin(self) -> bool:
        return self.key == DISTRIBUTION


def distributions(path: SearchPath, known: Mapping[str, Distribution]) -> list[Distribution]:
    """All distributions with entry points, those that are unchanged as they are ``known`` by their folders."""
    found = [at for folder in path.infos if (at := _look(folder, known.get(folder)))]
    return found + [distribution for archive in path.archives for distribution in _in_archive(archive)]


def with_plugins(found: list[Distribution]) -> list[Distribution]:
    """Those that have plugins or may have; of several with one name, the first on the path."""
    first: dict[str, Distribution] = {}
    for distribution in found:
        if distribution.points or distribution.damage:
            first.setdefault(distribution.key, distribution)
    return [*first.values()]


def _look(folder: str, known: Distribution | None) -> Distribution | None:
    entry_points = stamp_of(f"{folder}/entry_points.txt")
    if entry_points is None:
        return None
    if known is not None and known.entry_points == entry_points:
        has_plugins = known.points or known.damage
        if not has_plugins or known.metadata == stamp_of(_metadata_of(folder)):
            return known
    import importlib.metadata
    from pathlib import Path

    settle(f"{folder}/entry_points.txt")
    settle(_metadata_of(folder))
    entry_points = stamp_of(f"{folder}/entry_points.txt")
    about = importlib.metadata.Distribution.at(Path(folder))
    return _read(about, folder, entry_points, stamp_of(_metadata_of(folder)))


def _metadata_of(folder: str) -> str:
    return f"{folder}/{'METADATA' if folder.endswith('.dist-info') else 'PKG-INFO'}"


def _in_archive(archive: str) -> Iterator[Distribution]:
    stamp = stamp_of(archive)
    if stamp is not None:
        import importlib.metadata

        for about in importlib.metadata.distributions(path=[archive]):
            yield _read(about, str(getattr(about, "_path", archive)).rstrip("/"), stamp, stamp)


def _read(
    about: "importlib.metadata.Distribution", folder: str, entry_points: Stamp | None, metadata: Stamp | None
) -> Distribution:
    try:
        # Most have none: looking for the group's name is cheaper than parsing all that they have.
        if GROUP not in (about.read_text("entry_points.txt") or ""):
            return Distribution(folder, entry_points)
        points = tuple((point.name, point.value) for point in about.entry_points if point.group == GROUP)
        damage = ""
    except Exception as error:  # not UTF-8, or no entry points: the standard library raises what it runs into
        text = getattr(error, "object", GROUP.encode())
        if GROUP.encode() not in text:  # it has no plugins
            return Distribution(folder, entry_points)
        points, damage = (), f"its entry_points.txt cannot be read: {error}"
    stem, version = _in_name(folder)
    return Distribution(
        folder,
        entry_points,
        metadata,
        _stated(about, "Name") or stem,
        _stated(about, "Version") or version,
        points,
        damage,
    )


def _in_name(folder: str) -> tuple[str, str]:
    """The name and the version in the name of a folder, ``zoo_pet-1.0.dist-info``."""
    name, _, version = folder.rpartition("/")[2].rpartition(".")[0].partition("-")
    return name, version


def _stated(about: "importlib.metadata.Distribution", field: str) -> str:
    try:
        return str(about.metadata[field] or "")
    except Exception:  # missing or not UTF-8: the standard library raises what it runs into
        return ""

"""Packs: folders that serve weights to a machine without a network."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from zoo import manifest
from zoo.errors import IntegrityError, ManifestError, UnpinnedError
from zoo.hub import cache
from zoo.manifest import Weights
from zoo.names import is_repository
from zoo.system import storage

HEAD = "# Written by zoo manifest pack: the weights in this folder. Use them without a network by ZOO_HUB=FOLDER."


class Damage(NamedTuple):
    """A damaged file of a pack, with the reason."""

    name: str
    path: str
    reason: str


def manifest_in(folder: Path) -> Path:
    return folder / "manifest.toml"


def pack(chosen: Iterable[tuple[Weights, Path]], folder: Path) -> Path:
    """Copies each weights file into ``folder`` in the layout of a hub, and adds it to its manifest.

    Files of a repository are only copied. Existing entries of the manifest stay. Returns the manifest's file, which is
    written last. Raises :class:`UnpinnedError`, IntegrityError if the copy is not what the manifest names, StorageError
    if the folder cannot be written.
    """
    file = manifest_in(folder)
    entries = {entry.name: entry for entry in manifest.read(file)} if file.exists() else {}
    for entry, source in chosen:
        if not entry.sha256:
            raise UnpinnedError(
                f"{entry.name} is not pinned, so a pack could not be verified.", hint=f"zoo manifest pin {entry.name}"
            )
        rival = next((one for one in entries.values() if one.path == entry.path and one.sha256 != entry.sha256), None)
        if rival and rival.name != entry.name:
            raise ManifestError(f"{rival.name} and {entry.name} are different files with the same path {entry.path}.")
        storage.refuse_links(folder, folder / entry.path)
        _copy(source, folder / entry.path, entry)
        if not is_repository(entry.tag):  # whose name a lock defines
            entries[entry.name] = entry
    text = "\n".join([HEAD, "", *map(manifest.render, entries.values())])
    storage.replace(file, text.encode())
    return file


def damage(folder: Path) -> list[Damage]:
    """The files in the manifest of ``folder`` that are missing or differ; reads all files."""
    found = []
    for entry in manifest.read(manifest_in(folder)):
        reason = ""
        try:
            with storage.open_regular(folder / entry.path) as opened:
                sha256, size = cache.hash_of(opened).hexdigest(), opened.tell()
            if entry.sha256 and sha256 != entry.sha256:
                reason = f"has sha256 {sha256}, expected {entry.sha256}"
            elif entry.size and size != entry.size:
                reason = f"has {size:,} bytes, expected {entry.size:,}"
        except OSError as error:
            reason = f"cannot be read: {error.strerror or error}"
        if reason:
            found.append(Damage(entry.name, entry.path, reason))
    return found


def _copy(source: Path, target: Path, entry: Weights) -> None:
    """Copies in chunks and hashes what is written; a target with the same bytes is kept."""
    with storage.explained(target, source.stat().st_size):
        if target.is_file():
            with target.open("rb") as opened:
                if cache.hash_of(opened).hexdigest() == entry.sha256:
                    return
        hasher = hashlib.sha256()
        with source.open("rb") as old, storage.beside(target) as new:
            while chunk := old.read(cache.CHUNK):
                hasher.update(chunk)
                new.write(chunk)
            if hasher.hexdigest() != entry.sha256:
                raise IntegrityError(f"{source} has sha256 {hasher.hexdigest()}, expected {entry.sha256}")

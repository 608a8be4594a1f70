"""Stores an attestation beside the weights on a hub, after those that are there."""

from pathlib import Path

import msgspec

from zoo import hub
from zoo.errors import HubError
from zoo.hub import companion
from zoo.manifest import Weights
from zoo.system import storage
from zoo.trust.attestation import LARGEST, SUFFIX
from zoo_publish import destination
from zoo_publish.destination import Destination, Directory, Embedded, Filesystem
from zoo_publish.huggingface import HuggingFace


def add(line: bytes, weights: Weights, to: str) -> str:
    """Adds ``line`` to the attestations of ``weights`` on the hub ``to``; returns their path.

    Raises :class:`HubError` if the hub cannot be written to, or has too many already, SpecError if ``to`` is not a hub
    that can be written to.
    """
    where = "hf" if to.startswith(destination.SCHEME) else to
    name = f"{hub.name_of(where)}/{weights.path}{SUFFIX}"
    if not hub.source_at(where).is_local:
        hub.require_network(f"Cannot store an attestation on {to}")
    place = destination.parse(f"{to}/attestations" if _is_package(to) else to, weights.name)
    head = _head(place, weights)
    held = companion.read_from(where, weights, SUFFIX, LARGEST, revision=head, must_answer=True)
    if len(held) + len(line) > LARGEST:
        raise HubError(f"{name} would have more than {LARGEST:,} bytes, so nothing was stored.")
    if line not in held.splitlines(keepends=True):
        _write(place, weights, held + line, head)
    return name


def _head(place: Destination, weights: Weights) -> str:
    """The commit whose attestations are read and replaced: nobody's are lost who commits in between."""
    if not isinstance(place, HuggingFace):
        return ""
    if place.repo != weights.repo:
        raise HubError(f"{weights.name} is in the repository {weights.repo}, not in {place.repo}.")
    return place.head()


def _write(place: Destination, weights: Weights, content: bytes, head: str) -> None:
    file = f"{weights.file}{SUFFIX}"
    match place:
        case Directory():
            _replace(Path(place.hub, weights.repo, file), content)
        case Embedded():
            _replace(place.folder.parent / weights.repo / file, content)
        case Filesystem():
            msgspec.structs.replace(place, repo=weights.repo).write({file: content})
        case HuggingFace():
            place.write({file: content}, f"{weights.name}: an attestation", head)


def _is_package(to: str) -> bool:
    return to.startswith("embedded:") and "/" not in to


def _replace(file: Path, content: bytes) -> None:
    if not file.parent.is_dir():
        raise HubError(f"{file.parent} is not a folder, so the weights are not on this hub.")
    storage.replace(file, content)

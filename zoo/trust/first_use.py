"""Pins weights on first use: those whose sha256 no lock and no manifest states.

The hub is asked for commit, size and sha256 before a byte is read. What arrives must agree with that, and is
then written into the user's lock; from then on, other bytes are an error.
"""

import logging
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from zoo import hub
from zoo.errors import HubError, IntegrityError, UnpinnedError
from zoo.hub import Received
from zoo.manifest import Weights
from zoo.registry import Found
from zoo.trust import lock, pinning, policy, user_lock

if TYPE_CHECKING:
    from zoo.hub.download import Progress


class Fetched(NamedTuple):
    """Weights with a sha256, and their file in the cache."""

    weights: Weights
    path: Path


def fetch(found: Found, weights: Weights, *, source: str | None = None, progress: "Progress | None" = None) -> Fetched:
    """The file of ``weights``, as :func:`zoo.resolve.weights_for` returned them; without a sha256 they are pinned.

    A strong digest in the manifest determines the bytes, so such an entry may always be fetched. Raises as
    :func:`zoo.hub.fetch`, UnpinnedError if the project or ``ZOO_STRICT`` refuses first use, LockError if another
    process pinned other bytes meanwhile, StorageError if the user's lock cannot be written.
    """
    if weights.sha256:
        try:
            return Fetched(weights, hub.fetch(weights, source=source, progress=progress))
        except IntegrityError as error:
            name = lock.full_name(found, weights.tag)
            held = user_lock.pins().get(name)
            if held is None:
                raise
            hint = f"{name} was {user_lock.since(held)}; {user_lock.forgetting(name)} accepts other bytes. {error.hint}"
            raise IntegrityError(error.message, hint=hint) from None
    name = lock.full_name(found, weights.tag)
    if not weights.determines_bytes and (reason := policy.refuses_first_use()):
        raise UnpinnedError(
            f"{name} is not pinned: its manifest has no sha256 for {weights.path}, and {reason}.",
            hint=f"zoo manifest pin {name} records its sha256 in the manifest; zoo fetch {name}, where first use is "
            f"allowed, and zoo lock {name} record it in the project's zoo.lock.",
        )
    user_lock.pins()  # a damaged lock is an error before a long download
    got = _receive(weights, source, progress)
    repository = lock.repository_of(found, weights)
    if repository:  # whoever served the weights, they are those of the description's commit
        got = got._replace(revision=weights.revision)
    held = pin(name, got, found.row.distribution, found.row.version, weights.digest, repository)
    return Fetched(lock.pinned(weights, held), got.path)


def pin(
    name: str,
    got: Received,
    distribution: str = "",
    version: str = "",
    digest: str = "",
    repository: lock.Repository | None = None,
) -> lock.Locked:
    """Writes what was received into the user's lock; raises LockError if that has other bytes for ``name``."""
    held = lock.Locked(
        distribution=distribution,
        version=version,
        sha256=got.sha256,
        digest=digest,
        size=got.size,
        revision=got.revision if re.fullmatch("[0-9a-f]{40}", got.revision) else "",
        source="".join(letter if letter.isprintable() else "?" for letter in got.source),
        date=datetime.now(UTC).date(),
        repository=repository,
    )
    if user_lock.add(name, held):
        commit = f", commit {held.revision[:7]}" if held.revision else ""
        text = "%s: pinned on first use, sha256 %s...%s"
        logging.getLogger("zoo").warning(text, name, held.sha256[:8], commit)
    return held


def _receive(weights: Weights, source: str | None, progress: "Progress | None") -> Received:
    """The file, with the sha256 that the hub states, or else that of what the first source serves."""
    stated = weights
    if source is None:
        try:
            stated = pinning.resolve(weights)
        except IntegrityError:
            raise
        except HubError as error:  # offline, or a hub that states nothing; a source may have the file all the same
            logging.getLogger("zoo").info("%s: %s", weights.name, error.message)
    if not stated.sha256:
        return hub.fetch_unpinned(stated, source=source, progress=progress)
    file = hub.fetch(stated, progress=progress)
    return Received(file, stated.sha256, file.stat().st_size, hub.name_of(stated.hub), stated.revision)

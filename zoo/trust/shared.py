"""Pins that many users share: the first use of each is compared with those of the others.

``ZOO_SHARED_PINS`` names a folder. Each first use adds one small file there, ``<name>.<user>.toml``, if it may write;
in a folder that cannot be written it is compared only. Files are created exclusively and never changed, so that nothing
needs locks. Who pinned is the owner of a file, which nobody can forge who is not the administrator of the folder.
"""

import getpass
import logging
import os
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from zoo.errors import LockError, StorageError
from zoo.system import storage, toml
from zoo.trust import lock
from zoo.trust.lock import Lock, Locked

VARIABLE = "ZOO_SHARED_PINS"

_HEAD = "# Pinned on first use by the owner of this file."
_MOST = 10_000
"""The number of files of one name that are read."""


class _Vote(NamedTuple):
    """The pin of one user; ``is_own`` if it is in the file of this one."""

    owner: object
    is_own: bool
    locked: Locked


def place() -> Path | None:
    """Returns the folder of shared pins; None without one. Raises :class:`LockError` if there is no such folder."""
    text = os.environ.get(VARIABLE, "")
    if not text:
        return None
    folder = Path(os.path.expanduser(text))
    if not folder.is_dir():
        raise LockError(f"{VARIABLE} is {text!r}, which is not a folder.", hint=f"Make it, or unset {VARIABLE}.")
    return folder


def compare(key: str, name: str, locked: Locked) -> int:
    """Returns how many other users pinned the bytes of ``locked``; 0 without shared pins.

    Raises :class:`LockError` with the number of each if anybody pinned other bytes.
    """
    folder = place()
    if folder is None:
        return 0
    votes = _votes(folder, key, name)
    if any(_meaning(vote.locked) != _meaning(locked) for vote in votes):
        owners: dict[str, set[object]] = {}
        for vote in votes:
            owners.setdefault(vote.locked.sha256, set()).add(vote.owner)
        count = Counter({sha256: len(users) for sha256, users in owners.items()})
        lines = [f"sha256 {sha256}: pinned by {users}" for sha256, users in count.most_common(10)]
        here = f"{name} has sha256 {locked.sha256} at {locked.source}, which not all users of {folder} pinned:"
        raise LockError(
            "\n  ".join([here, *lines]),
            hint=f"Find out which bytes are right. zoo lock --user --forget {name} withdraws the pin of its user; "
            f"without {VARIABLE} nothing is compared.",
        )
    return len({vote.owner for vote in votes if not vote.is_own})


def publish(key: str, name: str, locked: Locked) -> int:
    """Adds this user's pin where that is possible; returns and raises as :func:`compare`, whose look it repeats.

    Of two users who pin other bytes at once, at least one is refused.
    """
    folder = place()
    if folder is None:
        return 0
    file = _own(folder, key)
    try:
        is_new = storage.create(file, lock.render(Lock(version=1, weights={name: locked}), _HEAD).encode())
        if is_new:
            file.chmod(0o644)  # whatever the umask: others are to read it
    except (StorageError, OSError) as error:
        is_new = False
        logging.getLogger("zoo").info("%s: compared only: %s", name, error)
    try:
        return compare(key, name, locked)
    except LockError:
        if is_new:
            withdraw(key)
        raise


def withdraw(key: str) -> None:
    """Removes this user's file of a name, if there is one."""
    with suppress(OSError, LockError):
        if (folder := place()) is not None:
            _own(folder, key).unlink()


def _own(folder: Path, key: str) -> Path:
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user has no name
        user = str(os.geteuid()) if os.name == "posix" else "user"
    return folder / f"{key}.{re.sub('[^A-Za-z0-9_-]', '-', user)}.toml"


def _votes(folder: Path, key: str, name: str) -> list[_Vote]:
    """Returns what the files of a name hold; one that is damaged, or of another name, is told and not counted."""
    votes, own = [], _own(folder, key)
    for file in sorted(folder.glob(f"{key}.*.toml"))[:_MOST]:
        try:
            with storage.open_regular(file, follow=False) as opened:
                owner = os.fstat(opened.fileno()).st_uid if os.name == "posix" else file.name
                content = opened.read(toml.LARGEST)
            locked = toml.parse(content, Lock, LockError, str(file)).weights[name]
        except FileNotFoundError:
            continue
        except (OSError, KeyError, LockError) as error:
            logging.getLogger("zoo").warning("%s is not counted: %s", file, getattr(error, "message", error))
            continue
        votes.append(_Vote(owner, file == own, locked))
    return votes


def _meaning(locked: Locked) -> tuple[object, ...]:
    return locked.sha256, locked.repository

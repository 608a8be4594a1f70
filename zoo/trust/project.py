"""Finds and reads a project's ``zoo.lock`` and ``zoo-policy.toml``, with limits."""

import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import TypeVar, cast

import msgspec

from zoo.errors import ZooError
from zoo.system import toml

T = TypeVar("T")

LARGEST = 1 << 20
"""Bytes: room for thousands of names."""


def find(name: str, variable: str) -> Path | None:
    """The project's file ``name``, or None.

    If the environment's ``variable`` is set, it is that file, even if it does not exist. Otherwise it is looked for in
    the working directory and, within a repository, in its parent folders up to the one with ``.git``.
    """
    if chosen := os.environ.get(variable):
        return Path(chosen).expanduser()
    try:
        here = Path.cwd()
    except FileNotFoundError:  # it was removed
        return None
    folders = [here, *here.parents]
    roots = [number for number, folder in enumerate(folders) if os.path.lexists(folder / ".git")]
    inside = folders[: roots[0] + 1] if roots else [here]
    return next((folder / name for folder in inside if os.path.lexists(folder / name)), None)


def read(file: Path, kind: type[T], error: type[ZooError], hint: str) -> T:
    """The value of type ``kind`` in the TOML ``file``; raises ``error`` if it is invalid."""
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
            raise error(f"{file} is not a regular file.", hint=hint)
        if status.st_size > LARGEST:
            raise error(f"{file} has {status.st_size:,} bytes, expected at most {LARGEST:,}.", hint=hint)
        with file.open("rb") as opened:
            content = opened.read(LARGEST + 1)
    except (OSError, ValueError) as problem:
        raise error(f"{file} cannot be read: {getattr(problem, 'strerror', None) or problem}", hint=hint) from None
    return parse(content, kind, error, str(file), hint)


@lru_cache(maxsize=8)
def _parsed(content: bytes, kind: type) -> object:
    """Each name that is resolved reads its locks again: their bytes decide whether anything has changed."""
    return msgspec.convert(toml.loads(content.decode()), kind)


def parse(content: bytes, kind: type[T], error: type[ZooError], file: str, hint: str = "") -> T:
    """Like :func:`read`, for the contents of a file; ``file`` is the name in errors."""
    try:
        return cast(T, _parsed(content, kind))
    except msgspec.ValidationError as problem:
        raise error(f"{file}: {_short(problem).replace('`', '')}", hint=hint) from None
    except ValueError as problem:
        raise error(f"{file}: not TOML: {_short(problem)}", hint=hint) from None


def _short(problem: Exception) -> str:
    """Shortens text from the file, since keys in a hostile file may be very long."""
    return str(problem)[:300]

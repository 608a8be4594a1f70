"""Hostile files, one of each kind, for a file name's ending: a reader of a path must refuse or survive all of them."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

DEEP = 100_000
"""The depth of nested arrays: more than any parser's stack."""

SPARSE = 20 << 30
"""Bytes that a sparse file states."""


def _pipe(place: Path) -> None:
    os.mkfifo(place)


def _device(place: Path) -> None:
    place.symlink_to("/dev/zero")


def _sparse(place: Path) -> None:
    with place.open("wb") as stream:
        stream.truncate(SPARSE)


def _deep(place: Path) -> None:
    start = "x = " if place.suffix == ".toml" else ""
    place.write_text(start + "[" * DEEP + "]" * DEEP)


def _huge(place: Path) -> None:
    """Writes one number or name that takes for ever to read, and no line's end."""
    start = "x = " if place.suffix == ".toml" else ""
    place.write_text(start + "9" * 2_000_000)


def _escape(place: Path) -> None:
    place.write_bytes(b"\x1b[2J\x1b]0;title\x07\xe2\x80\xae../../../etc/passwd\n" * 20)


def _link(place: Path) -> None:
    place.symlink_to(place.name)  # to itself


def _folder(place: Path) -> None:
    place.mkdir()


def _wrong(place: Path) -> None:
    """Writes values of types that nothing expects: a number where a table is, not a number where a number is."""
    place.write_text("train = 1\nversion = nan\n" if place.suffix == ".toml" else '[1, null, {"a": NaN}]')


def _empty(place: Path) -> None:
    place.touch()


KINDS: dict[str, Callable[[Path], None]] = {
    "pipe": _pipe, "device": _device, "sparse": _sparse, "deep": _deep, "huge": _huge, "escape": _escape,
    "link": _link, "folder": _folder, "wrong": _wrong, "empty": _empty,
}  # fmt: skip


def make(kind: str, folder: Path, ending: str) -> Path:
    """Returns a new hostile file in ``folder``."""
    return place(kind, folder / f"hostile{ending}")


def place(kind: str, file: Path) -> Path:
    """Returns the ``file``, made hostile."""
    file.parent.mkdir(parents=True, exist_ok=True)
    KINDS[kind](file)
    return file


def state_of(place: Path) -> tuple[int, ...]:
    """Returns what must be the same after a reader: kind, size and times of writing."""
    status = os.lstat(place)
    return stat.S_IFMT(status.st_mode), status.st_size, status.st_mtime_ns, status.st_ino

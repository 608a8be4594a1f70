"""Maintenance of the cache: listing, verifying and removing files.

Nothing that a running process fetches or has loaded is removed, nor any file that Zoo did not put there.
"""

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from zoo.errors import IntegrityError
from zoo.hub import cache, converted, guard, in_use, parts
from zoo.manifest import Weights
from zoo.system import storage

_FILE = re.compile(r"(?P<whole>[0-9a-f]{64}(-[0-9a-f]{16})?(\.\w+)?)")
_BESIDE = re.compile(rf"{_FILE.pattern}\.(stamp|used|record)")
_FOLDERS = ("files", converted.FOLDER)


class Held(NamedTuple):
    """A complete file of the cache; ``names`` are its entries.

    ``source`` is the sha256 of the file of which it is a conversion, empty for others.
    """

    file: Path
    sha256: str
    size: int
    last_used: float
    names: tuple[str, ...]
    is_in_use: bool
    source: str = ""


class Damage(NamedTuple):
    """Damage of a file: it has sha256 ``got`` and was moved to ``aside``, or it cannot be read or moved."""

    reason: str
    got: str = ""
    aside: Path | None = None


class Removal(NamedTuple):
    """A file that is removed, or kept because of ``kept``; ``freed`` counts bytes without another hard link."""

    path: Path
    names: tuple[str, ...]
    reason: str
    freed: int
    kept: str = ""


def contents(entries: Iterable[Weights]) -> list[Held]:
    """All complete files of the cache, last used first, with the names of those in ``entries``."""
    names = _names(entries)
    found = []
    for file in [file for folder in _FOLDERS for file in _listed(folder)]:
        if _whole_of(file) != file or _uselessness(file):
            continue
        sha256, source = file.name[:64], ""
        known = tuple(names.get(sha256, ()))
        if record := converted.read_record(file):
            sha256, source = record.sha256, sha256
        with suppress(FileNotFoundError):  # removed meanwhile
            size, last_used = file.stat().st_size, in_use.last_used(file)
            found.append(Held(file, sha256, size, last_used, known, in_use.is_held(file), source))
    return sorted(found, key=lambda held: -held.last_used)


def verify(held: Held) -> Damage | None:
    """Hashes the file again; moves it to quarantine if the hash differs from its name, or its record.

    A process that has loaded it is not affected, because a moved file stays mapped.
    """
    try:
        if cache.sha256_of(held.file, deep=True) == held.sha256:
            return None
        with guard.lock(_key_of(held.file)):
            got = cache.sha256_of(held.file, deep=True)  # another process may have fetched it again
            if got == held.sha256:
                return None
            aside = cache.quarantine(held.file, held.sha256, got)
            return Damage(f"has sha256 {got}; moved to {aside}", got, aside) if aside else None
    except IntegrityError as error:  # another user's
        return Damage(error.message, got)
    except FileNotFoundError:  # removed meanwhile
        return None
    except OSError as error:
        return Damage(f"cannot be read or moved: {error.strerror or error}")


def prune(
    held: Sequence[Held],
    *,
    older_than: float | None = None,
    keep_under: int | None = None,
    unreferenced: bool = False,
    dry_run: bool = False,
) -> list[Removal]:
    """Removes leftovers, and the files of ``held`` to which any of the conditions applies.

    ``older_than`` is in seconds since a file was last used; ``keep_under`` is the total size in bytes to reduce the
    cache to, least recently used first; ``unreferenced`` files have no name. With ``dry_run`` nothing is removed, and
    the result is the same.
    """
    done = [_remove(path, (), reason, dry_run) for path, reason in _left_over()]
    total, now = sum(one.size for one in held), time.time()
    for one in sorted(held, key=lambda one: one.last_used):
        if older_than is not None and now - one.last_used > older_than:
            reason = f"not used since {time.strftime('%Y-%m-%d %H:%M', time.localtime(one.last_used))}"
        elif unreferenced and not one.names:
            reason = "not in any manifest"
        elif keep_under is not None and total > keep_under:
            reason = "least recently used"
        else:
            continue
        removal = _remove(one.file, one.names, reason, dry_run)
        if not removal.kept:
            total -= one.size
        done.append(removal)
    return done


def _names(entries: Iterable[Weights]) -> dict[str, list[str]]:
    """The names of ``entries`` by sha256."""
    names: dict[str, list[str]] = {}
    for entry in entries:
        if entry.sha256:
            names.setdefault(entry.sha256, []).append(entry.name)
    return names


def _remove(path: Path, names: tuple[str, ...], reason: str, dry_run: bool) -> Removal:
    try:
        with _undisturbed(path, dry_run) as disturbance:
            if disturbance:
                return Removal(path, names, reason, 0, disturbance)
            stat = path.stat()
            if not dry_run:
                path.unlink()
                _remove_beside(path)
    except FileNotFoundError:  # another process was faster
        return Removal(path, names, reason, 0)
    except OSError as error:
        return Removal(path, names, reason, 0, error.strerror or str(error))
    return Removal(path, names, reason, stat.st_size if stat.st_nlink == 1 else 0)


@contextmanager
def _undisturbed(path: Path, dry_run: bool) -> Iterator[str]:
    """Yields which process needs ``path``, or an empty string; then none can fetch or load it within the block."""
    with ExitStack() as stack:
        if path.parent.name in (*_FOLDERS, "parts") and (
            parts.is_being_written(path) or not stack.enter_context(guard.lock(_key_of(path), wait=False))
        ):
            yield "being fetched by a running process"
            return
        if whole := _whole_of(path):
            is_alone = not in_use.is_held(whole) if dry_run else stack.enter_context(in_use.alone(whole))
            if not is_alone:
                yield "in use by a running process"
                return
        yield ""


def _key_of(path: Path) -> str:
    """The name of the lock that a process holds while it makes the file to which ``path`` belongs."""
    return path.name.lstrip(".").partition(".")[0]


def _whole_of(path: Path) -> Path | None:
    """The weights file that ``path`` is or belongs to."""
    match = _BESIDE.fullmatch(path.name) or _FILE.fullmatch(path.name)
    return path.with_name(match["whole"]) if match and path.parent.name in _FOLDERS else None


def _remove_beside(path: Path) -> None:
    whole = _whole_of(path)
    if whole and not whole.exists():
        cache.stamp_of(whole).unlink(missing_ok=True)
        in_use.marker_of(whole).unlink(missing_ok=True)
        converted.record_of(whole).unlink(missing_ok=True)


def _left_over() -> Iterator[tuple[Path, str]]:
    """Files that no entry needs: unfinished, damaged, or belonging to a removed file."""
    for file in _listed("parts"):
        if file.suffix in (".part", ".link"):
            yield file, "unfinished download"
    for file in _listed("quarantine"):
        if file.name.startswith("expected-"):
            yield file, "quarantined: wrong sha256"
    for file in [file for folder in _FOLDERS for file in _listed(folder)]:
        whole = _whole_of(file)
        is_temporary = file.name.endswith(cache.UNFINISHED) or storage.is_part(file)
        if not file.exists():  # removed together with the one before it
            continue
        if whole and not whole.exists():
            yield file, "belongs to a removed file"
        elif whole == file and (reason := _uselessness(file)):
            yield file, reason
        elif is_temporary and cache.is_abandoned(file):
            yield file, "written by a process that has ended"


def _uselessness(file: Path) -> str:
    """Why nobody uses the conversion ``file`` any more; empty if somebody may, and for other files."""
    if file.parent.name != converted.FOLDER:
        return ""
    record = converted.read_record(file)
    if record is None:
        return "conversion without a record"
    return "converted by an older version of Zoo" if record.version < converted.VERSION else ""


def _listed(folder: str) -> list[Path]:
    """The regular files of a folder of the cache, sorted by name."""
    try:
        return sorted(file for file in (cache.root() / folder).iterdir() if file.is_file() and not file.is_symlink())
    except FileNotFoundError:
        return []

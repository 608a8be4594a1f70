"""Lists, verifies and removes files of the cache, and says which weights work without a network.

No file is removed that Zoo did not put there. A file goes by the time of its last use, as in the caches of pip, uv and
huggingface_hub. A process that has loaded a removed file is not affected on this machine, because a mapped file remains
until it is unmapped.
"""

import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from zoo import hub
from zoo.errors import IntegrityError, ZooError
from zoo.hub import cache, converted, huggingface, parts
from zoo.manifest import Weights
from zoo.system import storage

_FILE = re.compile(r"(?P<whole>[0-9a-f]{64}(-[0-9a-f]{16})?(\.\w+)?)")
_BESIDE = re.compile(rf"{_FILE.pattern}\.(stamp|record)")
_FOLDERS = ("files", converted.FOLDER)


class CachedFile(NamedTuple):
    """A complete file of the cache; ``names`` are its entries.

    ``source`` is the sha256 of the file of which it is a conversion, empty for others.
    """

    file: Path
    sha256: str
    size: int
    last_used: float
    names: tuple[str, ...]
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


class LocalFiles:
    """Which weights can be used without a network, now: files are looked for and not hashed.

    The folders of the caches are read once, for any number of questions.
    """

    def __init__(self) -> None:
        self._files = _names_in(cache.root() / "files")
        self._hashes = {name[:64] for name in self._files}
        self._converted = {name[:64] for name in _names_in(cache.root() / converted.FOLDER)}
        self._repos = _names_in(huggingface.cache_root())
        self._mirrors = hub.mirrors()

    def has(self, weights: Weights) -> bool:
        """Returns whether ``weights`` are in a cache, a folder or an installed package."""
        if weights.needs_conversion and weights.sha256 in self._converted:  # which needs its source no more
            return True
        if weights.sha256 in self._hashes and cache.file_of(weights, weights.sha256).name in self._files:
            return True
        if weights.hub == "hf" and huggingface.folder_of(weights) in self._repos and huggingface.find_cached(weights):
            return True
        return any(_opens(address, weights) for address in (*self._mirrors, weights.hub))


def contents(entries: Iterable[Weights]) -> list[CachedFile]:
    """Returns all complete files of the cache, last used first, with the names of those in ``entries``."""
    names: dict[str, list[str]] = {}
    for entry in entries:
        names.setdefault(entry.sha256, []).append(entry.name)
    files = []
    for file in _listed(*_FOLDERS):
        if _BESIDE.fullmatch(file.name) or not _FILE.fullmatch(file.name) or _uselessness(file):
            continue
        sha256, source = file.name[:64], ""
        its_names = tuple(names.get(sha256, ()))
        if record := converted.read_record(file):
            sha256, source = record.sha256, sha256
        with suppress(FileNotFoundError):  # removed meanwhile
            files.append(CachedFile(file, sha256, file.stat().st_size, cache.last_used(file), its_names, source))
    return sorted(files, key=lambda cached: -cached.last_used)


def verify(cached: CachedFile) -> Damage | None:
    """Hashes the file again; moves it to quarantine if the hash differs from its name, or its record."""
    got = ""
    try:
        got = cache.sha256_of(cached.file, deep=True)
        if got == cached.sha256:
            return None
        aside = cache.quarantine(cached.file, cached.sha256, got)
        return Damage(f"has sha256 {got}; moved to {aside}", got, aside) if aside else None
    except IntegrityError as error:  # another user's
        return Damage(error.message, got)
    except FileNotFoundError:  # removed meanwhile
        return None
    except OSError as error:
        return Damage(f"cannot be read or moved: {error.strerror or error}")


def prune(
    files: Sequence[CachedFile],
    *,
    older_than: float | None = None,
    keep_under: int | None = None,
    unreferenced: bool = False,
    dry_run: bool = False,
) -> list[Removal]:
    """Removes leftovers, and those of ``files`` to which any of the conditions applies.

    ``older_than`` is in seconds since a file was last used; ``keep_under`` is the total size in bytes to reduce the
    cache to, least recently used first; ``unreferenced`` files have no name. With ``dry_run`` nothing is removed, and
    the result is the same.
    """
    removals = [_remove(path, (), reason, dry_run) for path, reason in _leftovers()]
    total, now = sum(cached.size for cached in files), time.time()
    for cached in sorted(files, key=lambda cached: cached.last_used):
        if older_than is not None and now - cached.last_used > older_than:
            reason = f"not used since {time.strftime('%Y-%m-%d %H:%M', time.localtime(cached.last_used))}"
        elif unreferenced and not cached.names:
            reason = "not in any manifest"
        elif keep_under is not None and total > keep_under:
            reason = "least recently used"
        else:
            continue
        removals.append(_remove(cached.file, cached.names, reason, dry_run))
        total -= 0 if removals[-1].kept else cached.size
    return removals


def _remove(path: Path, names: tuple[str, ...], reason: str, dry_run: bool) -> Removal:
    try:
        stat = path.stat()
        if not dry_run:
            path.unlink()
            cache.stamp_of(path).unlink(missing_ok=True)
            converted.record_of(path).unlink(missing_ok=True)
    except FileNotFoundError:  # another process was faster
        return Removal(path, names, reason, 0)
    except OSError as error:
        return Removal(path, names, reason, 0, error.strerror or str(error))
    return Removal(path, names, reason, stat.st_size if stat.st_nlink == 1 else 0)


def _leftovers() -> Iterator[tuple[Path, str]]:
    """Yields files that no entry needs: unfinished, damaged, or belonging to a removed file."""
    for file in _listed("parts"):
        if file.suffix in (".part", ".link") and not parts.is_being_written(file):
            yield file, "unfinished download"
    for file in _listed("quarantine"):
        if file.name.startswith("expected-"):
            yield file, "quarantined: wrong sha256"
    for file in _listed(*_FOLDERS):
        is_temporary = file.name.endswith(cache.UNFINISHED) or storage.is_part(file)
        if match := _BESIDE.fullmatch(file.name):
            if file.exists() and not file.with_name(match["whole"]).exists():
                yield file, "belongs to a removed file"
        elif _FILE.fullmatch(file.name) and (reason := _uselessness(file)):
            yield file, reason
        elif is_temporary and cache.is_abandoned(file):
            yield file, "written by a process that has ended"


def _uselessness(file: Path) -> str:
    """Returns why nobody uses the conversion ``file`` any more; empty if somebody may, and for other files."""
    if file.parent.name != converted.FOLDER:
        return ""
    record = converted.read_record(file)
    if record is None:
        return "conversion without a record"
    return "converted by an older version of Zoo" if record.version < converted.VERSION else ""


def _listed(*folders: str) -> list[Path]:
    """Returns the regular files of these folders of the cache, sorted by name."""
    files: list[Path] = []
    for folder in folders:
        with suppress(FileNotFoundError):
            inside = sorted((cache.root() / folder).iterdir())
            files += [file for file in inside if file.is_file() and not file.is_symlink()]
    return files


def _opens(address: str, weights: Weights) -> bool:
    if address == "hf":
        return False
    try:
        place = hub.source_at(address)
        if not place.is_local:
            return False
        with place.open(weights, 0):
            return True
    except ZooError:
        return False


def _names_in(folder: Path) -> frozenset[str]:
    with suppress(OSError):
        return frozenset(os.listdir(folder))
    return frozenset()

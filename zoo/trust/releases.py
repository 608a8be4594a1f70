"""Which of a publisher's signed manifests is the present one: an older one is as well signed as it ever was.

A manifest may state a number and a last day (``[release]``). The highest number of each publisher and name that was
accepted is remembered, as an empty file of the configuration's folder ``releases`` that is created exclusively. A lower
number is refused, and one without a number once a number was accepted.
"""

import hashlib
import re
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path

from zoo import manifest
from zoo.errors import SignatureError, StorageError
from zoo.manifest import Release, writing
from zoo.system import storage
from zoo.trust import signing
from zoo.trust.signing import Publisher


def refusal(publisher: Publisher, text: str, what: str, *, is_used: bool = True) -> str:
    """Returns why the manifest ``text``, which ``publisher`` signed, is too old; empty if it is not.

    ``is_used`` remembers its number; where nothing can be written, only those of before count.
    """
    release = manifest.release_of(text, what)
    folder = storage.config_folder() / "releases" / _key(publisher)
    if release is None:
        return f"{what} has no [release], but a release of its publisher was accepted before" if _files(folder) else ""
    if release.expires and datetime.now(UTC).date() > release.expires:
        return f"{what} expired on {release.expires}"
    name = hashlib.sha256(release.name.encode()).hexdigest()[:16]
    last = max((int(file.name.partition("-")[2]) for file in _files(folder) if file.name.startswith(name)), default=0)
    if release.number < last:
        return f"{what} is release {release.number}, but release {last} was accepted before"
    if is_used and release.number > last:
        with suppress(StorageError):
            storage.create(folder / f"{name}-{release.number}", b"")
    return ""


def write(file: Path, number: int, expires: date | None) -> None:
    """Writes number and last day into the manifest ``file``; raises :class:`SignatureError` if it has a higher one."""
    text = signing.read(file).decode()
    last = manifest.release_of(text, str(file)) or Release(1)
    if number < last.number:
        raise SignatureError(f"{file} is release {last.number}; {number} would be older.")
    changed = writing.with_release(text, Release(number, expires, last.name), str(file))
    if changed != text:
        storage.replace(file, changed.encode())


def _files(folder: Path) -> list[Path]:
    try:
        return [file for file in folder.iterdir() if re.fullmatch("[0-9a-f]{16}-[0-9]{1,16}", file.name)]
    except OSError:
        return []


def _key(publisher: Publisher) -> str:
    """Returns what stays of a publisher when files move: the public key itself, or the identity."""
    who = signing.read(Path(publisher.key)) if publisher.key else f"{publisher.identity}\n{publisher.issuer}".encode()
    return hashlib.sha256(who).hexdigest()[:32]

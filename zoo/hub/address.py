"""Hubs at an address: a directory, a package, a release on a package index, a web server, or what fsspec opens.

All have one layout, ``<address>/<repo>/<file>``, so each can be made by copying another.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import quote

import msgspec

from zoo.errors import HubError, MissingExtraError
from zoo.hub import web
from zoo.hub.download import PassingError, Source, Stream, stream_of, time_limit
from zoo.manifest import Weights

_EXTRAS = {"s3": "zoo-vision[s3]", "s3a": "zoo-vision[s3]"}


def parse(address: str) -> Source:
    """Returns the source at ``address``: a path, ``file://``, ``embedded:PACKAGE``, ``pypi:NAME==VERSION``,
    ``http(s)://``, or fsspec's.
    """
    if address.startswith("embedded:"):
        return Embedded(address.removeprefix("embedded:"))
    if address.startswith("pypi:"):
        from zoo.hub.wheel import Wheel

        return Wheel.at(address.removeprefix("pypi:"))
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)(://|::)", address)
    if scheme is None:
        return Directory(address)
    if scheme[2] == "://" and scheme[1].lower() == "file":
        from urllib.request import url2pathname

        _, slash, path = re.split("[?#]", address[scheme.end() :])[0].partition("/")  # urlsplit may raise
        return Directory(url2pathname(slash + path))
    if scheme[2] == "://" and scheme[1].lower() in ("http", "https"):
        return Website(address)
    return Filesystem(address)


class Directory(msgspec.Struct, frozen=True):
    folder: str
    is_local: bool = True

    @property
    def name(self) -> str:
        return self.folder

    @contextmanager
    def open(self, weights: Weights, start: int) -> Iterator[Stream]:
        file = Path(os.path.expanduser(self.folder)) / weights.path
        try:
            if not stat.S_ISREG(file.stat().st_mode):  # opening a pipe would wait for its writer
                raise HubError(f"{weights.path} is not a regular file")
            opened = file.open("rb")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise HubError(f"{weights.path} cannot be opened: {reason}") from None
        with opened:
            yield stream_of(opened, start)


class Embedded(msgspec.Struct, frozen=True):
    """Files inside a plugin's package; finding them imports nothing."""

    package: str
    is_local: bool = True

    @property
    def name(self) -> str:
        return f"embedded:{self.package}"

    @contextmanager
    def open(self, weights: Weights, start: int) -> Iterator[Stream]:
        try:
            opened = cast(BinaryIO, _folder_in(self.package).joinpath(weights.path).open("rb"))
        except OSError as error:
            raise HubError(f"{weights.path} cannot be opened: {error.strerror or error}") from None
        with opened:
            yield stream_of(opened, start)


class Website(msgspec.Struct, frozen=True):
    """A web server; user and password in its address are sent only to it and never shown."""

    address: str
    is_local: bool = False

    @property
    def name(self) -> str:
        return _without_secrets(self.address)

    @contextmanager
    def open(self, weights: Weights, start: int) -> Iterator[Stream]:
        url = f"{self.name.rstrip('/')}/{quote(weights.path)}"
        with web.get(url, start=start, authorization=web.basic(self.address)) as answer:
            yield web.stream_of(answer, start)


class Filesystem(msgspec.Struct, frozen=True):
    """Any other fsspec file system; its settings come from fsspec's own configuration."""

    address: str
    is_local: bool = False

    @property
    def name(self) -> str:
        return _without_secrets(self.address)

    @contextmanager
    def open(self, weights: Weights, start: int) -> Iterator[Stream]:
        opened, size = self._call(lambda: self._open(weights.path))
        try:
            start = self._call(lambda: opened.seek(start)) if start else 0
            yield Stream(lambda count: self._call(lambda: opened.read(count)), start, size)
        finally:
            opened.close()

    def _open(self, path: str) -> tuple[Any, int]:
        """Returns the open file and its size in bytes, 0 if it is not known."""
        from fsspec.core import url_to_fs

        settings: dict[str, Any] = {}
        if self._protocol in _EXTRAS:
            limit = time_limit()
            settings = {"config_kwargs": {"connect_timeout": limit, "read_timeout": limit}}
        system, folder = url_to_fs(self.address, **settings)
        file = f"{folder.rstrip('/')}/{path}"
        system.invalidate_cache()  # a listing of an earlier call may be out of date
        size = system.info(file).get("size") or 0
        return system.open(file, "rb"), size

    @property
    def _protocol(self) -> str:
        return re.split("::?/?/?", self.address, maxsplit=1)[0].lower()

    def _call(self, action: Any) -> Any:
        """Runs ``action`` and converts the errors of any file system to ours."""
        try:
            return action()
        except ImportError as error:
            extra = _EXTRAS.get(self._protocol)
            if extra:
                raise MissingExtraError.of(f"The hub {self.name}", "s3fs", extra) from None
            raise HubError(f"needs a package that is not installed: {web.plain(str(error))}") from None
        except FileNotFoundError:
            raise HubError("has no such file") from None
        except ValueError as error:
            raise HubError(f"cannot be opened: {web.plain(str(error))}") from None
        except Exception as error:  # each file system raises its client's own errors
            kind, reason = type(error).__name__, web.plain(str(error))
            if isinstance(error, PermissionError) or "Credentials" in kind:
                raise HubError(f"denies access ({kind}: {reason}); check the credentials in the environment") from None
            raise PassingError(f"fails with {kind}: {reason}", cost=2) from None


def _without_secrets(address: str) -> str:
    """Returns ``address`` without user, password and query."""
    return web.without_user(re.split("[?#]", address)[0])


def _folder_in(package: str) -> Any:
    """Returns the folder of an installed ``package``, also within a zip; raises :class:`HubError` if there is none.

    The package's name comes from a manifest: nothing is imported for it.
    """
    top, *below = package.split(".")
    spec = find_spec(top) if top.isidentifier() and top != "__main__" else None
    if spec is None or spec.submodule_search_locations is None:
        raise HubError(f"there is no package {package!r}")
    reader = getattr(spec.loader, "get_resource_reader", None)
    if reader is None:  # a package of data alone, before Python 3.12
        return Path(next(iter(spec.submodule_search_locations)), *below)
    return reader(top).files().joinpath(*below)

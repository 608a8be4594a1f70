"""Files inside a plugin's package, ``embedded:<package>``; finding them imports nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, BinaryIO, cast

import msgspec

from zoo import registry
from zoo.errors import HubError
from zoo.hub.download import Stream, stream_of
from zoo.manifest import Weights


class Embedded(msgspec.Struct, frozen=True):
    package: str
    is_local: bool = True

    @property
    def name(self) -> str:
        return f"embedded:{self.package}"

    @contextmanager
    def open(self, weights: Weights, start: int) -> Iterator[Stream]:
        try:
            opened = cast(BinaryIO, _folder_of(self.package).joinpath(weights.path).open("rb"))
        except OSError as error:
            raise HubError(f"{weights.path} cannot be opened: {error.strerror or error}") from None
        with opened:
            yield stream_of(opened, start)


def _folder_of(package: str) -> Any:
    """The folder of ``package``, also within a zip; raises :class:`HubError` if no plugin contains it.

    The package's name comes from a manifest, which must not be able to import arbitrary modules.
    """
    top, *below = package.split(".")
    brought = {name for row in registry.current().plugins for name in row.packages}
    spec = find_spec(top) if top in brought else None
    reader = getattr(spec and spec.loader, "get_resource_reader", None)
    found = reader(top) if reader else None  # None for a module that is not a package
    if found is None:
        raise HubError(f"no installed plugin contains a package {package!r}")
    return found.files().joinpath(*below)

"""Files that travel inside an installed package: ``embedded:<package>``."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

import msgspec

from zoo.errors import HubError
from zoo.hub.transfer import Stream, stream_of
from zoo.manifest import Weights


class Embedded(msgspec.Struct, frozen=True):
    package: str
    is_local: bool = True

    @property
    def name(self) -> str:
        return f"embedded:{self.package}"

    @contextmanager
    def open(self, weights: Weights, start: int) -> Iterator[Stream]:
        from importlib.resources import files

        try:
            opened = cast(BinaryIO, files(self.package).joinpath(weights.path).open("rb"))
        except (ModuleNotFoundError, ValueError, TypeError):
            raise HubError(f"there is no installed package {self.package!r}") from None
        except OSError as error:
            raise HubError(f"{weights.path} cannot be opened: {error.strerror or error}") from None
        with opened:
            yield stream_of(opened, start)

"""The hashes of a file while it arrives: sha256, and the one that a publisher states instead."""

import hashlib
from typing import BinaryIO

from zoo.hub.cache import CHUNK


class Hashes:
    """The running sha256 of some bytes, and their hash by another ``algorithm`` unless that is empty."""

    def __init__(self, algorithm: str = "") -> None:
        self._algorithm = algorithm
        names = ["sha256", algorithm] if algorithm else ["sha256"]
        self._hashers = [hashlib.new(name, usedforsecurity=False) for name in names]

    def update(self, chunk: bytes) -> None:
        for hasher in self._hashers:
            hasher.update(chunk)

    def read(self, opened: BinaryIO) -> None:
        """Adds the rest of ``opened``."""
        while chunk := opened.read(CHUNK):
            self.update(chunk)

    @property
    def sha256(self) -> str:
        return self._hashers[0].hexdigest()

    @property
    def digest(self) -> str:
        """``algorithm:hex``, or an empty string."""
        return f"{self._algorithm}:{self._hashers[1].hexdigest()}" if self._algorithm else ""

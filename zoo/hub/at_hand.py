"""Which weights can be used without a network, now. For listings: files are looked for and not hashed."""

import os
from contextlib import suppress
from pathlib import Path

from zoo import hub
from zoo.errors import ZooError
from zoo.hub import cache, converted, huggingface
from zoo.manifest import Weights


class AtHand:
    """What lies on this machine. The folders of the caches are read once, for any number of questions."""

    def __init__(self) -> None:
        self._files = _names_in(cache.root() / "files")
        self._converted = {name[:64] for name in _names_in(cache.root() / converted.FOLDER)}
        self._repos = _names_in(huggingface.cache_root())

    def has(self, weights: Weights) -> bool:
        """Whether ``weights`` are in a cache, a folder or an installed package."""
        if weights.needs_conversion and weights.sha256 in self._converted:  # which needs its source no more
            return True
        if weights.sha256 and cache.file_of(weights, weights.sha256).name in self._files:
            return True
        if weights.hub == "hf" and huggingface.folder_of(weights) in self._repos and huggingface.find_cached(weights):
            return True
        return any(_opens(address, weights) for address in (*hub.mirrors(), weights.hub))


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

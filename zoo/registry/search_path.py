"""What lies on ``sys.path``: names in its folders, read once, without importing anything."""

import importlib.machinery
import importlib.util
import os
import sys

_SUFFIXES = frozenset(importlib.machinery.all_suffixes())
_INFOS = (".dist-info", ".egg-info")


class SearchPath:
    """The folders of ``sys.path`` at one moment.

    ``infos`` are the folders that describe installed distributions, in the order of the path; ``archives`` are the
    files on it.
    """

    def __init__(self) -> None:
        self.infos: list[str] = []
        self.archives: list[str] = []
        self._places: dict[str, list[str]] = {}
        for folder in dict.fromkeys(os.path.abspath(entry) for entry in sys.path if isinstance(entry, str)):
            try:
                names = sorted(os.listdir(folder))
            except NotADirectoryError:
                self.archives.append(folder)
                continue
            except OSError:
                continue
            for name in names:
                stem, dot, suffix = name.partition(".")
                if not dot or f".{suffix}" in _SUFFIXES:
                    self._places.setdefault(stem, []).append(f"{folder}/{name}")
                elif name.endswith(_INFOS):
                    self.infos.append(f"{folder}/{name}")

    def place_of(self, module: str) -> str:
        """Every file and folder on the path that the top-level ``module`` may be; empty if there is no such module.

        The first is the one that Python imports, unless it is a folder without Python files.
        """
        if module not in self._places:
            self._places[module] = [_found_elsewhere(module)]
        return "|".join(self._places[module])


def _found_elsewhere(module: str) -> str:
    """The file of a module that is in no folder of the path: in an archive, or as an import hook finds it."""
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # an import hook may raise; a module in use may have no spec
        return ""
    if found is None:
        return ""
    return str(found.origin or next(iter(found.submodule_search_locations or ()), ""))

"""What the import of a plugin does to its process: what it looks for and reads, and what it replaces."""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from types import ModuleType
from typing import Any, NamedTuple

_LISTINGS = ("os.listdir", "os.scandir")
_WRITING = os.O_WRONLY | os.O_RDWR


class Notes(NamedTuple):
    """What an import looked for and read: top-level modules, files and folders, environment variables."""

    modules: list[str]
    files: list[str]
    variables: list[str]


class Witness:
    """Watches this process from now on; there is no way back, so it is for a process that imports one plugin."""

    def __init__(self) -> None:
        self._modules: set[str] = set()
        self._files: set[str] = set()
        self._variables: set[str] = set()
        self._loaded = set(sys.modules)
        self._folders = {os.path.abspath(entry) for entry in sys.path if isinstance(entry, str)}
        self._is_watching = True
        sys.addaudithook(self._note)
        os.environ.__class__ = _watching(type(os.environ), self._variables)

    def notes(self) -> Notes:
        """What was looked for and read until now."""
        self._is_watching = False
        loaded = [getattr(sys.modules[name], "__file__", None) for name in {*sys.modules} - self._loaded]
        files = self._files.union(file for file in loaded if isinstance(file, str))
        modules = self._modules - sys.stdlib_module_names
        return Notes(sorted(modules), sorted(filter(_can_change, files)), sorted(self._variables))

    def has_torch(self) -> bool:
        """Whether torch was imported."""
        return "torch" in sys.modules and "torch" not in self._loaded

    def _note(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._is_watching:
            return
        if event == "import":
            self._modules.add(args[0].partition(".")[0])
        elif event == "open" and isinstance(args[0], str | bytes | os.PathLike):
            mode, flags = args[1], args[2]
            is_read = not set("wax+") & set(mode) if isinstance(mode, str) else not (flags or 0) & _WRITING
            if is_read:
                self._files.add(_absolute(args[0]))
        elif event in _LISTINGS and isinstance(args[0], str | bytes | os.PathLike):
            self._files.update({_absolute(args[0])} - self._folders)  # in those, modules are looked up by name


class Namespaces:
    """The functions and classes of all modules that are loaded now, and the methods of these classes."""

    def __init__(self) -> None:
        self._modules = {name: module for name, module in sys.modules.items() if name != "__main__"}
        self._known: list[tuple[str, Mapping[str, Any], dict[str, Any]]] = []
        for name, module in self._modules.items():
            if isinstance(module, ModuleType):
                self._add(name, vars(module))
                for kind in [value for value in vars(module).values() if isinstance(value, type)]:
                    if kind.__module__ == name:
                        self._add(f"{name}.{kind.__qualname__}", vars(kind))

    def replaced(self) -> str:
        """The name of one that is another one now, or is gone; empty if none is.

        What torch itself replaces when it is imported is not counted.
        """
        if not self._modules.items() <= sys.modules.items():
            return next(name for name, module in self._modules.items() if sys.modules.get(name) is not module)
        for prefix, now, before in self._known:
            if not before.items() <= now.items():  # which looks at each of them, but fast
                for name, value in before.items():
                    if now.get(name) is not value and not _is_of_torch(now.get(name)):
                        return f"{prefix}.{name}"
        return ""

    def _add(self, prefix: str, values: Mapping[str, Any]) -> None:
        self._known.append((prefix, values, {name: value for name, value in values.items() if _is_function(value)}))


def _is_of_torch(value: object) -> bool:
    return str(getattr(value, "__module__", "")).partition(".")[0] == "torch"


def _is_function(value: object) -> bool:
    return callable(value) or isinstance(value, classmethod | staticmethod | property)


def _can_change(file: str) -> bool:
    """Not so compiled files, which follow their source, nor those of the system's kernel."""
    return not file.endswith(".pyc") and not file.startswith(("/dev/", "/proc/", "/sys/"))


def _absolute(path: Any) -> str:
    with suppress(OSError):  # of a relative path in a folder that is gone
        return os.path.abspath(os.fsdecode(path))
    return os.fsdecode(path)


def _watching(kind: type, noted: set[str]) -> type:
    """A kind of ``os.environ`` that notes the variables that are read."""

    class Watching(kind):  # type: ignore[misc]  # a class of the standard library without a public name
        def __getitem__(self, name: str) -> str:
            noted.add(name)
            value: str = super().__getitem__(name)
            return value

    return Watching

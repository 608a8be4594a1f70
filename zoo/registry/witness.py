"""What the import of a plugin does to its process: what it looks for and reads, and what it replaces."""

import os
import sys
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
        os.environ.__class__ = _watching(type(os.environ), self._variables)  # type: ignore[assignment]  # a subclass

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


def callables() -> dict[str, object]:
    """The functions and classes of all loaded modules, and the methods of these classes, by their full names."""
    found: dict[str, object] = {}
    for module_name, module in [*sys.modules.items()]:
        if not isinstance(module, ModuleType) or module_name == "__main__":
            continue
        for name, value in [*vars(module).items()]:
            if not callable(value):
                continue
            found[f"{module_name}.{name}"] = value
            if isinstance(value, type) and value.__module__ == module_name:
                methods = [(f"{module_name}.{name}.{method}", is_now) for method, is_now in [*vars(value).items()]]
                found.update((method, is_now) for method, is_now in methods if _is_method(is_now))
    return found


def replaced(before: dict[str, object]) -> str:
    """The first of the callables in ``before`` that is another one now, or is gone; empty if none is.

    What torch itself replaces when it is imported is not counted.
    """
    after = callables()
    changed = (name for name, value in before.items() if after.get(name) is not value)
    return min((name for name in changed if not _is_of_torch(after.get(name))), default="")


def _is_of_torch(value: object) -> bool:
    return str(getattr(value, "__module__", "")).partition(".")[0] == "torch"


def _is_method(value: object) -> bool:
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

    class Watching(kind):  # type: ignore[misc, valid-type]  # a class of the standard library without a public name
        def __getitem__(self, name: str) -> str:
            noted.add(name)
            value: str = super().__getitem__(name)
            return value

    return Watching

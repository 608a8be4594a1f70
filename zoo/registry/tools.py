"""The commands, the modules and the formats of files that plugins bring: ``zoo detect``, ``zoo.detect``, ``.npz``.

The rules are those of models. A name of Zoo's own stays Zoo's, then come the plugins of its distribution. What third
parties contest among themselves belongs to none of them: each is reached as ``plugin/command``, and the short name is
refused with these; a format that they contest is refused. Nothing is imported until somebody asks for it.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

from zoo import names, registry
from zoo.errors import AmbiguousNameError, FileFormatError, PluginError, UnknownNameError
from zoo.registry import PluginRow

Formats = Literal["converters", "openers"]
"""The fields of :class:`zoo.Plugin` with formats of files."""


class Tool(NamedTuple):
    """A command, a module or a format: its address, the plugin that brings it, its distribution with the version."""

    plugin: str
    address: str
    is_builtin: bool
    distribution: str


def commands(own: Mapping[str, Any]) -> dict[str, Tool]:
    """Returns the commands of plugins by the names that reach them: ``detect``, or ``plugin/detect`` if contested.

    ``own`` has the names of Zoo's own commands, which stay Zoo's.
    """
    return {
        name if name not in own and tool is _owner(tools) else f"{tool.plugin}/{name}": tool
        for name, tools in _offered("commands").items()
        for tool in tools
    }


def require_uncontested(command: str) -> None:
    """Raises :class:`AmbiguousNameError` if several plugins bring ``command``."""
    tools = _offered("commands").get(command, [])
    if tools and _owner(tools) is None:
        names = [f"zoo {tool.plugin}/{command}" for tool in tools]
        raise AmbiguousNameError(f"Several plugins have the command {command!r}.", hint=f"Use {' or '.join(names)}.")


def modules() -> dict[str, str]:
    """Returns what plugins add to ``zoo``: addresses by name. Contested names are left out."""
    owners = {name: _owner(tools) for name, tools in _offered("modules").items()}
    return {name: tool.address for name, tool in owners.items() if tool is not None}


def format_of(file: str, kind: Formats) -> Tool | None:
    """Returns what takes files of this name; of the endings that fit, the longest counts. None if no plugin does.

    Raises :class:`AmbiguousNameError` if several third parties bring that ending.
    """
    brought = _offered(kind)
    ending = max((ending for ending in brought if file.lower().endswith(ending)), key=len, default="")
    tools = brought.get(ending, [])
    if tools and _owner(tools) is None:
        whose = [tool.plugin for tool in tools]
        raise AmbiguousNameError(
            f"Several plugins take files that end in {ending}: {', '.join(whose)}.",
            hint=f"Disable the others: zoo plugins disable {whose[-1]}",
        )
    return _owner(tools) if tools else None


def opener_of(name: str) -> Tool | None:
    """Returns what opens the file ``name`` as a network; None for the name of a model: ``net.onnx`` could be either."""
    tool = format_of(name, "openers")
    if tool is None or names.is_repository(name):
        return None
    try:
        names.parse(name)
    except UnknownNameError:
        return tool
    return tool if Path(name).is_file() else None


def converter_of(file: str, name: str = "") -> Tool:
    """Returns what converts files of this name; raises :class:`FileFormatError`, which names the weights, if none."""
    tool = format_of(file, "converters")
    if tool is None:
        raise FileFormatError(
            f"{name and f'{name}: '}{file}: no plugin converts files with this ending.",
            hint=f"Plugins convert those that end in {', '.join(known)}."
            if (known := _offered("converters"))
            else "No plugin converts files; zoo plugins says which are disabled or broken.",
        )
    return tool


def checks() -> list[str]:
    """Returns the addresses of the checks that plugins add to the conformance kit."""
    return [check for row in _usable() if row.bare is not None for check in row.bare.checks]


def resolve(name: str, address: str) -> Any:
    """Imports ``zoo.name``, a module ``"package"`` or a value ``"package.module:name"`` of a plugin."""
    module, _, value = address.partition(":")
    try:
        return getattr(import_module(module), value) if value else import_module(f"zoo.{name}")
    except (ImportError, AttributeError) as error:
        raise PluginError(f"zoo.{name} is {address}, which cannot be imported: {error}") from error


def spec_of(name: str) -> ModuleSpec | None:
    """Returns how ``import zoo.detect`` finds a plugin's module; None if no plugin brings it."""
    address = modules().get(name.partition(".")[2], "")
    return ModuleSpec(name, _Alias(address)) if address and ":" not in address else None


class _Alias(Loader):
    """Loads a module that has a name of its own already."""

    def __init__(self, address: str) -> None:
        self._address = address

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(self._address)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # importing replaced it by that of the alias


def _offered(kind: Literal["commands", "modules", "converters", "openers"]) -> dict[str, list[Tool]]:
    """Returns the tools by name; those of Zoo's own distribution come first."""
    offered: dict[str, list[Tool]] = {}
    for row in _usable():
        for name, address in getattr(row.bare, kind, {}).items():
            tool = Tool(row.name, address, row.is_builtin, f"{row.distribution} {row.version}".strip())
            offered.setdefault(name, []).append(tool)
    return offered


def _owner(tools: list[Tool]) -> Tool | None:
    """Returns the tool that has the short name; None if third parties contest it."""
    return tools[0] if len(tools) == 1 or tools[0].is_builtin else None


def _usable() -> list[PluginRow]:
    """Returns the rows of plugins that work, those of Zoo's own distribution first."""
    return sorted(
        (row for row in registry.current().plugins if row.status != "broken"), key=lambda row: not row.is_builtin
    )

"""The commands and the modules that plugins bring: ``zoo detect`` and ``zoo.detect``.

The rules are those of models. A name of Zoo's own stays Zoo's, then come the plugins of its distribution. What third
parties contest among themselves belongs to none of them: each is reached as ``plugin/command``, and the short name is
refused with these. Nothing is imported until a command is called or a module is asked for.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Literal, NamedTuple

from zoo import registry
from zoo.errors import AmbiguousNameError, PluginError


class Tool(NamedTuple):
    """A command or a module, its address, and the plugin that brings it."""

    plugin: str
    address: str
    is_builtin: bool


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


def checks() -> list[str]:
    """Returns the addresses of the checks that plugins add to the conformance kit."""
    return [check for plugin, _ in _usable() for check in plugin.checks]


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


def _offered(kind: Literal["commands", "modules"]) -> dict[str, list[Tool]]:
    """The tools by name; those of Zoo's own distribution come first."""
    offered: dict[str, list[Tool]] = {}
    for plugin, is_builtin in _usable():
        for name, address in getattr(plugin, kind).items():
            offered.setdefault(name, []).append(Tool(plugin.name, address, is_builtin))
    return offered


def _owner(tools: list[Tool]) -> Tool | None:
    """The tool that has the short name; None if third parties contest it."""
    return tools[0] if len(tools) == 1 or tools[0].is_builtin else None


def _usable() -> list[tuple[Any, bool]]:
    rows = [row for row in registry.current().plugins if row.status != "broken"]
    pairs = [(row.bare, row.is_builtin) for row in rows]
    return sorted(((plugin, own) for plugin, own in pairs if plugin is not None), key=lambda pair: not pair[1])

"""Extensions: what usable plugins bring apart from models, by name.

Data sets, attack methods, look questions, export passes and readers; commands, modules and formats of files
(``zoo detect``, ``zoo.detect``, ``.npz``); key maps. The rules are those of models: Zoo's own names come first, then
those of its distribution. What third parties contest among themselves, or with those, is addressed as ``plugin/name``;
a format that they contest is refused. Nothing is imported until somebody asks for it.
"""

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

from msgspec.structs import replace

from zoo import names, registry
from zoo.errors import AmbiguousNameError, FileFormatError, PluginError, UnknownNameError
from zoo.registry import Found, PluginRow
from zoo.spec import KeyMap, Plugin

WORDS = {
    "datasets": "data set",
    "attacks": "attack method",
    "looks": "look question",
    "exports": "export pass",
    "readers": "reader",
}
"""The words by which messages call the extensions in each field of :class:`zoo.Plugin`."""


class Offered(NamedTuple):
    """An extension, the plugin that brings it, and the name by which it is listed."""

    name: str
    plugin: Plugin
    spec: Any


def offered(field: str, core: Collection[str] = ()) -> list[Offered]:
    """Returns all extensions in this ``field`` of usable plugins; ``core`` are Zoo's own names."""
    return [
        Offered(name if _is_short(field, name, row, core) else f"{row.name}/{name}", row.plugin, spec)
        for row in _decoded()
        if row.plugin is not None
        for spec in getattr(row.plugin, field)
        for name in [spec.name]
    ]


def find(field: str, name: str, core: Collection[str] = ()) -> Offered | None:
    """Returns the extension ``name`` or ``plugin/name``; None if no plugin brings it, or if it is one of Zoo's own.

    Raises :class:`AmbiguousNameError` if several third parties bring it.
    """
    every = offered(field, core)
    full = [
        extension for extension in every if name in (extension.name, f"{extension.plugin.name}/{extension.spec.name}")
    ]
    if full or name in core:
        return full[0] if full else None
    rivals = [extension.name for extension in every if extension.spec.name == name]
    if rivals:
        raise AmbiguousNameError(
            f"Several plugins have the {WORDS[field]} {name!r}.", hint=f"Use {' or '.join(rivals)}."
        )
    return None


def require(field: str, name: str, core: Collection[str] = ()) -> Offered:
    """Finds as :func:`find` does; raises :class:`UnknownNameError` with all names if no plugin brings it."""
    found = find(field, name, core)
    if found is None:
        known = names_in(field, core)
        raise UnknownNameError.of(WORDS[field], name, known, hint=f"Available: {', '.join(known) or 'none'}.")
    return found


def names_in(field: str, core: Collection[str] = ()) -> list[str]:
    """Returns ``core`` and the names of the extensions of plugins."""
    return [*core, *(one.name for one in offered(field, core))]


def _decoded() -> list[PluginRow]:
    rows = [row for row in registry.current().plugins if row.plugin is not None and row.status != "broken"]
    return sorted(rows, key=lambda row: not row.is_builtin)


def _is_short(field: str, name: str, row: PluginRow, core: Collection[str]) -> bool:
    owners = [other for other in _decoded() if any(spec.name == name for spec in getattr(other.plugin, field))]
    return name not in core and (len(owners) == 1 or (row.is_builtin and owners[0] is row))


# ---- commands, modules and formats -----------------------------------------------------------------

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
        for name, tools in _tools("commands").items()
        for tool in tools
    }


def require_uncontested(command: str) -> None:
    """Raises :class:`AmbiguousNameError` if several plugins bring ``command``."""
    tools = _tools("commands").get(command, [])
    if tools and _owner(tools) is None:
        names = [f"zoo {tool.plugin}/{command}" for tool in tools]
        raise AmbiguousNameError(f"Several plugins have the command {command!r}.", hint=f"Use {' or '.join(names)}.")


def modules() -> dict[str, str]:
    """Returns what plugins add to ``zoo``: addresses by name. Contested names are left out."""
    owners = {name: _owner(tools) for name, tools in _tools("modules").items()}
    return {name: tool.address for name, tool in owners.items() if tool is not None}


def format_of(file: str, kind: Formats) -> Tool | None:
    """Returns what takes files of this name; of the endings that fit, the longest counts. None if no plugin does.

    Raises :class:`AmbiguousNameError` if several third parties bring that ending.
    """
    brought = _tools(kind)
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
            hint=f"Plugins convert those that end in {', '.join(endings)}."
            if (endings := _tools("converters"))
            else "No plugin converts files; zoo plugins says which are disabled or broken.",
        )
    return tool


def checks() -> list[str]:
    """Returns the addresses of the checks that plugins add to the conformance kit."""
    return [check for row in _usable() if row.bare is not None for check in row.bare.checks]


def import_tool(name: str, address: str) -> Any:
    """Imports ``zoo.name``, a module ``"package"`` or a value ``"package.module:name"`` of a plugin."""
    module, _, value = address.partition(":")
    try:
        return getattr(import_module(module), value) if value else import_module(f"zoo.{name}")
    except (ImportError, AttributeError) as error:
        raise PluginError(f"zoo.{name} is {address}, which cannot be imported: {error}") from error


def module_spec(name: str) -> ModuleSpec | None:
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


def _tools(kind: Literal["commands", "modules", "converters", "openers"]) -> dict[str, list[Tool]]:
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


# ---- key maps ---------------------------------------------------------------------------------------


def own_key_maps(match: Found) -> list[KeyMap]:
    """Returns the key maps of the model's own plugin that are for it."""
    return [key_map for key_map in match.plugin.key_maps if not key_map.models or _is_for(key_map, match)]


def brought_key_maps(match: Found) -> dict[str, KeyMap]:
    """Returns the key maps that other plugins bring for the model, by full name, ``plugin/name``, which is theirs."""
    return {
        full: replace(key_map, name=full)
        for row in registry.current().plugins
        if row.name != match.row.name and row.status != "broken" and row.bare is not None
        for key_map in row.bare.key_maps
        if key_map.models and _is_for(key_map, match)
        for full in [f"{row.name}/{key_map.name}"]
    }


def find_key_map(match: Found, name: str) -> KeyMap | None:
    """Returns the key map ``name`` or ``plugin/name`` that is for the model; None if there is none.

    Raises :class:`AmbiguousNameError` if several plugins bring it.
    """
    for key_map in own_key_maps(match):
        if name in (key_map.name, f"{match.row.name}/{key_map.name}"):
            return key_map
    others = brought_key_maps(match)
    alike = [full for full in others if name in (full, full.partition("/")[2])]
    if len(alike) > 1:
        raise AmbiguousNameError(f"Several plugins bring the key map {name!r}.", hint=f"Use {' or '.join(alike)}.")
    return others[alike[0]] if alike else None


def _is_for(key_map: KeyMap, match: Found) -> bool:
    names = (match.model.name, f"{match.row.name}/{match.model.name}")
    return any(fnmatchcase(name, pattern) for name in names for pattern in key_map.models)

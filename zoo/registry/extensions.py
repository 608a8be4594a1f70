"""The extensions of usable plugins by name: data sets, attack methods, look questions, export passes, readers.

The rules are those of models: Zoo's own names come first, then those of built-in families; what third parties contest
among themselves, or with those, is addressed as ``plugin/name``.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

from zoo import registry
from zoo.errors import AmbiguousNameError, UnknownNameError
from zoo.registry.plugin_row import PluginRow
from zoo.spec import Plugin

WORDS = {
    "datasets": "data set",
    "attacks": "attack method",
    "looks": "look question",
    "exports": "export pass",
    "readers": "reader",
}
"""What messages call the extensions in each field of :class:`zoo.Plugin`."""


class Offered(NamedTuple):
    """An extension, the plugin that brings it, and the name by which it is listed."""

    name: str
    plugin: Plugin
    spec: Any


def offered(field: str, core: Collection[str] = ()) -> list[Offered]:
    """All extensions in this ``field`` of usable plugins; ``core`` are Zoo's own names."""
    return [
        Offered(name if _is_short(field, name, row, core) else f"{row.name}/{name}", row.plugin, spec)
        for row in _usable()
        if row.plugin is not None
        for spec in getattr(row.plugin, field)
        for name in [spec.name]
    ]


def find(field: str, name: str, core: Collection[str] = ()) -> Offered | None:
    """The extension ``name`` or ``plugin/name``; None if no plugin brings it, or if it is one of Zoo's own.

    Raises :class:`AmbiguousNameError` if several third parties bring it.
    """
    known = offered(field, core)
    full = [one for one in known if name in (one.name, f"{one.plugin.name}/{one.spec.name}")]
    if full or name in core:
        return full[0] if full else None
    rivals = [one.name for one in known if one.spec.name == name]
    if rivals:
        raise AmbiguousNameError(
            f"Several plugins have the {WORDS[field]} {name!r}.", hint=f"Use {' or '.join(rivals)}."
        )
    return None


def require(field: str, name: str, core: Collection[str] = ()) -> Offered:
    """As :func:`find`; raises :class:`UnknownNameError` with all names if no plugin brings it."""
    found = find(field, name, core)
    if found is None:
        known = names(field, core)
        raise UnknownNameError.of(WORDS[field], name, known, hint=f"Available: {', '.join(known) or 'none'}.")
    return found


def names(field: str, core: Collection[str] = ()) -> list[str]:
    """``core`` and the names of the extensions of plugins."""
    return [*core, *(one.name for one in offered(field, core))]


def _usable() -> list[PluginRow]:
    rows = [row for row in registry.current().plugins if row.plugin is not None and row.status != "broken"]
    return sorted(rows, key=lambda row: not row.is_builtin)


def _is_short(field: str, name: str, row: PluginRow, core: Collection[str]) -> bool:
    owners = [other for other in _usable() if any(spec.name == name for spec in getattr(other.plugin, field))]
    return name not in core and (len(owners) == 1 or (row.is_builtin and owners[0] is row))

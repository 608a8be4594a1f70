"""Finds the installed plugins, one distribution at a time: a damaged one does not affect the others.

Every plugin is found through the entry-point group ``zoo.plugins``, the built-in ones too. These are
what the distribution of Zoo itself declares, whatever another one calls its own.
"""

import importlib.metadata
import logging
import os
import re
from collections.abc import Iterator

from zoo import names
from zoo.registry.plugin_row import DISTRIBUTION, PluginRow, folder_of, name_of

GROUP = "zoo.plugins"
ONLY, WITHOUT = "ZOO_PLUGINS", "ZOO_DISABLE_PLUGINS"

log = logging.getLogger("zoo")


def discover() -> Iterator[PluginRow]:
    """All plugins of this environment, imported if they can be used."""
    only, without = _names_in(ONLY), _names_in(WITHOUT)
    rows = list(_announced())
    _warn_of_unknown({ONLY: only, WITHOUT: without}, {row.name for row in rows})
    for row in sorted(rows, key=lambda row: (names.natural(row.name), not row.is_builtin)):
        rivals = [other for other in rows if other.name == row.name and other is not row]
        if row.name in without:
            row.refuse("disabled", f"listed in {WITHOUT}")
        elif only and row.name not in only:
            row.refuse("disabled", f"not listed in {ONLY}")
        elif rivals and not row.is_builtin:
            of = ", ".join(sorted(other.distribution for other in rivals))
            row.refuse("set aside", f"{of} also has a plugin {row.name!r}: uninstall one of them")
        elif row.status == "ok":
            row.resolve()
        yield row


def _announced() -> Iterator[PluginRow]:
    """A row for each entry point of the group; a distribution whose entry points cannot be read is one row."""
    seen = set()
    for distribution in importlib.metadata.distributions():
        try:
            # Most have none: looking for the group's name is cheaper than parsing all that they have.
            if GROUP not in (distribution.read_text("entry_points.txt") or ""):
                continue
            found = [point for point in distribution.entry_points if point.group == GROUP]
            damage = ""
        except Exception as error:  # not UTF-8, or no entry points: the standard library raises what it runs into
            text = getattr(error, "object", GROUP.encode())
            if GROUP.encode() not in text:  # it has no plugins
                continue
            found, damage = [], f"its entry_points.txt cannot be read: {error}"
        # Its metadata says the name too, but is parsed as an e-mail: too slow for every command.
        name = folder_of(distribution).partition("-")[0] or name_of(distribution)
        key = re.sub(r"[-_.]+", "-", name).lower()  # as pip compares names; the first on the path is the one
        if key in seen:
            continue
        seen.add(key)
        for point in found:
            yield PluginRow(point, distribution, is_builtin=key == DISTRIBUTION)
        if damage:
            row = PluginRow(importlib.metadata.EntryPoint(key, "", GROUP), distribution, is_builtin=False)
            row.refuse("broken", damage)
            yield row


def _names_in(variable: str) -> set[str]:
    return {name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()}


def _warn_of_unknown(asked: dict[str, set[str]], known: set[str]) -> None:
    """Warns of unknown names in the environment variables, which would have no effect."""
    for variable, wanted in asked.items():
        for name in sorted(wanted - known):
            from difflib import get_close_matches

            near = get_close_matches(name, known, n=1)
            guess = f"; did you mean {near[0]}?" if near else ""
            log.warning("%s names %r, but no such plugin is installed%s", variable, name, guess)

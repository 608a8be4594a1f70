"""The installed plugins as rows: from the index, and for what is not in it, or has changed, by importing it.

Every plugin is found through the entry-point group ``zoo.plugins``, the built-in ones too. These are
what the distribution of Zoo itself declares, whatever another one calls its own.
"""

from collections.abc import Iterable, Iterator

from zoo import names
from zoo.registry import choice, index
from zoo.registry.imported import Imported, Key
from zoo.registry.index import Index
from zoo.registry.installed import Distribution, distributions, with_plugins
from zoo.registry.plugin_row import PluginRow
from zoo.registry.search_path import SearchPath
from zoo.registry.seen import Present, stamp_of

UNDER_WAY = "ZOO_IMPORTING_PLUGIN"
"""The environment variable that is set in the process that imports plugins: there, none can be looked up."""


def discover() -> list[PluginRow]:
    """All plugins of this environment."""
    path, known = SearchPath(), index.read()
    installed = distributions(path, known.distributions)
    rows = _rows(with_plugins(installed))
    present = Present(path)
    missing = []
    for row in rows:
        held = known.plugins.get(row.key)
        if row.status != "ok":
            continue
        if held is not None and held.seen is not None and present.confirms(held.seen):
            row.fill(held)
        else:
            missing.append(row)
    now = {distribution.folder: distribution for distribution in installed}
    imported: dict[Key, Imported] = {}
    try:
        for row, found in _imported(missing, path):
            imported[row.key] = found
            row.fill(found)
    finally:  # what was learned before an interrupt is worth keeping
        is_new = any(found.seen is not None for found in imported.values())
        if is_new or now != {folder: known.distributions.get(folder) for folder in now}:
            index.write(_updated(known, now, imported))
    return rows


def installed_names() -> set[str]:
    """The names of all installed plugins, and of distributions whose entry points cannot be read. Imports none."""
    found = with_plugins(distributions(SearchPath(), index.read().distributions))
    return {name for one in found for name in ([one.key] if one.damage else [name for name, _ in one.points])}


def forget(name: str) -> None:
    """Makes the next :func:`discover` import the plugin ``name`` again if it could not be used."""
    known = index.read()
    kept = {key: held for key, held in known.plugins.items() if key.name != name or held.entry.plugin}
    if len(kept) < len(known.plugins):
        index.write(known._replace(plugins=kept))


def _rows(installed: Iterable[Distribution]) -> list[PluginRow]:
    """A row for each entry point; those that are disabled, damaged or have rivals are refused."""
    rows = []
    for distribution in installed:
        rows += [PluginRow(name, target, distribution) for name, target in distribution.points]
        if distribution.damage:
            rows.append(row := PluginRow(distribution.key, "", distribution))
            row.refuse("broken", distribution.damage)
    chosen = choice.read()
    by_name: dict[str, list[PluginRow]] = {}
    for row in rows:
        by_name.setdefault(row.name, []).append(row)
    chosen.warn_of_unknown(by_name)
    for row in rows:
        rivals = [other for other in by_name[row.name] if other is not row]
        if reason := chosen.why_disabled(row.name):
            row.refuse("disabled", reason)
        elif rivals and not row.is_builtin:
            of = ", ".join(sorted(other.distribution for other in rivals))
            row.refuse("set aside", f"{of} also has a plugin {row.name!r}: uninstall one of them")
    return sorted(rows, key=lambda row: (names.natural(row.name), not row.is_builtin))


def _imported(rows: list[PluginRow], path: SearchPath) -> Iterator[tuple[PluginRow, Imported]]:
    if not rows:
        return
    from zoo.registry import importing

    for row in rows:
        if row.is_builtin:
            yield row, importing.import_own(row, path)
    others = [row for row in rows if not row.is_builtin]
    yield from zip(others, importing.import_others(others, path), strict=True)


def _updated(known: Index, now: dict[str, Distribution], imported: dict[Key, Imported]) -> Index:
    """``known`` with what was found now. What other processes have on their paths stays while it exists."""
    others = {folder: one for folder, one in known.distributions.items() if folder not in now and _is_there(folder)}
    every = {**others, **now}
    plugins = {**known.plugins, **imported}
    return Index(every, {key: held for key, held in plugins.items() if _declares(every.get(key.folder), key)})


def _is_there(folder: str) -> bool:
    return stamp_of(f"{folder}/entry_points.txt") is not None


def _declares(distribution: Distribution | None, key: Key) -> bool:
    return distribution is not None and (key.name, key.target) in distribution.points

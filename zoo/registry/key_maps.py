"""The key maps for a model: those of its own plugin, and those that other plugins bring for it, ``plugin/name``.

The rules are those of models: a name of the model's own plugin stays its own, and what third parties contest has to be
spelled out. A conversion tries the plugin's own maps; another one is used if it is asked for.
"""

from fnmatch import fnmatchcase

from msgspec.structs import replace

from zoo import registry
from zoo.errors import AmbiguousNameError
from zoo.registry.named import Found
from zoo.spec import KeyMap


def own(found: Found) -> list[KeyMap]:
    """Returns the key maps of the model's own plugin that are for it."""
    return [key_map for key_map in found.plugin.key_maps if not key_map.models or _is_for(key_map, found)]


def brought(found: Found) -> dict[str, KeyMap]:
    """Returns the key maps that other plugins bring for the model, by full name, ``plugin/name``, which is theirs."""
    return {
        full: replace(key_map, name=full)
        for row in registry.current().plugins
        if row.name != found.row.name and row.status != "broken" and row.bare is not None
        for key_map in row.bare.key_maps
        if key_map.models and _is_for(key_map, found)
        for full in [f"{row.name}/{key_map.name}"]
    }


def find(found: Found, name: str) -> KeyMap | None:
    """Returns the key map ``name`` or ``plugin/name`` that is for the model; None if there is none.

    Raises :class:`AmbiguousNameError` if several plugins bring it.
    """
    for key_map in own(found):
        if name in (key_map.name, f"{found.row.name}/{key_map.name}"):
            return key_map
    others = brought(found)
    alike = [full for full in others if name in (full, full.partition("/")[2])]
    if len(alike) > 1:
        raise AmbiguousNameError(f"Several plugins bring the key map {name!r}.", hint=f"Use {' or '.join(alike)}.")
    return others[alike[0]] if alike else None


def _is_for(key_map: KeyMap, found: Found) -> bool:
    names = (found.model.name, f"{found.row.name}/{found.model.name}")
    return any(fnmatchcase(name, pattern) for name in names for pattern in key_map.models)

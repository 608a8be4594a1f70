"""Entry points to plugins to models.

Every plugin is found through the entry-point group ``zoo.plugins``, the built-in ones too. A plugin
that cannot be used becomes a row with the reason and harms nothing else. Two plugins or two models
with one name never depend on the order of installation: the built-in distribution owns short names,
a third party's same name is reached as ``plugin/arch``, and what third parties contest among
themselves has to be spelled out. The models of a collection have no short names: nothing is read of
it until one of them is asked for.
"""

import contextlib
import importlib.metadata
import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import msgspec

from zoo import manifest, names
from zoo.errors import AmbiguousNameError, ManifestError, PluginError, UnknownNameError
from zoo.manifest import Weights
from zoo.plugins import DISTRIBUTION, PluginRow, hook, resource
from zoo.spec import Model, Plugin

GROUP = "zoo.plugins"


class Found(NamedTuple):
    """What a name stands for; ``weights`` is None where the name has no tag."""

    row: PluginRow
    plugin: Plugin
    model: Model
    weights: Weights | None


class Listed(NamedTuple):
    """A model as the list shows it: under its short name, or ``plugin/arch`` where that is taken."""

    name: str
    row: PluginRow
    model: Model
    weights: tuple[Weights, ...]


class Described(NamedTuple):
    """Weights, and the directory of ``ZOO_HUB`` whose manifest says what they are."""

    folder: str
    weights: Weights


class Registry:
    """All plugins of this environment, read-only."""

    def __init__(self, rows: list[PluginRow], local: "dict[str, tuple[Described, ...]] | None" = None) -> None:
        self.plugins = tuple(rows)
        self._local = local or {}
        self._owners: dict[str, list[tuple[PluginRow, Model]]] = {}
        for row in sorted(self.plugins, key=lambda row: not row.is_builtin):
            for model in row.plugin.models if row.plugin else ():
                self._owners.setdefault(model.name, []).append((row, model))

    @property
    def collections(self) -> tuple[PluginRow, ...]:
        return tuple(row for row in self.plugins if row.is_collection)

    def models(self, collections: Iterable[PluginRow] = ()) -> list[Listed]:
        """Every usable model, sorted naturally; of collections, those of the given ones.

        A plugin with a bad manifest or collection turns ``broken`` here.
        """
        listed = []
        for row in collections:
            with contextlib.suppress(ManifestError, PluginError):
                listed += [Listed(name, row, model, self.weights_of(row, model)) for name, model in row.models.items()]
        for arch, owners in self._owners.items():
            for row, model in owners:
                with contextlib.suppress(ManifestError):
                    listed.append(Listed(self._listed_name(arch, row), row, model, self.weights_of(row, model)))
        return sorted(listed, key=lambda entry: names.natural(entry.name))

    def find(self, text: str) -> Found:
        """What ``text`` stands for.

        Raises :class:`UnknownNameError` with the nearest names, :class:`AmbiguousNameError` where
        several third parties claim a short name.
        """
        name = names.parse(text)
        row, model = self._find_model(name)
        assert row.plugin is not None
        found = Found(row, row.plugin, model, None)
        return self.tagged(found, name.tag) if name.tag else found

    def tagged(self, found: Found, tag: str) -> Found:
        """``found`` with its model's weights ``tag``; raises :class:`UnknownNameError` with the tags there are."""
        arch = found.model.name
        tags = {weights.tag: weights for weights in self.weights_of(found.row, found.model)}
        if tag not in tags:
            known = [f"{arch}.{other}" for other in tags]
            hint = f"It has {', '.join(known)}." if known else f"No weights are known for {arch}."
            raise UnknownNameError.of("weights", f"{arch}.{tag}", known, hint=hint)
        return found._replace(weights=tags[tag])

    def weights_of(self, row: PluginRow, model: Model) -> tuple[Weights, ...]:
        """The model's weights, those of the plugin's manifests first; the first is its default."""
        try:
            own = row.weights.get(model.name, ())
        except ManifestError as error:
            row.status, row.reason = "broken", str(error)
            raise
        taken = {weights.tag for weights in own}
        is_short = row.is_collection or self._owners[model.name][0][0] is row
        extra = tuple(one.weights for one in self._local.get(model.name, ())) if is_short else ()
        return own + tuple(weights for weights in extra if weights.tag not in taken)

    def folder_of(self, weights: Weights) -> str:
        """The directory of ``ZOO_HUB`` whose manifest says what ``weights`` are; empty where a plugin's does."""
        return next((one.folder for one in self._local.get(weights.arch, ()) if one.weights == weights), "")

    def _listed_name(self, arch: str, row: PluginRow) -> str:
        owners = self._owners[arch]
        is_short = len(owners) == 1 or (row.is_builtin and owners[0][0] is row)
        return arch if is_short else f"{row.name}/{arch}"

    def _find_model(self, name: names.Name) -> tuple[PluginRow, Model]:
        owners = self._owners.get(name.arch, [])
        if name.plugin:
            for row, model in owners:
                if row.name == name.plugin:
                    return row, model
            for row in self.collections:
                full = f"{name.plugin}/{name.arch}"
                if row.name == name.plugin:
                    if full not in row.models:
                        hint = f"zoo list '{row.name}/*' shows its models."
                        raise UnknownNameError.of("model", full, row.models, hint=hint)
                    return row, row.models[full]
            self._explain_plugin(name.plugin)
            known = [f"{row.name}/{arch}" for arch, owners in self._owners.items() for row, _ in owners]
            raise UnknownNameError.of("model", f"{name.plugin}/{name.arch}", known, hint="zoo list shows all models.")
        if not owners:
            raise self._unknown(name.arch)
        if len(owners) > 1 and not owners[0][0].is_builtin:
            candidates = " or ".join(sorted(f"{row.name}/{name.arch}" for row, _ in owners))
            raise AmbiguousNameError(f"Several plugins have a model {name.arch!r}.", hint=f"Say {candidates}.")
        return owners[0]

    def _unknown(self, arch: str) -> UnknownNameError:
        """The error for a short name that nobody has; what a collection calls so is what was meant."""
        for row in self.collections:
            with contextlib.suppress(PluginError):
                if (full := f"{row.name}/{arch}") in row.models:
                    return UnknownNameError(f"Unknown model {arch!r}.", hint=f"Did you mean {full}?")
        return UnknownNameError.of("model", arch, self._owners, hint="zoo list shows all models.")

    def _explain_plugin(self, plugin: str) -> None:
        rows = [row for row in self.plugins if row.name == plugin]
        if not rows:
            raise UnknownNameError.of(
                "plugin", plugin, (row.name for row in self.plugins), hint="zoo plugins shows all plugins."
            )
        if all(row.plugin is None for row in rows):
            raise PluginError(f"Plugin {plugin!r} is {rows[0].status}: {rows[0].reason}", hint="zoo plugins shows all.")


@cache
def load() -> Registry:
    """The registry of this process, read once."""
    return Registry(list(_discover()), _local_weights())


def clear() -> None:
    """Forgets the registry, so that :func:`load` looks again."""
    load.cache_clear()


def _discover() -> Iterator[PluginRow]:
    only, without = _names_in("ZOO_PLUGINS"), _names_in("ZOO_DISABLE_PLUGINS")
    builtin = _builtin_entry_points()
    rows = [
        PluginRow(entry_point, is_builtin=(entry_point.name, entry_point.value) in builtin)
        for entry_point in importlib.metadata.entry_points(group=GROUP)
    ]
    for row in sorted(rows, key=lambda row: (names.natural(row.name), not row.is_builtin)):
        rivals = [other for other in rows if other.name == row.name and other is not row]
        if row.name in without:
            row.refuse("disabled", "ZOO_DISABLE_PLUGINS names it")
        elif only and row.name not in only:
            row.refuse("disabled", "ZOO_PLUGINS does not name it")
        elif rivals and not row.is_builtin:
            of = ", ".join(sorted(other.distribution for other in rivals))
            row.refuse("set aside", f"{of} has a plugin {row.name!r} too: uninstall one of them")
        else:
            row.load()
        yield row


def _names_in(variable: str) -> set[str]:
    return {name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()}


def _builtin_entry_points() -> set[tuple[str, str]]:
    try:
        distribution = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:  # run from a source tree that was never installed
        return set()
    return {(found.name, found.value) for found in distribution.entry_points if found.group == GROUP}


def _local_weights() -> dict[str, tuple[Described, ...]]:
    """Weights that a directory named by ``ZOO_HUB`` describes in a ``manifest.toml`` of its own.

    Their files lie in that directory, or else where the entry says. They add names and never replace any:
    a mirror is not trusted to say what a known name means.
    """
    found: dict[str, tuple[Described, ...]] = {}
    for address in filter(None, map(str.strip, os.environ.get("ZOO_HUB", "").split(","))):
        file = Path(address, "manifest.toml")
        if "://" not in address and file.is_file():
            try:
                entries = manifest.read(file)
            except ManifestError as error:  # as of a plugin: it must not take the others along
                import logging

                logging.getLogger("zoo").warning("%s is left out: %s", address, error)
                continue
            for entry in entries:
                if (entry.hub == "hf" and not entry.revision) or Path(address, entry.path).is_file():
                    entry = msgspec.structs.replace(entry, hub=address)
                found[entry.arch] = (*found.get(entry.arch, ()), Described(address, entry))
    return found


__all__ = ["DISTRIBUTION", "Found", "Listed", "PluginRow", "Registry", "clear", "hook", "load", "resource"]

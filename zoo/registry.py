"""Entry points to plugins to models.

Every plugin is found through the entry-point group ``zoo.plugins``, the built-in ones too. A plugin
that cannot be used becomes a row with the reason and harms nothing else. Two plugins or two models
with one name never depend on the order of installation: the built-in distribution owns short names,
a third party's same name is reached as ``plugin/arch``, and what third parties contest among
themselves has to be spelled out.
"""

import contextlib
import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from zoo import manifest, names
from zoo.errors import AmbiguousNameError, ManifestError, MissingExtraError, PluginError, UnknownNameError
from zoo.manifest import Weights
from zoo.spec import API, Model, Plugin, Requirement

GROUP = "zoo.plugins"
DISTRIBUTION = "zoo-vision"


class PluginRow:
    """One entry point and what became of it.

    ``status`` is ``ok``, ``broken`` (its import or its manifest failed), ``set aside`` (a conflict
    or a newer contract) or ``disabled`` (by ``ZOO_PLUGINS`` or ``ZOO_DISABLE_PLUGINS``); ``reason``
    says why it is not ``ok``. ``plugin`` is None unless the plugin can be used.
    """

    def __init__(self, entry_point: importlib.metadata.EntryPoint, *, is_builtin: bool) -> None:
        self.name = entry_point.name
        self.is_builtin = is_builtin
        self.status = "ok"
        self.reason = ""
        self.plugin: Plugin | None = None
        self._entry_point = entry_point

    def refuse(self, status: str, reason: str) -> None:
        self.status, self.reason, self.plugin = status, reason, None

    def load(self) -> None:
        """Imports the plugin; whatever goes wrong there becomes the reason."""
        try:
            with contextlib.redirect_stdout(sys.stderr):  # a chatty plugin must not spoil --json
                value = self._entry_point.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # sys.exit at import is a BaseException too
            return self.refuse("broken", f"importing {self._entry_point.value} raised {type(error).__name__}: {error}")
        if not isinstance(value, Plugin):
            return self.refuse(
                "broken", f"{self._entry_point.value} is a {type(value).__name__}, not a zoo.spec.Plugin"
            )
        if value.api > API:
            return self.refuse(
                "set aside", f"it needs plugin contract {value.api}, this Zoo has {API}: pip install -U {DISTRIBUTION}"
            )
        if value.name != self.name:
            return self.refuse("broken", f"its entry point is called {self.name!r}, the plugin {value.name!r}")
        self.plugin = value
        return None

    # A distribution's metadata is parsed as an e-mail: too slow to do for a plugin nobody asks about.
    @cached_property
    def distribution(self) -> str:
        return self._entry_point.dist.name if self._entry_point.dist else ""

    @cached_property
    def version(self) -> str:
        return self._entry_point.dist.version if self._entry_point.dist else ""

    @cached_property
    def weights(self) -> dict[str, tuple[Weights, ...]]:
        """The plugin's manifests, by architecture; raises :class:`ManifestError`."""
        if self.plugin is None:
            return {}
        found: dict[str, dict[str, Weights]] = {model.name: {} for model in self.plugin.models}
        for address in self.plugin.weights:
            file = resource(address)
            for entry in manifest.read(file):
                if entry.arch not in found:
                    raise ManifestError(f"{file}: [{entry.name}]: plugin {self.name!r} has no model {entry.arch!r}")
                if entry.tag in found[entry.arch]:
                    raise ManifestError(f"{file}: [{entry.name}] is given twice")
                found[entry.arch][entry.tag] = entry
        return {arch: tuple(tags.values()) for arch, tags in found.items()}


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


class Registry:
    """All plugins of this environment, read-only."""

    def __init__(self, rows: list[PluginRow], local: dict[str, tuple[Weights, ...]] | None = None) -> None:
        self.plugins = tuple(rows)
        self._local = local or {}
        self._owners: dict[str, list[tuple[PluginRow, Model]]] = {}
        for row in sorted(self.plugins, key=lambda row: not row.is_builtin):
            for model in row.plugin.models if row.plugin else ():
                self._owners.setdefault(model.name, []).append((row, model))

    def models(self) -> list[Listed]:
        """Every usable model, sorted naturally. A plugin with a bad manifest turns ``broken`` here."""
        listed = []
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
        if not name.tag:
            return Found(row, row.plugin, model, None)
        tags = {weights.tag: weights for weights in self.weights_of(row, model)}
        if name.tag not in tags:
            known = [f"{model.name}.{tag}" for tag in tags]
            hint = f"It has {', '.join(known)}." if known else f"No weights are known for {model.name}."
            raise UnknownNameError.of("weights", f"{model.name}.{name.tag}", known, hint=hint)
        return Found(row, row.plugin, model, tags[name.tag])

    def weights_of(self, row: PluginRow, model: Model) -> tuple[Weights, ...]:
        """The model's weights, those of the plugin's manifests first; the first is its default."""
        try:
            own = row.weights.get(model.name, ())
        except ManifestError as error:
            row.status, row.reason = "broken", str(error)
            raise
        taken = {weights.tag for weights in own}
        is_short = self._owners[model.name][0][0] is row
        extra = self._local.get(model.name, ()) if is_short else ()
        return own + tuple(weights for weights in extra if weights.tag not in taken)

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
            self._explain_plugin(name.plugin)
            known = [f"{row.name}/{arch}" for arch, owners in self._owners.items() for row, _ in owners]
            raise UnknownNameError.of("model", f"{name.plugin}/{name.arch}", known, hint="zoo list shows all models.")
        if not owners:
            raise UnknownNameError.of("model", name.arch, self._owners, hint="zoo list shows all models.")
        if len(owners) > 1 and not owners[0][0].is_builtin:
            candidates = " or ".join(sorted(f"{row.name}/{name.arch}" for row, _ in owners))
            raise AmbiguousNameError(f"Several plugins have a model {name.arch!r}.", hint=f"Say {candidates}.")
        return owners[0]

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


def hook(target: str, requires: tuple[Requirement, ...] = ()) -> Callable[..., Any]:
    """Imports ``"package.module:function"``; says what to install where a requirement is missing."""
    for requirement in requires:
        if importlib.util.find_spec(requirement.module.partition(".")[0]) is None:
            raise MissingExtraError.of(target, requirement.module, requirement.install)
    module, _, function = target.partition(":")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise PluginError(f"Hook {target!r} cannot be imported: {error}") from error
    return found


def resource(address: str) -> Path:
    """The file that ``"package:path"`` names; finding it imports no package."""
    package, _, path = address.partition(":")
    try:
        spec = importlib.util.find_spec(package)
    except (ModuleNotFoundError, ValueError):  # of a package within a package, or of no name at all
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ManifestError(f"{address}: there is no package {package!r}")
    return Path(next(iter(spec.submodule_search_locations)), path)


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


def _local_weights() -> dict[str, tuple[Weights, ...]]:
    """Weights that a directory named by ``ZOO_HUB`` describes in a ``manifest.toml`` of its own.

    They add names and never replace any: a mirror is not trusted to say what a known name means.
    """
    found: dict[str, tuple[Weights, ...]] = {}
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
                entry = msgspec.structs.replace(entry, hub=address)
                found[entry.arch] = (*found.get(entry.arch, ()), entry)
    return found


__all__ = ["Found", "Listed", "PluginRow", "Registry", "clear", "hook", "load", "resource"]

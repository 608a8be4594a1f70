"""The contents of a plugin: its models, their weights and its key maps, from its rows, manifests and collection."""

import posixpath
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from zoo import manifest
from zoo.errors import ManifestError, PluginError
from zoo.manifest import Weights
from zoo.registry.hooks import COLLECTION, hook, resource
from zoo.spec import KeyMap, Model, Plugin


class Architecture(NamedTuple):
    """A model and its weights, first those of the plugin's manifests."""

    model: Model
    weights: tuple[Weights, ...] = ()


class Contents(NamedTuple):
    """The architectures of a plugin by name, the weights that it ``brought`` for models of others, and its key maps.

    Without weights and key maps of manifests if ``fault`` says why these cannot be read.
    """

    architectures: dict[str, Architecture]
    fault: str = ""
    brought: Mapping[str, tuple[Weights, ...]] = {}
    key_maps: tuple[KeyMap, ...] = ()


def contents_of(plugin: Plugin) -> Contents:
    """Reads the manifests and the collection of ``plugin``; raises :class:`PluginError` if the collection is invalid.

    A manifest entry for weights of a collection replaces the collection's own; one for a model of another plugin is
    brought for that.
    """
    models, collected = _collected(plugin) if plugin.collection else (plugin.models, ())
    try:
        key_maps = plugin.key_maps + tuple(_key_maps(plugin))
        weights, brought = _weights(plugin, models, collected, {key_map.name for key_map in key_maps})
    except ManifestError as error:
        return Contents({model.name: Architecture(model) for model in models}, str(error), {}, plugin.key_maps)
    architectures = {model.name: Architecture(model, tuple(weights[model.name].values())) for model in models}
    return Contents(architectures, "", {arch: tuple(entries) for arch, entries in brought.items()}, key_maps)


def packages_of(target: str, plugin: Plugin) -> tuple[str, ...]:
    """Returns the top-level packages with the plugin's code and manifests."""
    addresses = [target, *plugin.weights, *filter(None, [plugin.collection])]
    return tuple(sorted({top_of(address) for address in addresses}))


def top_of(address: str) -> str:
    """Returns the top-level package of ``"package.module:name"``."""
    return re.split("[.:]", address)[0].strip()


def _key_maps(plugin: Plugin) -> Iterator[KeyMap]:
    """Yields the key maps of the plugin's manifests."""
    names = {key_map.name for key_map in plugin.key_maps}
    for address in plugin.weights:
        file = resource(address)
        for key_map in manifest.key_maps(file):
            if key_map.name in names:
                raise ManifestError(f"{file}: [key_maps.{key_map.name}] is defined twice")
            if not (key_map.models or plugin.models or plugin.collection):
                raise ManifestError(f'{file}: [key_maps.{key_map.name}]: models is missing: models = ["resnet20"]')
            names.add(key_map.name)
            yield key_map


def _weights(
    plugin: Plugin, models: Sequence[Model], collected: Sequence[Weights], key_maps: Collection[str]
) -> tuple[dict[str, dict[str, Weights]], dict[str, list[Weights]]]:
    """Returns the weights of the plugin's own models by name and tag, and those of others' models by name."""
    by_arch: dict[str, dict[str, Weights]] = {model.name: {} for model in models}
    brought: dict[str, list[Weights]] = {}
    full_names: set[str] = set()
    present = {alias: model.name for model in models for alias in model.aliases}
    for address in plugin.weights:
        file = resource(address)
        for entry in manifest.read(file):
            if entry.arch in present:
                entry = replace(entry, arch=present[entry.arch])
            if entry.is_relative:
                entry = _placed(entry, address, file)
            if entry.arch not in by_arch:
                alien = _brought(plugin, entry, file, by_arch, key_maps)
                if alien.name in full_names:
                    raise ManifestError(f"{file}: two entries have the name {alien.name}: [{entry.name}] is one")
                full_names.add(alien.name)
                brought.setdefault(entry.arch, []).append(alien)
                continue
            if entry.tag in by_arch[entry.arch]:
                raise ManifestError(f"{file}: [{entry.name}] is defined twice")
            by_arch[entry.arch][entry.tag] = entry
    for entry in collected:
        by_arch[entry.arch].setdefault(entry.tag, entry)
    return by_arch, brought


def _placed(entry: Weights, address: str, file: Path) -> Weights:
    """Returns ``entry``, whose hub is relative to the manifest at ``address``, with its place in the manifest's
    package.
    """
    package, _, path = address.partition(":")
    folder = posixpath.normpath(posixpath.join(posixpath.dirname(path), entry.hub, entry.repo))
    try:
        return replace(entry, hub=f"embedded:{package}", repo="" if folder == "." else folder)
    except ValueError:
        raise ManifestError(f"{file}: [{entry.name}] hub: {entry.hub!r} leaves the package {package!r}") from None


def _brought(plugin: Plugin, entry: Weights, file: Path, archs: Collection[str], key_maps: Collection[str]) -> Weights:
    """Returns ``entry``, weights of another plugin's model, under its full name, ``plugin/arch.tag``."""
    owner, _, short = entry.arch.rpartition("/")
    if owner == plugin.name:
        raise ManifestError(f"{file}: [{entry.name}]: plugin {plugin.name!r} has no model {short!r}")
    if short in archs:
        raise ManifestError(f"{file}: [{entry.name}]: plugin {plugin.name!r} has a model {short!r} itself")
    key_map = f"{plugin.name}/{entry.key_map}" if entry.key_map in key_maps else entry.key_map
    return replace(entry, arch=f"{plugin.name}/{short}", key_map=key_map)


def _collected(plugin: Plugin) -> tuple[Sequence[Model], Sequence[Weights]]:
    target = plugin.collection
    try:
        rows, weights = hook(target, role=COLLECTION)()
        models = {row.name: row if row.api == plugin.api else replace(row, api=plugin.api) for row in rows}
        strange = [name for name in models if not name.startswith(f"{plugin.name}/")]
        strange += [entry.name for entry in weights if entry.arch not in models]
        if strange:
            raise ValueError(f"{strange[0]!r} does not begin with {plugin.name}/")
    except (Exception, SystemExit) as error:  # a plugin's code may raise anything
        raise PluginError(f"its collection {target} raised {type(error).__name__}: {error}") from error
    return [*models.values()], weights

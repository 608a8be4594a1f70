"""What a plugin contains: its models and their weights, from its rows, its manifests and its collection."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from zoo import manifest
from zoo.errors import ManifestError, PluginError
from zoo.manifest import Weights
from zoo.registry.hooks import hook, resource
from zoo.registry.roles import COLLECTION
from zoo.spec import Model, Plugin


class Architecture(NamedTuple):
    """A model and its weights, first those of the plugin's manifests."""

    model: Model
    weights: tuple[Weights, ...] = ()


class Contents(NamedTuple):
    """The architectures of a plugin by name; without weights if ``fault`` says why its manifests cannot be read."""

    architectures: dict[str, Architecture]
    fault: str = ""


def contents_of(plugin: Plugin) -> Contents:
    """Reads the manifests and the collection of ``plugin``; raises :class:`PluginError` if the collection is invalid.

    A manifest entry for weights of a collection replaces the collection's own.
    """
    models, collected = _collected(plugin) if plugin.collection else (plugin.models, ())
    try:
        weights = _weights(plugin, models, collected)
    except ManifestError as error:
        return Contents({model.name: Architecture(model) for model in models}, str(error))
    return Contents({model.name: Architecture(model, tuple(weights[model.name].values())) for model in models})


def packages_of(target: str, plugin: Plugin) -> tuple[str, ...]:
    """The top-level packages with the plugin's code and manifests."""
    addresses = [target, *plugin.weights, *filter(None, [plugin.collection])]
    return tuple(sorted({top_of(address) for address in addresses}))


def top_of(address: str) -> str:
    """The top-level package of ``"package.module:name"``."""
    return re.split("[.:]", address)[0].strip()


def _weights(plugin: Plugin, models: Sequence[Model], collected: Sequence[Weights]) -> dict[str, dict[str, Weights]]:
    found: dict[str, dict[str, Weights]] = {model.name: {} for model in models}
    present = {alias: model.name for model in models for alias in model.aliases}
    for address in plugin.weights:
        file = resource(address)
        for entry in manifest.read(file):
            if entry.arch in present:
                entry = replace(entry, arch=present[entry.arch])
            if entry.arch not in found:
                raise ManifestError(f"{file}: [{entry.name}]: plugin {plugin.name!r} has no model {entry.arch!r}")
            if entry.tag in found[entry.arch]:
                raise ManifestError(f"{file}: [{entry.name}] is defined twice")
            found[entry.arch][entry.tag] = entry
    for entry in collected:
        found[entry.arch].setdefault(entry.tag, entry)
    return found


def _collected(plugin: Plugin) -> tuple[Sequence[Model], Sequence[Weights]]:
    target = plugin.collection
    try:
        given, weights = hook(target, role=COLLECTION)()
        models = {model.name: model for model in given}
        strange = [name for name in models if not name.startswith(f"{plugin.name}/")]
        strange += [entry.name for entry in weights if entry.arch not in models]
        if strange:
            raise ValueError(f"{strange[0]!r} does not begin with {plugin.name}/")
    except (Exception, SystemExit) as error:  # a plugin's code may raise anything
        raise PluginError(f"its collection {target} raised {type(error).__name__}: {error}") from error
    return [*models.values()], weights

"""What there is to create: answered without torch."""

from fnmatch import fnmatchcase
from typing import Any

import msgspec

from zoo import registry
from zoo.manifest import Weights


def list_models(
    pattern: str = "*",
    *,
    family: str | None = None,
    dataset: str | None = None,
    license: str | None = None,
    max_params: int | None = None,
    pretrained: bool = False,
) -> list[str]:
    """Names that match the shell ``pattern`` and all filters, sorted naturally.

    Architectures; with ``pretrained``, a ``dataset``, a ``license`` or a dot in the pattern, weights.
    """
    tagged = pretrained or dataset is not None or license is not None or "." in pattern
    listed = []
    for entry in registry.load().models():
        if (family and entry.row.name != family) or (max_params is not None and entry.model.params > max_params):
            continue
        if not tagged:
            listed.append(entry.name)
            continue
        listed += [
            f"{entry.name}.{weights.tag}"
            for weights in entry.weights
            if (dataset is None or dataset in trained_on(weights))
            and (license is None or weights.license.weights == license)
        ]
    return [name for name in listed if fnmatchcase(name, pattern)]


def trained_on(weights: Weights) -> set[str]:
    """The data sets that weights are about: that of their classes and those they are scored on."""
    return {weights.classes} | {key.partition("/")[0] for key in weights.scores}


def info(name: str) -> dict[str, Any]:
    """All that the registry knows of ``name``, as JSON-able values. Imports no torch."""
    registered = registry.load()
    found = registered.find(name)
    every = [found.weights] if found.weights else registered.weights_of(found.row, found.model)
    model: dict[str, Any] = msgspec.to_builtins(found.model)
    return model | {
        "family": found.row.name,
        "distribution": found.row.distribution,
        "version": found.row.version,
        "weights": [msgspec.to_builtins(weights) | {"name": weights.name} for weights in every],
    }

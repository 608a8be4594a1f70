"""What can be created, listed without torch."""

from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import msgspec

from zoo import registry
from zoo.manifest import Weights
from zoo.registry import Listed
from zoo.spec import Model


class Selected(NamedTuple):
    """A line of the list: a model, or ``weights`` of it."""

    name: str
    entry: Listed
    weights: Weights | None


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

    ``license`` is a shell pattern too, of the weights' own licence in either case: ``apache*``.
    Architectures; with ``pretrained``, a ``dataset``, a ``license`` or a dot in the pattern, weights:
    without a dot, all of the models that it matches.
    Those of a collection are left out unless ``family`` or the part of the pattern before a slash
    names it: ``list_models("plugin/*")``.
    """
    chosen = select(
        pattern, family=family, dataset=dataset, license=license, max_params=max_params, pretrained=pretrained
    )
    return [line.name for line in chosen]


def select(
    pattern: str,
    *,
    family: str | None,
    dataset: str | None,
    license: str | None,
    max_params: int | None,
    pretrained: bool,
) -> list[Selected]:
    """As :func:`list_models`, with what stands behind each name."""
    tagged = pretrained or dataset is not None or license is not None or "." in pattern
    lines: list[Selected] = []
    registered = registry.load()
    asked = [row for row in registered.collections if row.name == family or _addresses(pattern, row.name)]
    if family is not None and "/" not in pattern and asked:
        pattern = f"{family}/{pattern}"
    for entry in registered.models(asked):
        if family not in (None, entry.row.name):
            continue
        if not tagged and (max_params is None or params_of(entry.model) <= max_params):
            lines.append(Selected(entry.name, entry, None))
        lines += [
            Selected(f"{entry.name}.{weights.tag}", entry, weights)
            for weights in entry.weights
            if tagged
            and (max_params is None or params_of(entry.model, weights) <= max_params)
            and (dataset is None or dataset in trained_on(weights))
            and (license is None or fnmatchcase(weights.license.weights.casefold(), license.casefold()))
        ]
    # A pattern without a tag is about models, also where their weights are what is listed.
    names_models = "." not in pattern
    return [
        line
        for line in lines
        if fnmatchcase(line.name, pattern) or (names_models and fnmatchcase(line.entry.name, pattern))
    ]


def params_of(model: Model, weights: Weights | None = None) -> int:
    """How many learnable elements the network has that ``weights`` make of ``model``; 0 if not stated."""
    return model.params if weights is None or weights.params is None else weights.params


def macs_of(model: Model, weights: Weights | None = None) -> int:
    """Its multiply-adds for one image; 0 if not stated, also for weights that take input of another size."""
    if weights is None or weights.macs is not None:
        return model.macs if weights is None else weights.macs or 0
    is_same = weights.preprocess is None or weights.preprocess.input_size == model.preprocess.input_size
    return model.macs if is_same else 0


def _addresses(pattern: str, plugin: str) -> bool:
    before, slash, _ = pattern.partition("/")
    return bool(slash) and fnmatchcase(plugin, before)


def left_out(pattern: str, family: str | None) -> list[str]:
    """The collections that :func:`list_models` does not look into. Nothing is read of them."""
    rows = registry.load().collections
    return [row.name for row in rows if family is None and not _addresses(pattern, row.name)]


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
        "weights": [
            msgspec.to_builtins(weights)
            | {
                "name": weights.name,
                "params": params_of(found.model, weights),
                "macs": macs_of(found.model, weights),
            }
            for weights in every
        ],
    }

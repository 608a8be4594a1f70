"""``zoo list``: the models and weights there are. Nothing here imports torch."""

from collections.abc import Iterable
from typing import Any

import click

from zoo import registry
from zoo.cli import options
from zoo.cli.output import count, note, print_json, print_table, size
from zoo.errors import LockError, UnknownNameError, ZooError
from zoo.manifest import Weights
from zoo.names import is_repository
from zoo.registry import Listed, PluginRow, listing
from zoo.system import garbage


@click.command("list", epilog="Example: zoo list 'resnet*' --pretrained --dataset cifar10")
@click.argument("pattern", default="*", shell_complete=options.complete_name)
@click.option(
    "--family",
    callback=options.check_family,
    shell_complete=options.complete_family,
    help="List only models of this plugin.",
)
@click.option("--dataset", help="List only weights trained for or scored on this data set.")
@click.option(
    "--licence", "--license", "license", metavar="GLOB", help="List only weights with a licence such as 'apache*'."
)
@click.option(
    "--max-params",
    metavar="N",
    callback=options.check_amount,
    help="List only models with at most N parameters, such as 300k or 25M.",
)
@click.option(
    "--min-top1", metavar="PERCENT", type=click.FloatRange(0, 100), help="List only weights with at least this top-1."
)
@options.choice(
    "--sort", values=listing.SORTS, help="Order: highest top-1, fewest params or macs, or latest year first."
)
@click.option("--pretrained", "--weights", "pretrained", is_flag=True, help="List weights and their scores.")
@click.option("--offline", is_flag=True, help="List only weights that work without a network now.")
@options.json
@garbage.paused()
def list_models(pattern: str, as_json: bool, offline: bool, **filters: Any) -> None:
    """List models and weights.

    PATTERN matches names. A pattern with a dot, such as 'resnet20.*', lists weights and their scores; a pattern that
    begins with a collection's name and a slash, such as 'timm/resnet*', lists the models of that library.
    """
    filters["pretrained"] |= offline
    lines = listing.select(pattern, **filters)
    here = at_hand({line.entry.name: line.entry for line in lines}.values())
    if offline:
        lines = [line for line in lines if line.name in here]
    weights = [(line.entry, line.weights) for line in lines if line.weights]
    models = [line.entry for line in lines if not line.weights]
    if as_json:
        return print_json(
            [_describe(entry, here) for entry in models] + [_describe_weights(*one, here) for one in weights]
        )
    if models:
        _print_models(models, here)
    if weights:
        print_weights(weights, here)
    for entry in {line.entry.name: line.entry for line in lines if line.entry.model.deprecated}.values():
        note(f"{entry.name} is deprecated: {entry.model.deprecated}.")
    if not lines:
        is_filtered = any(value for name, value in filters.items() if name != "sort")
        note(f"Nothing matches {pattern!r}{' and the filters' if is_filtered else ''}.")
        _guess(pattern, filters["dataset"])
    for name in listing.left_out(pattern, filters["family"]):
        note(f"Not listed: {name}'s models; zoo list '{name}/{pattern.rpartition('/')[2]}' lists them.")
    note_unusable()
    return None


def note_unusable() -> None:
    """Says which plugins' models are missing."""
    unusable = [row.name for row in registry.current().plugins if row.status in ("broken", "set aside")]
    if unusable:
        note(f"Not shown: plugins that cannot be used ({', '.join(unusable)}); zoo plugins shows why.")


def at_hand(listed: Iterable[Listed]) -> set[str]:
    """Returns the names of those weights of ``listed`` that need no network."""
    from zoo.hub.maintenance import LocalFiles
    from zoo.trust import first_use

    here = LocalFiles()
    try:
        entries = [*first_use.entries(listed)]
    except LockError as error:  # it concerns only weights that no manifest pins
        note(error.message)
        entries = [(entry, weights) for entry in listed for weights in entry.weights]
    return {f"{entry.name}.{weights.tag}" for entry, weights in entries if here.has(weights)}


def _guess(pattern: str, dataset: str | None) -> None:
    """Prints suggestions if nothing matches."""
    if dataset is not None:
        listed = registry.current().models()
        data_sets = {data for entry in listed for weights in entry.weights for data in listing.trained_on(weights)}
        every = f"Data sets: {', '.join(sorted(data_sets - {''}))}."
        if dataset not in data_sets:
            near = UnknownNameError.of("", dataset, data_sets, hint=every).hint
            note(f"No weights are for a data set {dataset!r}. {near}")
    if is_repository(pattern):
        return note(f"Repositories are not listed; zoo info {pattern} shows one.")
    if {"*", "?", "["} & set(pattern):
        return None
    try:
        registry.current().find(pattern)
    except UnknownNameError as error:
        note(error.hint)
        note(f"Try zoo list '{pattern}*'.")
    except ZooError:
        pass
    return None


def _print_models(entries: list[Listed], here: set[str]) -> None:
    rows = [
        (
            entry.name,
            _family(entry.row),
            _params(entry),
            str(entry.model.paper.year) if entry.model.paper else "",
            ", ".join(["fitted"] * entry.model.fitted + ["deprecated"] * bool(entry.model.deprecated)),
            ", ".join(_tag(entry, weights, f"{entry.name}.{weights.tag}" in here) for weights in entry.weights),
        )
        for entry in entries
    ]
    print_table(("model", "family", "params", "year", "remark", "weights"), rows, right=("params", "year"))
    if any(not weights.pinned for entry in entries for weights in entry.weights):
        note("* not pinned: no sha256 is recorded.")
    if here:
        note("+ works offline: the file is on this machine.")


def _params(entry: Listed, weights: Weights | None = None) -> str:
    number = listing.params_of(entry.model, weights)
    return "0" if entry.model.fitted and not number else count(number)


def _tag(entry: Listed, weights: Weights, is_here: bool) -> str:
    """Returns the tag; ``*`` if it is not pinned, ``+`` if it needs no network; its epochs if it was trained for a few.

    Also whether it is the default of several, the parameters that fitting decided on, and the distribution, if it is
    not that of the model.
    """
    marks = "*" * (not weights.pinned) + "+" * is_here
    bringer = registry.current().bringer_of(entry, weights.tag)
    params = listing.params_of(entry.model, weights)
    grown = [f"{count(params)} params"] * (params != entry.model.params and entry.model.fitted)
    remarks = ["default"] * (len(entry.weights) > 1 and is_default(entry, weights))
    remarks += grown + [epochs(weights)] * bool(weights.epochs) + ([f"from {bringer.distribution}"] if bringer else [])
    return weights.tag + marks + (f" ({', '.join(remarks)})" if remarks else "")


def is_default(entry: Listed, weights: Weights) -> bool:
    """Returns whether the model's name alone means ``weights``."""
    return weights == registry.current().default_of(entry.row, entry.model)


def epochs(weights: Weights) -> str:
    """Returns ``60 epochs``, or nothing if it is unknown."""
    return f"{weights.epochs} epoch{'s' if weights.epochs != 1 else ''}" if weights.epochs is not None else ""


def print_weights(listed: list[tuple[Listed, Weights]], here: set[str]) -> None:
    """Prints weights with their scores; ``here`` names those that need no network."""
    rows = []
    for entry, weights in listed:
        split, score = listing.main_score(weights)
        rows.append(
            (
                f"{entry.name}.{weights.tag}",
                "" if (source := _source(entry, weights)).is_builtin else source.distribution,
                _params(entry, weights),
                "" if not score or score.top1 is None else score.spread.words if score.spread else f"{score.top1:.2f}%",
                split,
                ("fitted" if entry.model.fitted else "") if weights.epochs is None else str(weights.epochs),
                weights.license.weights,
                size(weights.size),
                weights.sha256[:8] if weights.pinned else "not pinned",
                "yes" if is_default(entry, weights) else "",
                "yes" if f"{entry.name}.{weights.tag}" in here else "",
            )
        )
    titles = ("weights", "from", "params", "top-1", "on", "epochs", "licence", "size", "sha256", "default", "offline")
    if rows:
        print_table(titles, rows, right=("params", "top-1", "epochs", "size"))


def _source(entry: Listed, weights: Weights) -> PluginRow:
    """Returns the plugin whose manifest states the weights."""
    return registry.current().bringer_of(entry, weights.tag) or entry.row


def _family(row: PluginRow) -> str:
    return row.name if row.is_builtin else f"{row.name} (from {row.distribution})"


def _describe(entry: Listed, here: set[str]) -> dict[str, Any]:
    return {
        "name": entry.name,
        "family": entry.row.name,
        "distribution": registry.DISTRIBUTION if entry.row.is_builtin else entry.row.distribution,
        "builtin": entry.row.is_builtin,
        "params": entry.model.params,
        "macs": entry.model.macs,
        "fitted": entry.model.fitted,
        "aliases": entry.model.aliases,
        "deprecated": entry.model.deprecated,
        "num_classes": entry.model.num_classes,
        "year": entry.model.paper.year if entry.model.paper else None,
        "weights": [
            {
                "name": name,
                "pinned": weights.pinned,
                "default": is_default(entry, weights),
                "offline": name in here,
            }
            for weights in entry.weights
            for name in [f"{entry.name}.{weights.tag}"]
        ],
    }


def _describe_weights(entry: Listed, weights: Weights, here: set[str]) -> dict[str, Any]:
    return {
        "name": f"{entry.name}.{weights.tag}",
        "model": entry.name,
        "family": entry.row.name,
        "distribution": _source(entry, weights).distribution,
        "params": listing.params_of(entry.model, weights),
        "epochs": weights.epochs,
        "classes": weights.classes,
        "license": weights.license,
        "pinned": weights.pinned,
        "default": is_default(entry, weights),
        "offline": f"{entry.name}.{weights.tag}" in here,
        "sha256": weights.sha256,
        "size": weights.size,
        "scores": weights.scores,
    }

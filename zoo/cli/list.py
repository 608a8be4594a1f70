"""``zoo list``, ``zoo info``: the models and weights there are. Nothing here imports torch."""

from typing import Any

import click

from zoo import registry, resolve
from zoo.cli import options
from zoo.cli.output import count, echo, note, print_facts, print_json, print_table, size
from zoo.errors import UnknownNameError, ZooError
from zoo.evaluation.interval import wilson
from zoo.manifest import Probe, Score, Weights
from zoo.registry import Found, Listed, PluginRow, listing
from zoo.spec import Model, Preprocess
from zoo.training import find_record


@click.command("list", epilog="Example: zoo list 'resnet*' --pretrained --dataset cifar10")
@click.argument("pattern", default="*", shell_complete=options.complete_name)
@click.option(
    "--family", callback=options.check_family, shell_complete=options.complete_family, help="Models of one plugin."
)
@click.option("--dataset", help="Weights trained for or scored on this data set.")
@click.option("--licence", "--license", "license", metavar="GLOB", help="Weights with a licence such as 'apache*'.")
@click.option("--max-params", metavar="N", callback=options.check_amount, help="At most N parameters: 300k, 25M.")
@click.option("--pretrained", "--weights", "pretrained", is_flag=True, help="Weights and their scores.")
@options.json
def list_models(pattern: str, as_json: bool, **filters: Any) -> None:
    """List models and weights.

    PATTERN matches names. A pattern with a dot, such as 'resnet20.*', lists weights and their scores; a pattern that
    begins with a collection's name and a slash, such as 'timm/resnet*', lists the models of that library.
    """
    lines = listing.select(pattern, **filters)
    weights = [(line.entry, line.weights) for line in lines if line.weights]
    models = [line.entry for line in lines if not line.weights]
    if as_json:
        return print_json([_describe(entry) for entry in models] + [_describe_weights(*found) for found in weights])
    if models:
        _print_models(models)
    if weights:
        _print_weights(weights)
    if not lines:
        note(f"Nothing matches {pattern!r}{' and the filters' if any(filters.values()) else ''}.")
        _guess(pattern, filters["dataset"])
    for name in listing.left_out(pattern, filters["family"]):
        note(f"Not listed: {name}'s models; zoo list '{name}/{pattern.rpartition('/')[2]}' lists them.")
    unusable = [row.name for row in registry.current().plugins if row.status in ("broken", "set aside")]
    if unusable:
        note(f"Not shown: plugins that cannot be used ({', '.join(unusable)}); zoo plugins shows why.")
    return None


def _guess(pattern: str, dataset: str | None) -> None:
    """Prints suggestions if nothing matches."""
    known = {data for entry in registry.current().models() for one in entry.weights for data in listing.trained_on(one)}
    if dataset is not None and dataset not in known:
        every = f"Data sets: {', '.join(sorted(known - {''}))}."
        note(f"No weights are for a data set {dataset!r}. {UnknownNameError.of('', dataset, known, hint=every).hint}")
    if {"*", "?", "["} & set(pattern):
        return
    try:
        registry.current().find(pattern)
    except UnknownNameError as error:
        note(error.hint)
        note(f"Try zoo list '{pattern}*'.")
    except ZooError:
        pass


@click.command(epilog="Example: zoo info resnet20.digits")
@options.name
@options.json
def info(name: str, as_json: bool) -> None:
    """Show a model or weights in detail."""
    registered = registry.current()
    found = resolve.find(name)
    trust = _trust(found) if found.weights else {}
    training = find_record.training_of(found.weights) if found.weights else {}
    if as_json:
        parts = {"project": trust, "training": training}
        return print_json(listing.about(found) | {part: facts for part, facts in parts.items() if facts})
    every = [found.weights] if found.weights else registered.weights_of(found.row, found.model)
    echo(name)
    print_facts(_facts_of_model(found.model, found.row, found.weights))
    if found.weights:
        echo("\nweights")
        print_facts([*_facts_of_weights(found.weights), *training.items(), *trust.items()])
    elif every:
        entry = Listed(found.model.name, found.row, found.model, tuple(every))
        echo()
        _print_weights([(entry, weights) for weights in every])
    return None


def _print_models(entries: list[Listed]) -> None:
    rows = [
        (
            entry.name,
            _family(entry.row),
            count(entry.model.params),
            str(entry.model.paper.year) if entry.model.paper else "",
            ", ".join(map(_tag, entry.weights)),
        )
        for entry in entries
    ]
    print_table(("model", "family", "params", "year", "weights"), rows, right=("params", "year"))
    if any(not weights.pinned for entry in entries for weights in entry.weights):
        note("* not pinned: no sha256 is recorded.")


def _tag(weights: Weights) -> str:
    """The tag; ``*`` if it is not pinned; its epochs if it was trained for a few."""
    return weights.tag + ("" if weights.pinned else "*") + (f" ({_epochs(weights)})" if weights.epochs else "")


def _epochs(weights: Weights) -> str:
    return f"{weights.epochs} epoch{'s' if weights.epochs != 1 else ''}" if weights.epochs is not None else ""


def _print_weights(found: list[tuple[Listed, Weights]]) -> None:
    rows = []
    for entry, weights in found:
        split, score = _main_score(weights)
        rows.append(
            (
                f"{entry.name}.{weights.tag}",
                "" if entry.row.is_builtin else entry.row.distribution,
                count(listing.params_of(entry.model, weights)),
                f"{score.top1:.2f}%" if score and score.top1 is not None else "",
                split,
                "" if weights.epochs is None else str(weights.epochs),
                weights.license.weights,
                size(weights.size),
                weights.sha256[:8] if weights.pinned else "not pinned",
            )
        )
    titles = ("weights", "from", "params", "top-1", "on", "epochs", "licence", "size", "sha256")
    if rows:
        print_table(titles, rows, right=("params", "top-1", "epochs", "size"))


def _main_score(weights: Weights) -> tuple[str, Score | None]:
    """The score on the data set of the weights' classes, or the first score."""
    ranked = sorted(weights.scores.items(), key=lambda item: item[0].partition("/")[0] != weights.classes)
    return ranked[0] if ranked else (weights.classes, None)


def _family(row: PluginRow) -> str:
    return row.name if row.is_builtin else f"{row.name} (from {row.distribution})"


def _describe(entry: Listed) -> dict[str, Any]:
    return {
        "name": entry.name,
        "family": entry.row.name,
        "distribution": registry.DISTRIBUTION if entry.row.is_builtin else entry.row.distribution,
        "builtin": entry.row.is_builtin,
        "params": entry.model.params,
        "macs": entry.model.macs,
        "num_classes": entry.model.num_classes,
        "year": entry.model.paper.year if entry.model.paper else None,
        "weights": [{"name": f"{entry.name}.{weights.tag}", "pinned": weights.pinned} for weights in entry.weights],
    }


def _describe_weights(entry: Listed, weights: Weights) -> dict[str, Any]:
    return {
        "name": f"{entry.name}.{weights.tag}",
        "model": entry.name,
        "family": entry.row.name,
        "params": listing.params_of(entry.model, weights),
        "epochs": weights.epochs,
        "classes": weights.classes,
        "license": weights.license,
        "pinned": weights.pinned,
        "sha256": weights.sha256,
        "size": weights.size,
        "scores": weights.scores,
    }


def _facts_of_model(model: Model, row: PluginRow, weights: Weights | None) -> list[tuple[str, str]]:
    """Facts of a network, as ``weights`` or its row build it."""
    paper = model.paper
    args = ", ".join(f"{name}={value!r}" for name, value in {**model.args, **(weights.args if weights else {})}.items())
    classes = weights.num_classes if weights and weights.num_classes is not None else model.num_classes
    params, macs = listing.params_of(model, weights), listing.macs_of(model, weights)
    return [
        ("family", f"{row.name}, from {row.distribution} {row.version}".strip()),
        ("paper", f"{paper.title} ({paper.authors}, {paper.year})" if paper else ""),
        ("", paper.url if paper else ""),
        ("parameters", f"{params:,}" if params else ""),
        ("multiply-adds", f"{macs:,} an image" if macs else ""),
        ("classes", str(classes)),
        ("input", _input((weights and weights.preprocess) or model.preprocess)),
        ("stages", ", ".join(model.stages)),
        ("build", f"{model.build}({args})"),
        ("needs", ", ".join(requirement.module for requirement in model.requires)),
        ("note", model.note),
    ]


def _facts_of_weights(weights: Weights) -> list[tuple[str, str]]:
    license = weights.license
    facts = [
        ("classes", weights.classes),
        ("origin", weights.origin),
        ("trained for", _epochs(weights)),
        *((("paper" if i == 0 else ""), address) for i, address in enumerate(weights.papers)),
        ("licence", f"weights {license.weights}"),
        ("", f"code {license.code}"),
        ("", f"training data {license.data}"),
        ("hub", weights.hub),
        ("path", weights.path),
        ("revision", weights.revision),
        ("sha256", weights.sha256 or (f"{weights.sha256_prefix}... (not pinned)" if weights.sha256_prefix else "")),
        ("size", f"{weights.size:,} bytes" if weights.size else ""),
        ("pinned", "yes" if weights.pinned else "no: it is pinned on first use"),
        ("probe", _probe(weights.probe) if weights.probe else "none"),
    ]
    return facts + [(f"on {split}", _score(score)) for split, score in weights.scores.items()]


def _trust(found: Found) -> dict[str, str]:
    """What the project's lock, the user's lock, signatures and policy say about weights; only those that exist."""
    from zoo.trust import lock, policy, signing, user_lock

    weights, facts = found.weights, {"lock": "", "first use": "", "signature": "", "policy": ""}
    assert weights is not None
    try:
        locked = lock.of_project()
        held = locked.weights.get(lock.full_name(found, weights.tag)) if locked else None
        if locked:
            lock.follow(locked, found, weights)
            facts["lock"] = f"as locked, sha256 {held.sha256[:8]}" if held else "not in it"
    except ZooError as error:
        facts["lock"] = error.message
    try:
        own = user_lock.pins().get(lock.full_name(found, weights.tag))
        user_lock.follow(found, weights)
        facts["first use"] = f"{user_lock.since(own)}, sha256 {own.sha256[:8]}" if own else ""
    except ZooError as error:
        facts["first use"] = error.message
    source = policy.manifest_of(found, weights)
    if source and signing.signature_of(source).exists():
        facts["signature"] = str(signing.signature_of(source))
    try:
        facts["policy"] = policy.check(found, weights)
    except ZooError as error:
        facts["policy"] = error.message
    return {name: text for name, text in facts.items() if text}


def _probe(probe: Probe) -> str:
    text = f"{probe.batch} images of noise, seed {probe.seed}"
    return f"{text}, and the photograph {probe.image.name!r}" if probe.image else text


def _score(score: Score) -> str:
    """Each share with its 95% interval, the number of images, and who reported the score."""
    shares = {"top-1": score.top1, "top-5": score.top5}
    parts = [f"{name} {share:g}%{_interval(share, score)}" for name, share in shares.items() if share is not None]
    parts += [f"mean over classes {score.mean_class:g}%" if score.mean_class is not None else ""]
    return ", ".join(filter(None, [*parts, f"{score.n:,} images", score.source]))


def _interval(share: float, score: Score) -> str:
    """Wilson's 95% interval of the right images, or of the number that the share implies."""
    if not score.n:
        return ""
    counted = score.correct if score.correct is not None and share == score.top1 else None
    right = min(round(share * score.n / 100) if counted is None else counted, score.n)
    low, high = wilson(right, score.n)
    return f" ({100 * low:.2f} to {100 * high:.2f})"


def _input(preprocess: Preprocess) -> str:
    shape = " x ".join(map(str, preprocess.input_size))
    return (
        f"{shape}, crop {preprocess.crop_pct:g}, {preprocess.interpolation}, "
        f"mean {list(preprocess.mean)}, std {list(preprocess.std)}"
        + (f", {preprocess.whitening} whitening" if preprocess.whitening != "none" else "")
    )

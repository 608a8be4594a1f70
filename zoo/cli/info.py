"""``zoo info``: all that is known of a model or of weights. Only of a file or a run is a network built."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from zoo import registry, statistics
from zoo.cli import options
from zoo.cli.list import at_hand, epochs, print_weights
from zoo.cli.output import echo, print_facts, print_json
from zoo.errors import ZooError
from zoo.loading import create, resolve
from zoo.manifest import Probe, Score, Spread, Weights
from zoo.registry import Found, Listed, PluginRow, listing
from zoo.spec import Model, Preprocess
from zoo.training import choice, reproduce

_NAMES = 10
"""So many names of classes are shown."""


@click.command(epilog="Example: zoo info resnet20.digits")
@options.name
@options.json
def info(name: str, as_json: bool) -> None:
    """Show a model, weights or a run in detail."""
    if resolve.trained_at(name) is not None:
        return _show_file(name, as_json)
    registered = registry.current()
    match = resolve.find(name)
    trust = _trust(match) if match.weights else {}
    training = reproduce.training_of(match.weights) if match.weights else {}
    if as_json:
        parts = {"project": trust, "training": training}
        return print_json(listing.about(match) | {part: facts for part, facts in parts.items() if facts})
    every = [match.weights] if match.weights else registered.weights_of(match.row, match.model)
    echo(name)
    args, classes = (match.weights.args, match.weights.num_classes) if match.weights else ({}, None)
    print_facts(_facts_of_model(match.model, match.row, match.weights, args, classes))
    if match.weights:
        echo("\nweights")
        print_facts([*_facts_of_weights(match), ("offline", _offline(match)), *training.items(), *trust.items()])
    elif every:
        entry = Listed(match.model.name, match.row, match.model, tuple(every), match.bringer)
        echo()
        print_weights([(entry, weights) for weights in every], at_hand([entry]))
    return None


def _show_file(path: str, as_json: bool) -> None:
    """Shows the trained network of a run or of a file."""
    about = create.info(path)
    file = about["file"]
    match = resolve.model_named(about["name"], file["path"])
    model = _as_trained(match.model, path)
    file |= {"params": model.params, "macs": model.macs}
    if as_json:
        return print_json(about)
    names = file.get("class_names") or ()
    echo(path)
    print_facts(_facts_of_model(model, match.row, None, file.get("args", {}), file.get("num_classes")))
    echo("\nfile")
    facts = [
        ("path", file["path"]),
        ("classes", str(file.get("classes", ""))),
        ("named", ", ".join(map(str, names[:_NAMES])) + (", ..." if len(names) > _NAMES else "")),
        ("origin", str(file.get("origin", ""))),
        ("sha256", file["sha256"]),
        ("size", f"{file['size']:,} bytes"),
    ]
    name = Path(path).absolute().name.removesuffix(".safetensors")
    print_facts([*facts, *reproduce.facts_of(file, name, is_fitted=match.model.fitted).items()])
    return None


def _as_trained(model: Model, path: str) -> Model:
    """Returns ``model`` with the sizes of the network at ``path``, whose head is seldom its own; 0 if unknown."""
    from zoo.evaluation import counting

    try:
        network = create.create(path)
    except ZooError:  # such as a library that is missing: the rest is shown all the same
        return msgspec.structs.replace(model, params=0, macs=0)
    size = create.info_of(network).preprocess.input_size
    return msgspec.structs.replace(model, **counting.differing(network, model, size))


def _facts_of_model(
    model: Model, row: PluginRow, weights: Weights | None, args: Mapping[str, Any], classes: int | None
) -> list[tuple[str, str]]:
    """Facts of a network, as its row builds it with ``args`` for ``classes``."""
    paper = model.paper
    shown_args = ", ".join(f"{name}={value!r}" for name, value in {**model.args, **args}.items())
    classes = model.num_classes if classes is None else classes
    params, macs = listing.params_of(model, weights), listing.macs_of(model, weights)
    return [
        ("deprecated", model.deprecated),
        ("aliases", ", ".join(model.aliases)),
        ("family", f"{row.name}, from {row.distribution} {row.version}".strip()),
        ("paper", f"{paper.title} ({paper.authors}, {paper.year})" if paper else ""),
        ("", paper.url if paper else ""),
        ("parameters", f"{params:,}" if params or model.fitted else ""),
        ("training", "fitted, without gradients" if model.fitted else ""),
        ("multiply-adds", f"{macs:,} an image" if macs else ""),
        ("classes", str(classes)),
        ("input", _input((weights and weights.preprocess) or model.preprocess)),
        ("", "images are turned as their EXIF says, and laid on white where they are transparent"),
        ("stages", ", ".join(model.stages)),
        ("build", f"{model.build}({shown_args})"),
        ("needs", ", ".join(requirement.module for requirement in model.requires)),
        ("note", model.note),
    ]


def _offline(match: Found) -> str:
    assert match.weights is not None
    here = at_hand([Listed(match.model.name, match.row, match.model, (match.weights,), match.bringer)])
    return "yes: the file is on this machine" if here else "no: it is fetched on first use"


def _facts_of_weights(match: Found) -> list[tuple[str, str]]:
    weights, bringer = match.weights, match.bringer
    assert weights is not None
    license = weights.license
    is_default = weights == registry.current().default_of(match.row, match.model)
    facts = [
        ("default", f"yes: {match.model.name} alone means these" if is_default else ""),
        ("brought by", f"{bringer.name}, from {bringer.distribution} {bringer.version}" if bringer else ""),
        ("classes", weights.classes),
        ("origin", weights.origin),
        ("trained for", epochs(weights)),
        *((("paper" if i == 0 else ""), address) for i, address in enumerate(weights.papers)),
        ("licence", f"weights {license.weights}"),
        ("", f"code {license.code}"),
        ("", f"training data {license.data}"),
        ("hub", weights.hub),
        ("path", weights.path),
        ("revision", weights.revision),
        ("sha256", weights.sha256 or (f"{weights.sha256_prefix}... (not pinned)" if weights.sha256_prefix else "")),
        ("digest", weights.digest),
        ("key map", weights.key_map),
        ("size", f"{weights.size:,} bytes" if weights.size else ""),
        ("pinned", "yes" if weights.pinned else "no: it is pinned on first use"),
        ("probe", _probe(weights.probe) if weights.probe else "none"),
    ]
    for split, score in weights.scores.items():
        facts += [(f"on {split}", _score(score)), ("", _spread(score.spread) if score.spread else "")]
        facts += [("", ", ".join(weights.protocol_of(score).words().values()))]
        facts += [("published", text) for text in _published(match, weights, split)]
    return facts


def _published(match: Found, weights: Weights, split: str) -> list[str]:
    """Returns what others report for this network and data set, and where their protocol differs."""
    ours = weights.protocol_of(weights.scores[split])
    texts = []
    for figure in choice.published(match.plugin, match.model.name, weights.args):
        if figure.data == split.partition("/")[0]:
            text, difference = f"{figure.figure}, {figure.reference}", figure.protocol.beside(ours)
            texts.append(f"{text}; its protocol: {difference}" if difference else text)
    return texts


def _trust(match: Found) -> dict[str, str]:
    """Returns what the project's lock, the user's lock, signatures and policy say about weights; only those that
    exist.
    """
    from zoo.trust import first_use, lock, policy, signing

    weights = match.weights
    facts = {"lock": "", "first use": "", "signature": "", "policy": ""}
    assert weights is not None
    try:
        locked = lock.of_project()
        locked_entry = locked.weights.get(lock.name_in(locked.weights, match, weights.tag)) if locked else None
        if locked:
            lock.follow(locked, match, weights)
            facts["lock"] = f"as locked, sha256 {locked_entry.sha256[:8]}" if locked_entry else "not in it"
    except ZooError as error:
        facts["lock"] = error.message
    try:
        pins = first_use.pins()
        pin = pins.get(lock.name_in(pins, match, weights.tag))
        first_use.follow(match, weights)
        facts["first use"] = f"{first_use.since(pin)}, sha256 {pin.sha256[:8]}" if pin else ""
    except ZooError as error:
        facts["first use"] = error.message
    source = policy.manifest_of(match, weights)
    if source and signing.signature_of(source).exists():
        facts["signature"] = str(signing.signature_of(source))
    try:
        facts["policy"] = policy.check(match, weights)
    except ZooError as error:
        facts["policy"] = error.message
    return {name: text for name, text in facts.items() if text}


def _probe(probe: Probe) -> str:
    text = f"{probe.batch} images of noise, seed {probe.seed}"
    return f"{text}, and the photograph {probe.image.name!r}" if probe.image else text


def _score(score: Score) -> str:
    """Returns each share with its 95% interval, the number of images, and who reported the score."""
    shares = {"top-1": score.top1, "top-5": score.top5}
    parts = [f"{name} {share:g}%{_interval(share, score)}" for name, share in shares.items() if share is not None]
    parts += [f"mean over classes {score.mean_class:g}%" if score.mean_class is not None else ""]
    images = f"{score.n:,} images"
    if score.bounds:
        whole = f"{score.n + len(score.without):,}: {score.bounds[0]:.2f} to {score.bounds[1]:.2f}%"
        images += f" ({len(score.without)} of the data set are left out; on all {whole})"
    return ", ".join(filter(None, [*parts, images, score.source]))


def _spread(spread: Spread) -> str:
    """Returns mean, standard deviation and the scores of all trainings."""
    each = ", ".join(f"{value:g}" for value in spread.top1)
    return f"trainings {spread.words}; with the seeds {', '.join(map(str, spread.seeds))}: {each}"


def _interval(share: float, score: Score) -> str:
    bounds = statistics.percent_interval(share, score.n, score.correct if share == score.top1 else None)
    return f" ({bounds[0]:.2f} to {bounds[1]:.2f})" if bounds else ""


def _input(preprocess: Preprocess) -> str:
    shape = " x ".join(map(str, preprocess.input_size))
    crop_mode = f" ({preprocess.crop_mode})" if preprocess.crop_mode != "center" else ""
    return (
        f"{shape}, crop {preprocess.crop_pct:g}{crop_mode}, {preprocess.interpolation}, "
        f"mean {_numbers(preprocess.mean)}, std {_numbers(preprocess.std)}"
        + (f", {preprocess.whitening} whitening" if preprocess.whitening != "none" else "")
    )


def _numbers(values: Sequence[float]) -> str:
    """Returns values with six digits: 1/255 in single precision has more than anyone reads."""
    return f"[{', '.join(f'{value:.6g}' for value in values)}]"

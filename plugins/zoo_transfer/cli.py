"""``zoo features``, ``zoo classify``, ``zoo choose``: a network's features, and classifiers fitted to them."""

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli import options
from zoo.cli.output import echo, note, print_facts, print_json, print_table, show_progress, stdout_to_stderr

if TYPE_CHECKING:
    from zoo_transfer.classifiers import Outcome


@click.command(epilog="Example: zoo features resnet20.c10 --data digits -o train.safetensors")
@options.several(options.one_name(bulk="features"), options.required_data)
@click.option("--split", default="train", show_default=True, help="Split of the data set.")
@options.output("Write the features to FILE.safetensors.", suffix=".safetensors")
@click.option(
    "--layer", default="", metavar="MODULE", help="Use this submodule's pooled output.  [default: the head's input]"
)
@click.option("--untrained", is_flag=True, help="Use NAME as initialised from seed 0, to compare with.")
@options.several(options.weights, options.batch_size(256), options.device)
@options.several(options.moved("zoo bulk features PATTERN... --data DATA -o DIR"), options.json)
def features(
    name: str,
    data: str,
    split: str,
    output: Path,
    untrained: bool,
    as_json: bool,
    **keywords: Any,
) -> None:
    """Write a network's features of a data set to a file.

    The file holds the tensors features (N D, float32) and labels (N), and their origin. NAME without a tag means the
    model's default weights.
    """
    from zoo_transfer import extraction

    with stdout_to_stderr(), show_progress(f"features of {name}") as progress:
        network = _untrained(name, keywords["weights"], keywords["device"]) if untrained else name
        extracted = extraction.features(network, data, split, progress=progress, **keywords)
        sha256 = extracted.write(output)
    if as_json:
        import msgspec

        shape = list(extracted.features.shape)
        return print_json({"file": output, "sha256": sha256, "shape": shape, **msgspec.to_builtins(extracted.origin)})
    return echo(output)


def _untrained(name: str, weights: Path | None, device: str | None) -> Any:
    """Returns the network that ``name`` builds, as initialized from seed 0."""
    import torch

    from zoo.loading.create import create
    from zoo.loading.resolve import model_named

    if weights is not None or model_named(name, None).weights is not None:
        raise click.UsageError("--untrained: expected the name of a model, without weights.")
    torch.manual_seed(0)
    return create(name, device=device)


@click.command(epilog="Example: zoo classify train.safetensors test.safetensors --classifier knn")
@click.argument("train", type=options.FILE)
@click.argument("test", required=False, type=options.FILE)
@click.option(
    "--classifier", default="linear_svm", show_default=True, help="One of linear_svm, rbf_svm, logistic, knn, tree."
)
@options.pairs("--set", "settings", help="Change a setting of the classifier, such as C=0.1. Repeatable.")
@options.output(
    "Write the network with this classifier, if it is linear, as its head to DIR.", options.NEW_FOLDER, required=False
)
@options.json
def classify(
    train: Path, test: Path | None, classifier: str, settings: dict[str, str], output: Path | None, as_json: bool
) -> None:
    """Fit another classifier to features and score it.

    TRAIN and TEST are files that zoo features wrote. Without TEST, a fifth of TRAIN is held out and scored: choose
    settings this way, not on test images. With -o, the network with this classifier as its head is kept: zoo predict
    DIR uses it.
    """
    from zoo_transfer import classifiers, extraction

    with stdout_to_stderr():
        classifiers.configure(classifier, settings)
        tested = None if test is None else extraction.read(test)
        outcome = classifiers.classify(extraction.read(train), tested, classifier, settings, output)
    if as_json:
        return print_json(outcome)
    _print_outcome(outcome)
    if output is not None:
        echo(output / "model.safetensors")
    return None


def _text(value: Any) -> str:
    """Returns a value in the form that ``--set`` reads."""
    return "null" if value is None else str(value)


def _print_outcome(outcome: "Outcome") -> None:
    low, high = outcome.interval
    layer = f" at {outcome.layer}" if outcome.layer else ""
    echo(f"{outcome.classifier} on {outcome.weights or outcome.model}{layer}, {outcome.test}")
    print_facts(
        [
            (
                "top-1",
                f"{outcome.top1:.3f}%  ({outcome.correct:,} of {outcome.n:,}; 95% interval {low:.3f} to {high:.3f})",
            ),
            ("settings", ", ".join(f"{key}={_text(value)}" for key, value in outcome.settings.items())),
            ("fitted to", f"{outcome.n_train:,} images of {outcome.train}, {outcome.dimensions} features each"),
            ("time", f"{outcome.seconds:.1f} s"),
            ("images", outcome.fingerprint),
            ("versions", ", ".join(f"{name} {version}" for name, version in outcome.versions.items())),
        ]
    )


def _check_budget(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Reads a time, ``20ms`` or ``0.02s``, as milliseconds."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s)", value.strip())
    if match is None:
        raise click.BadParameter(f"{value!r} is not a time such as 20ms or 0.5s.")
    return float(match[1]) * (1 if match[2] == "ms" else 1000)


@click.command(epilog="Example: zoo choose --data photos --budget 20ms")
@options.required_data
@click.option(
    "--budget",
    metavar="TIME",
    callback=_check_budget,
    help="Latency allowed for one image, such as 20ms.  [default: any]",
)
@click.option(
    "--among", "patterns", multiple=True, metavar="PATTERN",
    help="Weights to rank, such as 'resnet*.a1_in1k'. Repeatable.  [default: those that need no network]",
)  # fmt: skip
@click.option("--limit", default=500, show_default=True, type=options.POSITIVE, metavar="N", help="Images to probe.")
@options.several(options.seed, options.device, options.json)
def choose(
    data: str, budget: float | None, patterns: tuple[str, ...], limit: int, seed: int, device: str, as_json: bool
) -> None:
    """Rank weights for your images on this machine.

    For each of the weights, the latency of one image is measured on this machine, and a linear probe is scored on the
    features of a sample of the training images: each image by a probe that has not seen it, with the 95% interval. The
    command that trains the winner is printed last. Test images are not used.
    """
    from zoo_transfer import choice

    with stdout_to_stderr(), show_progress("weights") as progress:
        names = choice.at_hand(patterns)
        chosen = choice.choose(data, names, budget_ms=budget, limit=limit, device=device, seed=seed, progress=progress)
    if as_json:
        return print_json(chosen)
    titles = ("weights", "probe", "95% interval", "latency", "params", "remark")
    if chosen.candidates:
        rows = [choice.describe(row) for row in chosen.candidates]
        print_table(titles, rows, right=("probe", "latency", "params"))
    best = chosen.candidates[0] if chosen.command else None
    if best is None or best.interval is None:
        note("No weights can be used: name others with --among, or raise --budget.")
        click.get_current_context().exit(1)
    equal = [row for row in chosen.candidates[1:] if row.interval and row.interval[1] >= best.interval[0]]
    if equal:
        note(f"{len(equal)} more may be as good: their intervals overlap the first. More images (--limit) tell.")
    if not patterns and best.side is not None and 2 * best.side < chosen.image_side:
        note(f"It sees {best.side} x {best.side} pixels of these images. Weights of ImageNet see more, for a download:")
        note(f"  zoo choose --data {shlex.quote(data)} --among 'efficientnet_lite*'")
    return echo(chosen.command)

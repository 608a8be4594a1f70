"""``zoo features``, ``zoo classify``: a network's features, and other classifiers on top of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.options import check_pairs, complete_name, device_option, json_option
from zoo.cli.output import echo, only_answers, print_facts, print_json, show_progress

if TYPE_CHECKING:
    from zoo.classifiers import Outcome

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("name", shell_complete=complete_name)
@click.option("--data", required=True, help="A data set's name or path.")
@click.option("--split", default="train", show_default=True)
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Safetensors file."
)
@click.option("--layer", default="", metavar="MODULE", help="A submodule's pooled output.  [default: the head's input]")
@click.option("--weights", type=_FILE, help="A local safetensors file, in place of NAME's own weights.")
@click.option("--batch-size", default=256, show_default=True, type=click.IntRange(min=1))
@device_option
@json_option
def features(
    name: str,
    data: str,
    split: str,
    output: Path,
    layer: str,
    weights: Path | None,
    batch_size: int,
    device: str | None,
    as_json: bool,
) -> None:
    """Write a network's features of a data set.

    The file holds the tensors features (N D, float32) and labels (N), and says where they come
    from. NAME without a tag stands for the model's default weights.
    """
    from zoo import extraction

    options: dict[str, Any] = {"weights": weights, "layer": layer, "batch_size": batch_size, "device": device}
    with only_answers(), show_progress(f"features of {name}") as progress:
        found = extraction.features(name, data, split, progress=progress, **options)
        sha256 = found.write(output)
    if as_json:
        import msgspec

        shape = list(found.features.shape)
        return print_json({"file": output, "sha256": sha256, "shape": shape, **msgspec.to_builtins(found.origin)})
    return echo(output)


@click.command()
@click.argument("train", type=_FILE)
@click.argument("test", required=False, type=_FILE)
@click.option(
    "--classifier", default="linear_svm", show_default=True, help="linear_svm, rbf_svm, logistic, knn or tree."
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", callback=check_pairs, help="C=0.1, ...")
@json_option
def classify(train: Path, test: Path | None, classifier: str, settings: dict[str, str], as_json: bool) -> None:
    """Fit another classifier to features.

    TRAIN and TEST are files of zoo features. Without TEST, a fifth of TRAIN is held out and scored:
    for choosing settings, which test images are not for.
    """
    from zoo import classifiers, extraction

    with only_answers():
        classifiers.configure(classifier, settings)
        held = None if test is None else extraction.read(test)
        outcome = classifiers.classify(extraction.read(train), held, classifier, settings)
    if as_json:
        return print_json(outcome)
    return _print_outcome(outcome)


def _text(value: Any) -> str:
    """As ``--set`` takes it."""
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

"""``zoo results metrics``: every score from a file of outputs, and the agreement of two."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.cli import options
from zoo.cli.output import echo, print_facts, print_json, print_table

if TYPE_CHECKING:
    from zoo.evaluation.metrics import Agreement, Metrics

_PAIRS = 10
"""Confused classes that are shown; --json has the whole matrix."""


@click.command(epilog="Example: zoo results metrics outputs.safetensors")
@click.argument("file", type=options.FILE)
@click.argument("other", required=False, type=options.FILE)
@options.json
def metrics(file: Path, other: Path | None, as_json: bool) -> None:
    """Compute every score from outputs, without the network.

    FILE and OTHER are files that zoo evaluate --outputs wrote. With OTHER, counts the images on which the two networks
    agree, and tests by McNemar's exact test whether one of them is better.
    """
    from zoo.evaluation import metrics as evaluated

    measured = [evaluated.measure(each) for each in (file, other) if each is not None]
    agreement = evaluated.compare(file, other) if other is not None else None
    if as_json:
        import msgspec

        rows = msgspec.to_builtins(measured)
        return print_json(rows[0] if agreement is None else {"metrics": rows, "agreement": agreement})
    for one in measured:
        _print_metrics(one, with_classes=agreement is None)
    if agreement is not None:
        _print_agreement(agreement)
    return None


def _print_metrics(found: "Metrics", *, with_classes: bool) -> None:
    from zoo.evaluation import metrics as evaluated

    low, high = found.interval
    echo(f"{found.weights} on {found.dataset}/{found.split}")
    print_facts(
        [
            ("top-1", f"{found.top1:.3f}%  ({found.correct:,} of {found.n:,}; 95% interval {low:.3f} to {high:.3f})"),
            ("top-k", ", ".join(f"{k}: {share:.3f}%" for k, share in enumerate(found.topk, start=1))),
            ("mean class", f"{found.mean_class:.3f}%"),
            ("cross-entropy", "" if found.nll is None else f"{found.nll:.4f}"),
            ("calibration", "" if found.ece is None else f"expected error {100 * found.ece:.2f}% in 15 bins"),
            ("Brier score", "" if found.brier is None else f"{found.brier:.4f}"),
            ("images", found.fingerprint),
        ]
    )
    if not with_classes:
        return
    titles = ("class", "images", "recall", "95% interval", "precision")
    rows = [
        (
            one.name,
            f"{one.n:,}",
            _percent(one.recall),
            f"{one.interval[0]:.2f} to {one.interval[1]:.2f}" if one.interval else "",
            _percent(one.precision),
        )
        for one in found.classes
        if one.n
    ]
    echo()
    print_table(titles, rows, right=titles[1:])
    if pairs := evaluated.pairs(found)[:_PAIRS]:
        echo()
        confused = [(true, predicted, f"{count:,}") for true, predicted, count in pairs]
        print_table(("true", "predicted", "images"), confused, right=("images",))


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2f}%"


def _print_agreement(found: "Agreement") -> None:
    echo(f"{found.first} and {found.second} on {found.n:,} images")
    print_facts(
        [
            ("same class", f"{found.same:,}  ({100 * found.same / found.n:.2f}%)"),
            ("both correct", f"{found.both:,}"),
            ("only the first", f"{found.only_first:,}"),
            ("only the second", f"{found.only_second:,}"),
            ("neither", f"{found.neither:,}"),
            ("McNemar's test", f"p = {found.p:.3g}, exact, two-sided"),
        ]
    )

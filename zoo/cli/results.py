"""``zoo results``: tables of results, shown and measured."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.cli import options
from zoo.cli.group import Commands
from zoo.cli.output import echo, note, print_facts, print_json, print_table

if TYPE_CHECKING:
    from zoo.evaluation.metrics import Agreement, Metrics
    from zoo.results import Change, Row, Speed


_SECTIONS = {
    "Commands:": {
        "show": "zoo.cli.results:show",
        "metrics": "zoo.cli.results:metrics",
    }
}


@click.group(cls=Commands, sections=_SECTIONS, epilog="Example: zoo results show runs/results.csv")
def results() -> None:
    """Show and compare the results of many weights."""


@click.command(epilog="Example: zoo results show runs/results.csv")
@click.argument("file", type=options.FILE)
@click.option("--against", type=options.FILE, metavar="TABLE", help="Compare with TABLE; exit 1 if FILE is worse.")
@options.json
@click.pass_context
def show(context: click.Context, file: Path, against: Path | None, as_json: bool) -> None:
    """Show a table of results, or compare two.

    On the same images, the same weights are better or worse if the counts differ by more than rounding; other weights
    if Fisher's exact test finds a difference. FILE is a CSV or Parquet file that zoo bulk wrote.
    """
    from zoo import results

    rows = results.read(file)
    changes = results.compare(rows, results.read(against)) if against is not None else []
    if as_json:
        print_json({"rows": rows, "changes": changes})
    else:
        print_rows(rows)
        print_changes(changes)
    context.exit(int(any(change.is_regression for change in changes)))


def print_rows(rows: "Sequence[Row]") -> None:
    """Prints the results with their intervals, and the reasons of those that are missing."""
    titles = (
        "task",
        "weights",
        "on",
        "setting",
        "attack",
        "top-1",
        "95% interval",
        "images",
        "off by",
        "file",
        "reason",
    )
    cells = [
        (
            row.task,
            row.weights,
            row.data,
            row.setting,
            f"{row.attack} {row.epsilon:.4g}" if row.epsilon is not None else "",
            "" if row.top1 is None else f"{row.top1:.2f}%",
            "" if row.low is None or row.high is None else f"{row.low:.2f} to {row.high:.2f}",
            "" if row.n is None else f"{row.n:,}",
            "" if row.difference is None else f"{row.difference:.2g}",
            row.file,
            "" if row.status == "done" else f"{row.status}: {row.reason}",
        )
        for row in rows
    ]
    print_table(titles, cells, right=("top-1", "images", "off by"))


def print_speeds(speeds: "Sequence[Speed]") -> None:
    """Prints the latencies, if they were measured."""
    titles = ("model", "mode", "precision", "batch", "median ms", "p95 ms", "images/s", "on")
    cells = [
        (
            speed.weights,
            speed.mode,
            speed.precision,
            str(speed.batch_size),
            f"{speed.latency_ms:.1f}",
            f"{speed.latency_p95_ms:.1f}",
            f"{speed.images_per_s:,.1f}",
            f"{speed.hardware}, {speed.device}, {speed.threads} threads",
        )
        for speed in speeds
        if speed.latency_ms is not None
    ]
    if cells:
        print_table(titles, cells, right=titles[3:7])


def print_changes(changes: "Sequence[Change]") -> None:
    """Prints what is not the same as before, and how many are."""
    if not changes:
        return
    rows = [
        (
            change.verdict,
            " ".join(filter(None, (change.row.weights, change.row.data, change.row.attack))),
            _interval(change.before),
            _interval(change.row),
            change.method + (f", p = {change.p:.2g}" if change.p is not None else ""),
        )
        for change in changes
        if change.verdict not in ("same", "new")
    ]
    if rows:
        print_table(("verdict", "weights", "before", "now", "by"), rows)
    counts = Counter(change.verdict for change in changes)
    note("Against the earlier results: " + ", ".join(f"{number} {verdict}" for verdict, number in counts.items()))


def _interval(row: "Row | None") -> str:
    if row is None or row.top1 is None:
        return row.reason if row is not None else ""
    return f"{row.top1:.2f}%" + (f" ({row.correct:,} of {row.n:,})" if row.correct is not None else "")


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
    for scores in measured:
        _print_metrics(scores, with_classes=agreement is None)
    if agreement is not None:
        _print_agreement(agreement)
    return None


def _print_metrics(scores: "Metrics", *, with_classes: bool) -> None:
    from zoo.evaluation import metrics as evaluated

    low, high = scores.interval
    mean_low, mean_high = scores.mean_class_interval
    of = f"{scores.correct:,} of {scores.n:,}; 95% interval {low:.3f} to {high:.3f}, Wilson"
    echo(f"{scores.weights} on {scores.dataset}/{scores.split}")
    print_facts(
        [
            ("top-1", f"{scores.top1:.3f}%  ({of})"),
            ("top-k", ", ".join(f"{k}: {share:.3f}%" for k, share in enumerate(scores.topk, start=1))),
            (
                "mean class",
                f"{scores.mean_class:.3f}%  (95% interval {mean_low:.3f} to {mean_high:.3f}, bootstrap by class)",
            ),
            ("cross-entropy", "" if scores.nll is None else f"{scores.nll:.4f}"),
            ("calibration", "" if scores.ece is None else f"expected error {100 * scores.ece:.2f}% in 15 bins"),
            ("Brier score", "" if scores.brier is None else f"{scores.brier:.4f}"),
            ("images", scores.fingerprint),
        ]
    )
    if not with_classes:
        return
    titles = ("class", "images", "recall", "95% interval", "precision")
    rows = [
        (
            row.name,
            f"{row.n:,}",
            _percent(row.recall),
            f"{row.interval[0]:.2f} to {row.interval[1]:.2f}" if row.interval else "",
            _percent(row.precision),
        )
        for row in scores.classes
        if row.n
    ]
    echo()
    print_table(titles, rows, right=titles[1:])
    if pairs := evaluated.pairs(scores)[:_PAIRS]:
        echo()
        confused = [(true, predicted, f"{count:,}") for true, predicted, count in pairs]
        print_table(("true", "predicted", "images"), confused, right=("images",))


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2f}%"


def _print_agreement(agreement: "Agreement") -> None:
    echo(f"{agreement.first} and {agreement.second} on {agreement.n:,} images")
    print_facts(
        [
            ("same class", f"{agreement.same:,}  ({100 * agreement.same / agreement.n:.2f}%)"),
            ("both correct", f"{agreement.both:,}"),
            ("only the first", f"{agreement.only_first:,}"),
            ("only the second", f"{agreement.only_second:,}"),
            ("neither", f"{agreement.neither:,}"),
            ("McNemar's test", f"p = {agreement.p:.3g}, exact, two-sided"),
        ]
    )

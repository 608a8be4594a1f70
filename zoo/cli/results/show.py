"""``zoo results show``: a table of results, or two of them compared."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.cli import options
from zoo.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from zoo.results import Change, Row, Speed


@click.command(epilog="Example: zoo results show runs/results.csv")
@click.argument("file", type=options.FILE)
@click.option("--against", type=options.FILE, metavar="TABLE", help="Compare with TABLE; exit 1 if FILE is worse.")
@options.json
@click.pass_context
def show(context: click.Context, file: Path, against: Path | None, as_json: bool) -> None:
    """Show a table of results, or compare two.

    A score is better or worse than before if the 95% intervals do not overlap. FILE is a CSV or Parquet file that
    zoo bulk wrote.
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
        )
        for change in changes
        if change.verdict not in ("same", "new")
    ]
    if rows:
        print_table(("verdict", "weights", "before", "now"), rows)
    counts = Counter(change.verdict for change in changes)
    note("Against the earlier results: " + ", ".join(f"{number} {verdict}" for verdict, number in counts.items()))


def _interval(row: "Row | None") -> str:
    if row is None or row.top1 is None:
        return row.reason if row is not None else ""
    return f"{row.top1:.2f}% ({row.low:.2f} to {row.high:.2f})"

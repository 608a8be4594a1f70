"""``zoo results``: tables of results, shown and measured."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.cli import options
from zoo.cli.group import Commands
from zoo.cli.output import echo, mean_class, note, print_facts, print_json, print_table

if TYPE_CHECKING:
    from zoo.evaluation.agreement import Agreement, Trainings
    from zoo.evaluation.metrics import Metrics
    from zoo.results import Change, Row, Speed


_SECTIONS = {
    "Commands:": {
        "show": "zoo.cli.results:show",
        "metrics": "zoo.cli.results:metrics",
    },
    "Answers of weights, without computing them:": {
        "compare": "zoo.cli.results:compare",
        "hardest": "zoo.cli.results:hardest",
        "ensemble": "zoo.cli.results:ensemble",
        "calibration": "zoo.cli.results:calibration",
    },
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
@options.json
def metrics(file: Path, as_json: bool) -> None:
    """Compute every score from outputs, without the network.

    FILE is a file that zoo evaluate --outputs wrote.
    """
    from zoo.evaluation import metrics as evaluated

    scores = evaluated.measure(file)
    if as_json:
        print_json(scores)
    else:
        _print_metrics(scores)


def _print_metrics(scores: "Metrics") -> None:
    from zoo.evaluation import metrics as evaluated

    low, high = scores.interval
    of = f"{scores.correct:,} of {scores.n:,}; 95% interval {low:.3f} to {high:.3f}, Wilson"
    echo(f"{scores.weights} on {scores.dataset}/{scores.split}")
    print_facts(
        [
            ("top-1", f"{scores.top1:.3f}%  ({of})"),
            ("top-k", ", ".join(f"{k}: {share:.3f}%" for k, share in enumerate(scores.topk, start=1))),
            ("mean class", mean_class(scores.mean_class, scores.mean_class_interval)),
            ("cross-entropy", "" if scores.nll is None else f"{scores.nll:.4f}"),
            ("calibration", "" if scores.ece is None else f"expected error {100 * scores.ece:.2f}% in 15 bins"),
            ("Brier score", "" if scores.brier is None else f"{scores.brier:.4f}"),
            ("images", scores.fingerprint),
        ]
    )
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


_CLASSES = 20
"""Classes that are shown, those with the lowest p-values; --json has all."""


@click.command(epilog="Example: zoo results compare resnet20.c10 plain20.c10")
@options.names
@options.json
def compare(names: tuple[str, ...], as_json: bool) -> None:
    """Compare answers image by image.

    Counts the images that both of two networks classify correctly, one alone, or neither, of each class, too, and how
    many errors they share. McNemar's exact test says whether one is better; of more than two, each pair is tested, and
    p-values are corrected by Holm's method. Of two whose scores are of several trainings, Welch's t-test compares the
    means. NAME is weights that ship with Zoo, or a file that zoo evaluate --outputs
    wrote.
    """
    from zoo.evaluation import agreement

    pairs = agreement.compare_each(*names)
    if as_json:
        print_json({"pairs": pairs})
    elif len(pairs) == 1:
        _print_agreement(pairs[0])
    else:
        _print_pairs(pairs)


def _print_agreement(pair: "Agreement") -> None:
    wrong = pair.only_second + pair.neither
    echo(f"{pair.first} and {pair.second} on {pair.n:,} images of {pair.data}")
    overlap = f"{100 * pair.overlap:.2f}%" if pair.overlap is not None else ""
    print_facts(
        [
            ("same class", f"{pair.same:,}  ({_share(pair.same, pair.n)}; {pair.same_wrong:,} of them wrong)"),
            ("both correct", f"{pair.both:,}"),
            ("only the first", f"{pair.only_first:,}"),
            ("only the second", f"{pair.only_second:,}"),
            ("neither", f"{pair.neither:,}"),
            ("McNemar's test", f"p = {pair.p:.3g}, exact, two-sided"),
            *_facts_of_trainings(pair.trainings),
            (
                "shared errors",
                overlap and f"{overlap} of the first's {wrong:,}; {100 * pair.overlap_by_chance:.2f}% if independent",
            ),
        ]
    )
    titles = ("class", "images", "only the first", "only the second", "p, corrected")
    shown = sorted(pair.classes, key=lambda row: row.p)[:_CLASSES] if len(pair.classes) > _CLASSES else pair.classes
    rows = [
        (row.name, f"{row.n:,}", f"{row.only_first:,}", f"{row.only_second:,}", f"{row.corrected:.3g}") for row in shown
    ]
    echo()
    print_table(titles, rows, right=titles[1:])


def _facts_of_trainings(of: "Trainings | None") -> list[tuple[str, str]]:
    if of is None:
        return []
    interval = f"95% interval {of.interval[0]:.2f} to {of.interval[1]:.2f}"
    return [
        ("trainings", f"{of.first.words} and {of.second.words}: {of.difference:+.2f}, {interval}"),
        ("Welch's test", f"p = {of.p:.3g}, of the means over trainings, two-sided"),
    ]


def _print_pairs(pairs: "Sequence[Agreement]") -> None:
    titles = ("first", "second", "images", "only the first", "only the second", "neither", "p", "p, corrected")
    rows = [
        (
            pair.first,
            pair.second,
            f"{pair.n:,}",
            f"{pair.only_first:,}",
            f"{pair.only_second:,}",
            f"{pair.neither:,}",
            f"{pair.p:.3g}",
            f"{pair.corrected:.3g}",
        )
        for pair in pairs
    ]
    print_table(titles, rows, right=titles[2:])


def _share(count: int, n: int) -> str:
    return f"{100 * count / n:.2f}%"


@click.command(epilog="Example: zoo results hardest cifar10")
@click.argument("data")
@click.option("--limit", default=20, show_default=True, type=options.POSITIVE, metavar="N", help="Images to show.")
@options.json
def hardest(data: str, limit: int, as_json: bool) -> None:
    """Show the images that the fewest weights classify correctly.

    Of the weights that ship with Zoo and have a score on DATA. An image is named by its place in the data set as it is
    published, from 0.
    """
    from zoo.evaluation import agreement

    hard = agreement.hardest(data, limit)
    if as_json:
        return print_json(hard)
    count = len(hard.weights)
    echo(
        f"{hard.n:,} images of {hard.data}, {count} weights: all classify {hard.right_by[-1]:,} correctly, "
        f"none {hard.right_by[0]:,}"
    )
    rows = [
        (
            f"{image.image:,}",
            image.label,
            f"{image.correct} of {count}",
            f"{image.wrong} ({image.wrong_by})" if image.wrong else "",
        )
        for image in hard.images
    ]
    print_table(("image", "class", "correct", "most often wrong"), rows, right=("image", "correct"))
    return None


@click.command(epilog="Example: zoo results ensemble resnet20.c10 plain20.c10 densenet_bc_40_12.c10")
@options.names
@options.json
def ensemble(names: tuple[str, ...], as_json: bool) -> None:
    """Let networks vote, from their answers.

    By majority, the sum of confidences deciding ties, and by the sum of confidences alone. Each network adds to one
    class only: it is not the mean of probabilities. McNemar's exact test compares each rule with the best member. NAME
    is weights that ship with Zoo, or a file that zoo evaluate --outputs wrote.
    """
    from zoo.evaluation import agreement

    voted = agreement.ensemble(*names)
    if as_json:
        return print_json(voted)
    echo(f"{len(voted.members)} networks on {voted.n:,} images of {voted.data}")
    rows = [(name, _share(correct, voted.n), f"{correct:,}", "", "", "", "") for name, correct in voted.members.items()]
    rows += [
        (
            f"vote by {vote.rule}",
            _share(vote.correct, voted.n),
            f"{vote.correct:,}",
            f"{vote.interval[0]:.2f} to {vote.interval[1]:.2f}",
            f"{vote.only_ensemble:,}",
            f"{vote.only_best:,}",
            f"{vote.p:.3g}",
        )
        for vote in voted.votes
    ]
    titles = ("", "top-1", "correct", "95% interval", "only the vote", "only the best", "p, corrected")
    print_table(titles, rows, right=titles[1:])
    note(f"The best member on these images is {voted.best}.")
    return None


@click.command(epilog="Example: zoo results calibration resnet20.c10")
@options.name
@options.json
def calibration(name: str, as_json: bool) -> None:
    """Show whether a network is right as often as it is certain.

    The expected calibration error, and the images in each of 15 bins of confidence. NAME is weights that ship with Zoo,
    or a file that zoo evaluate --outputs wrote.
    """
    from zoo.evaluation import agreement

    measured = agreement.reliability(name)
    if as_json:
        return print_json(measured)
    echo(f"{measured.name} on {measured.n:,} images of {measured.data}")
    print_facts([("calibration", f"expected error {100 * measured.ece:.2f}% in {agreement.BINS} bins")])
    titles = ("confidence", "images", "mean confidence", "correct")
    rows = [
        (f"{row.low:.3f} to {row.high:.3f}", f"{row.n:,}", f"{100 * row.confidence:.2f}%", _share(row.correct, row.n))
        for row in measured.bins
    ]
    echo()
    print_table(titles, rows, right=titles[1:])
    return None

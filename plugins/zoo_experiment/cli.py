"""``zoo experiment``: what a lecture claims, what was measured of it, and the trainings that measure it again."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import msgspec

from zoo.cli import options
from zoo.cli.output import echo, note, print_json, print_table
from zoo.errors import MissingExtraError
from zoo.statistics import wilson
from zoo.system import storage
from zoo_experiment import experiments
from zoo_experiment.experiments import Experiment, Outcome

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SINGLE = "One training each: the test is of other images. How much another seed differs, it does not know."


def _check_figure(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """Returns the file of a figure that can be drawn, before the work and not after it."""
    if value is not None and value.suffix.lower() not in (".svg", ".png"):
        raise click.BadParameter(f"{value} is neither .svg nor .png.")
    if value is not None and find_spec("matplotlib") is None:
        raise MissingExtraError.of("Drawing", "matplotlib", "zoo-vision[look]")
    return value


@click.command(epilog="Example: zoo experiment degradation --quick")
@click.argument("chosen", default="list", metavar="[NAME]")
@click.option("--published", "how", flag_value="published", default=True, help="Show what was measured (default).")
@click.option("--quick", "how", flag_value="quick", help="Train a small version in about a minute.")
@click.option("--full", "how", flag_value="full", help="Train the full version, which takes hours.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/experiments"),
    help="Folder of the trainings; finished ones are not trained again.",
    show_default=True,
)
@click.option("--seeds", type=click.IntRange(1), help="Trainings of each row, with seeds from 0.")
@click.option(
    "--figure", type=click.Path(path_type=Path, dir_okay=False), callback=_check_figure, help="Draw the scores."
)
@options.json
def experiment(chosen: str, how: str, output: Path, seeds: int | None, figure: Path | None, as_json: bool) -> None:
    """Test a claim of the lecture, or list them all.

    NAME is one of 'zoo experiment list'. The claim is printed with the scores that test it, their spread, and whether
    it holds.
    """
    if chosen == "list":
        _list(as_json)
        return
    about = experiments.experiment(chosen)
    if how == "published":
        if seeds is not None:
            raise click.UsageError("--seeds belongs to --quick or --full.")
        outcome = experiments.published(chosen)
    else:
        version: Literal["quick", "full"] = "quick" if how == "quick" else "full"
        outcome = experiments.run(chosen, version, output=output, seeds=seeds, progress=note)
    if as_json:
        print_json({"experiment": chosen, "how": how, **_facts(about), **_result(outcome)})
    else:
        _print(about, how, outcome)
    if figure is not None:
        storage.replace(figure, _drawn(draw(about, outcome), figure.suffix.lower()))


def _list(as_json: bool) -> None:
    rows = []
    for name, about in experiments.experiments().items():
        outcome = experiments.published(name) if about.is_published else None
        ways = ["quick", "full"] if about.quick is not None else ["full"]
        rows.append((name, about, outcome, ways))
    if as_json:
        print_json(
            [
                {"experiment": name, **_facts(about), "came_out": outcome and outcome.verdict, "versions": ways}
                for name, about, outcome, ways in rows
            ]
        )
        return
    for name, about, outcome, ways in rows:
        came_out = outcome.verdict if outcome else "not published"
        echo(f"{name}: {about.question}")
        echo(f"  lecture   {about.lecture}")
        echo(f"  paper     {about.paper} ({about.source})")
        echo(f"  came out  {came_out} (trains {', '.join('--' + way for way in ways)})")


def _facts(about: Experiment) -> dict[str, str]:
    return {field: getattr(about, field) for field in ("question", "lecture", "paper", "source", "note")}


def _result(outcome: Outcome) -> dict[str, object]:
    scores = {
        label: {"top1": score.top1, "n": score.n, "train_top1": score.train, "diverged": score.diverged}
        for label, score in outcome.scores.items()
    }
    decisions = [
        {"claim_in_words": decision.claim.words, **msgspec.to_builtins(decision)} for decision in outcome.decisions
    ]
    return {"scores": scores, "decisions": decisions, "verdict": outcome.verdict}


def _print(about: Experiment, how: str, outcome: Outcome) -> None:
    echo(about.question)
    echo(f"The lecture: {about.lecture}")
    echo(f"The paper: {about.paper} ({about.source})\n")
    titles, rows = outcome.table()
    print_table(titles, rows, right=titles[1:-1])
    echo("")
    for decision in outcome.decisions:
        echo(decision.words)
    if any(len(score.correct) == 1 for score in outcome.scores.values()):
        echo(SINGLE)
    if how == "published" and about.note:
        echo(f"Note: {about.note}")
    echo(f"\n{outcome.verdict}")


def draw(about: Experiment, outcome: Outcome) -> "Figure":
    """Draws the test scores of each row with its interval, or its trainings, beside training curves where known."""
    from matplotlib.figure import Figure

    curves = {label: score.curve for label, score in outcome.scores.items() if score.curve}
    height = 1.2 + 0.32 * max(4, len(outcome.scores))
    figure = Figure(figsize=(9 if curves else 6, height), layout="constrained")
    figure.suptitle(f"{about.question} {outcome.verdict.capitalize()}.", fontsize=10)
    axes = figure.subplots(1, 2 if curves else 1, squeeze=False)[0]
    for label, curve in curves.items():
        axes[0].plot(range(1, len(curve) + 1), curve, label=label)
    if curves:
        axes[0].set(xlabel="epoch", ylabel="training images, %")
        axes[0].legend(frameon=False, fontsize=7)
    for place, score in enumerate(outcome.scores.values()):
        if len(score.correct) > 1:
            axes[-1].plot(score.top1, [place] * len(score.top1), "|", color="#3f7fb5", ms=9)
        else:
            low, high = (100 * bound for bound in wilson(*score.middle))
            axes[-1].plot([low, high], [place, place], color="#8ab6d6", lw=3)
        axes[-1].plot(score.mean, place, "o", color="#12355b", ms=4)
    axes[-1].set(xlabel="test images, %")
    axes[-1].set_yticks(range(len(outcome.scores)), outcome.scores, fontsize=8)
    axes[-1].invert_yaxis()
    for axis in axes:
        axis.grid(color="#eeeeee")
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _drawn(figure: "Figure", suffix: str) -> bytes:
    """Returns ``figure`` as the bytes of a file of this kind, the same at every call."""
    from io import BytesIO

    import matplotlib

    buffer = BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "zoo"}):
        figure.savefig(buffer, format=suffix[1:], metadata={".svg": {"Date": None}}.get(suffix), dpi=150)
    return buffer.getvalue()

"""Experiments as data, their trainings, and the rule that decides a claim.

``experiments.toml`` lists them in the order of the lecture. A plan has rows, each a network and how it is trained, and
claims compare two rows. Results come from the plan itself and the manifests (:func:`published`) or from trainings here
(:func:`run`). Nothing imports torch until something is trained.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean, median_low, stdev
from typing import Annotated, Any, Literal

import msgspec

from zoo.errors import SpecError, TrainingError, UnknownNameError
from zoo.loading.create import info
from zoo.statistics import LEVEL, fisher, holm, newcombe, welch, wilson
from zoo.system import storage, toml

__all__ = ["Claim", "Decision", "Experiment", "Outcome", "Plan", "Row", "Score", "experiment", "experiments"]
__all__ += ["decide", "published", "run"]

DIVERGED = "diverged.txt"
Verdict = Literal["holds", "does not hold", "undecided"]


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A network, how it is trained, and what was measured of it.

    Attributes:
        model: The architecture.
        args: Arguments of its build function.
        recipe: A recipe of its family, in place of the plan's.
        settings: Fields of the recipe that change, beside the plan's.
        at: More arguments with which the trained network is scored, such as FractalNet's ``column``.
        init: Weights to start from.
        classifier: A classifier of :mod:`zoo.classifiers`, fitted to the features of the network as it is, in place of
            a training.
        weights: Weights whose score in the manifest is the published one.
        top1: The published top-1 of each training, in per cent, where no such weights ship.
        train: The top-1 of the last epoch's training images, in per cent.
    """

    model: str
    args: dict[str, Any] = {}
    recipe: str = ""
    settings: dict[str, Any] = {}
    at: dict[str, Any] = {}
    init: str = ""
    classifier: str = ""
    weights: str = ""
    top1: list[float] = []
    train: float | None = None


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """That row ``first`` scores higher than ``second``; or, with ``within``, at most so many points apart."""

    first: str
    second: str
    within: Annotated[float, msgspec.Meta(gt=0)] | None = None

    @property
    def words(self) -> str:
        """The claim as a sentence without a verb."""
        if self.within is None:
            return f"{self.first} better than {self.second}"
        return f"{self.first} within {self.within:g} points of {self.second}"


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Trainings that differ in one thing.

    Attributes:
        data: The data set, whose test images are scored.
        rows: The trainings by their labels.
        claims: What decides, each about two rows.
        recipe: The rows' recipe.
        settings: Fields of the recipe that all rows change. With ``validation``, held-out images are scored instead.
        seeds: Trainings of each row, with seeds from 0.
        n: The images of which ``top1`` of the rows was published.
        noise: Points by which two trainings of one row were seen to differ: less than twice as many decide nothing
            between two single trainings.
    """

    data: str
    rows: dict[str, Row]
    claims: list[Claim]
    recipe: str = ""
    settings: dict[str, Any] = {}
    seeds: Annotated[int, msgspec.Meta(ge=1)] = 1
    n: int = 0
    noise: Annotated[float, msgspec.Meta(ge=0)] = 0.0

    def training(self, row: Row, seed: int) -> dict[str, Any]:
        """Returns the arguments of :func:`zoo.train` that decide the result; a classifier is no such training."""
        settings = {**self.settings, **row.settings, "seed": seed}
        recipe = row.recipe or self.recipe or None
        init = {"init": row.init} if row.init else {}
        return {"name": row.model, "data": self.data, "args": row.args, "recipe": recipe, "settings": settings, **init}


class Experiment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A claim of the lecture and of a paper, and the trainings that test it.

    Attributes:
        question: What is asked.
        lecture: What the lecture says.
        paper: What the paper says.
        source: The paper, and where in it.
        full: The whole; it holds the published results.
        quick: A version of about a minute, on data that ships with scikit-learn.
        note: What limits the published result.
    """

    question: str
    lecture: str
    paper: str
    source: str
    full: Plan
    quick: Plan | None = None
    note: str = ""

    @property
    def is_published(self) -> bool:
        """Whether any result is stored."""
        return any(row.weights or row.top1 for row in self.full.rows.values())


class Score(msgspec.Struct, frozen=True):
    """Top-1 of one or more trainings of a row.

    Attributes:
        correct: Images that each training classifies correctly.
        n: Images.
        train: Top-1 of the last epoch's training images in per cent, the mean of all trainings.
        curve: Top-1 of the training images by epoch, of the first training.
        diverged: Trainings whose loss became no number: each counts as no image right.
    """

    correct: list[int]
    n: int
    train: float | None = None
    curve: list[float] = []
    diverged: int = 0

    @property
    def top1(self) -> list[float]:
        """Top-1 of each training in per cent."""
        return [100 * correct / self.n for correct in self.correct]

    @property
    def mean(self) -> float:
        """The mean of :attr:`top1`."""
        return fmean(self.top1)

    @property
    def middle(self) -> tuple[int, int]:
        """The (correct, n) of the median training."""
        return median_low(self.correct), self.n

    @property
    def spread(self) -> str:
        """``± 0.30 (3)`` of several trainings, Wilson's 95% interval of a single one."""
        if len(self.correct) > 1:
            return f"± {stdev(self.top1):.2f} ({len(self.correct)})"
        return "{:.2f} to {:.2f}".format(*(100 * bound for bound in wilson(*self.middle)))


class Decision(msgspec.Struct, frozen=True):
    """The answer of two scores to a claim: the ``difference`` of the means in points, its 95% interval, and the test.

    ``p`` is corrected for the number of claims by Holm's method. It is None of a claim with ``within``, which the
    interval decides.
    """

    claim: Claim
    difference: float
    low: float
    high: float
    test: str
    p: float | None
    verdict: Verdict

    @property
    def words(self) -> str:
        """The decision in a line."""
        p = "" if self.p is None else f", p = {self.p:.2g}" if self.p >= 1e-99 else ", p < 1e-99"
        points = f"{self.difference:+.2f} points ({self.low:+.2f} to {self.high:+.2f})"
        return f"{self.claim.words}: {points}; {self.test}{p}: {self.verdict}"


class Outcome(msgspec.Struct, frozen=True):
    """Scores by row, and what they say of each claim."""

    scores: dict[str, Score]
    decisions: list[Decision]

    @property
    def verdict(self) -> Verdict:
        """``holds`` if all claims do, ``does not hold`` if any does not."""
        verdicts = {decision.verdict for decision in self.decisions}
        if "does not hold" in verdicts:
            return "does not hold"
        return "holds" if verdicts == {"holds"} else "undecided"

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Returns titles and rows, as :func:`zoo.cli.output.print_table` takes them."""
        has_train = any(score.train is not None for score in self.scores.values())
        rows = []
        for label, score in self.scores.items():
            train = [] if not has_train else ["" if score.train is None else f"{score.train:.2f}"]
            mean = f"{score.mean:.2f}" + (f", {score.diverged} diverged" if score.diverged else "")
            rows.append((label, *train, mean, score.spread))
        titles = ("row", *(["training images, %"] if has_train else []), "test images, %", "95% interval, or ± (n)")
        return titles, rows


@cache
def experiments() -> dict[str, Experiment]:
    """Returns the experiments by name, in the order of the lecture.

    Example:
        >>> import zoo
        >>> zoo.experiment.experiments()["degradation"].source
        'He et al. 2015, section 4.2 and figure 6'
    """
    text = Path(__file__).with_name("experiments.toml").read_text(encoding="utf-8")
    return msgspec.convert(toml.loads(text), dict[str, Experiment])


def experiment(name: str) -> Experiment:
    """Returns an experiment; raises :class:`UnknownNameError` if there is none of this name."""
    if name not in experiments():
        raise UnknownNameError.of("experiment", name, experiments(), hint="zoo experiment list names them.")
    return experiments()[name]


def published(name: str) -> Outcome:
    """Returns the stored results of an experiment, without a training.

    Raises :class:`SpecError` if there are none.

    Example:
        >>> import zoo
        >>> zoo.experiment.published("degradation").verdict
        'holds'
    """
    about = experiment(name)
    if not about.is_published:
        raise SpecError(f"No results of {name} are published.", hint=_instead(name, about))
    plan = about.full
    scores = {label: _stored(row, plan) for label, row in plan.rows.items() if row.weights or row.top1}
    return decide(plan, scores)


def run(
    name: str,
    how: Literal["quick", "full"] = "quick",
    *,
    output: Path | str = "runs/experiments",
    seeds: int | None = None,
    progress: Callable[[str], object] = lambda text: None,
) -> Outcome:
    """Trains and scores the rows of an experiment that are not finished, and decides its claims.

    Args:
        name: The experiment.
        how: ``"quick"``, about a minute, or ``"full"``.
        output: The folder of the runs. One that was stopped continues; a finished one is not trained again.
        seeds: Trainings of each row. By default as many as the plan has.
        progress: Called with the label and seed of each training.

    Raises:
        UnknownNameError: There is no such experiment.
        SpecError: It has no such version.
        DataError: The data set is not there.
    """
    about = experiment(name)
    plan = about.quick if how == "quick" else about.full
    if plan is None:
        raise SpecError(f"There is no {how} version of {name}.", hint=_instead(name, about))
    results: dict[str, list[_Run]] = {label: [] for label in plan.rows}
    for seed in range(plan.seeds if seeds is None else seeds):
        for label, row in plan.rows.items():
            progress(f"{label}, seed {seed}")
            results[label].append(_carry_out(plan, row, seed, Path(output)))
    return decide(plan, {label: _together(runs) for label, runs in results.items()})


def decide(plan: Plan, scores: Mapping[str, Score]) -> Outcome:
    """Decides the claims of ``plan`` whose rows have scores.

    Two rows of several trainings are compared by Welch's t-test of their means. If one has a single training, Fisher's
    exact test compares the counts of the median trainings: it says what other images would, not what other seeds
    would. A claim to be better needs p < 0.05 (Holm's, over all such claims of the plan), and between single trainings
    more than twice the plan's ``noise``. A claim to be close needs the whole 95% interval within its bounds.
    """
    claims = [claim for claim in plan.claims if claim.first in scores and claim.second in scores]
    measured = [_compare(scores[claim.first], scores[claim.second], plan.noise) for claim in claims]
    corrected = iter(
        holm([comparison.p for claim, comparison in zip(claims, measured, strict=True) if claim.within is None])
    )
    decisions = []
    for claim, it in zip(claims, measured, strict=True):
        p = None if claim.within is not None else next(corrected)
        test = it.test if claim.within is None else it.interval
        decisions.append(Decision(claim, it.difference, it.low, it.high, test, p, _verdict(claim, it, p, plan.noise)))
    return Outcome(dict(scores), decisions)


class _Comparison(msgspec.Struct, frozen=True):
    difference: float
    low: float
    high: float
    test: str
    interval: str
    p: float
    is_single: bool


def _compare(first: Score, second: Score, noise: float) -> _Comparison:
    numbers = f"{len(first.correct)} and {len(second.correct)} trainings"
    is_single = min(len(first.correct), len(second.correct)) == 1
    varies = len({*first.correct}) > 1 or len({*second.correct}) > 1
    if varies and not is_single:
        p, low, high = welch(first.top1, second.top1)
        difference = first.mean - second.mean
        return _Comparison(difference, low, high, f"Welch, {numbers}", f"Welch's interval, {numbers}", p, False)
    low, high = (100 * bound for bound in newcombe(first.middle, second.middle))
    difference = 100 * (first.middle[0] / first.n - second.middle[0] / second.n)
    of = "one training each" if is_single else "the median trainings"
    p, interval = fisher(first.middle, second.middle), f"Newcombe's interval, {of}"
    return _Comparison(difference, low, high, f"Fisher, {of}", interval, p, is_single)


def _verdict(claim: Claim, of: _Comparison, p: float | None, noise: float) -> Verdict:
    margin = 2 * noise if of.is_single else 0.0
    if claim.within is not None:
        if -claim.within <= of.low - margin and of.high + margin <= claim.within:
            return "holds"
        is_outside = of.low - margin > claim.within or of.high + margin < -claim.within
        return "does not hold" if is_outside else "undecided"
    if p is None or p >= LEVEL or abs(of.difference) <= margin:
        return "undecided"
    return "holds" if of.difference > 0 else "does not hold"


def _instead(name: str, about: Experiment) -> str:
    ways = {"published": about.is_published, "quick": about.quick is not None, "full": True}
    return f"zoo experiment {name} {' or '.join(f'--{how}' for how, is_there in ways.items() if is_there)}"


def _stored(row: Row, plan: Plan) -> Score:
    if not row.weights:
        return Score([round(top1 * plan.n / 100) for top1 in row.top1], plan.n, row.train)
    (weights,) = info(row.weights)["weights"]
    score = weights["scores"][f"{plan.data}/test"]
    curve = weights.get("history", {}).get("train_top1", [])
    every = score["spread"]["top1"] if score.get("spread") else None
    correct = [score["correct"]] if every is None else [round(top1 * score["n"] / 100) for top1 in every]
    train = row.train if row.train is not None else curve[-1] if curve else None
    return Score(correct, score["n"], train, curve)


class _Run(msgspec.Struct, frozen=True):
    correct: int
    n: int
    curve: list[float] = []
    is_diverged: bool = False


def _together(runs: Sequence[_Run]) -> Score:
    curves = [run.curve for run in runs if run.curve and not run.is_diverged]
    train = fmean(curve[-1] for curve in curves) if curves else None
    curve = curves[0] if curves else []
    return Score([run.correct for run in runs], runs[0].n, train, curve, sum(run.is_diverged for run in runs))


def _carry_out(plan: Plan, row: Row, seed: int, output: Path) -> _Run:
    """Trains or fits a row unless that is done, and scores it unless that is done."""
    arguments = plan.training(row, seed)
    if row.classifier:
        directory = output / f"{row.model}-{_digest({**arguments, 'classifier': row.classifier})}"
        return _scored(directory / "score.json", lambda: _classify(plan, row, seed))
    return _train(plan, row, arguments, output / f"{row.model}-{_digest(arguments)}")


def _train(plan: Plan, row: Row, arguments: dict[str, Any], directory: Path) -> _Run:
    from zoo import create, data, evaluate, train

    is_finished = (directory / "model.safetensors").exists()
    if not is_finished and not (directory / DIVERGED).exists():
        try:
            train(**arguments, output=directory, resume=(directory / "config.json").exists())
        except TrainingError as error:
            if "The loss became" not in str(error):
                raise
            storage.replace(directory / DIVERGED, str(error).encode())
    file = directory / "log.jsonl"
    log = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    curve = [line["train_top1"] for line in log if "train_top1" in line]
    held_out = arguments["settings"].get("validation")
    if (directory / DIVERGED).exists():
        return _Run(0, held_out or len(data.load(plan.data, "test")), curve, is_diverged=True)
    if held_out:
        return _Run(round(log[-1]["val_top1"] * held_out / 100), held_out, curve)
    file = directory / (f"score-{_digest(row.at)}.json" if row.at else "score.json")
    run = _scored(file, lambda: evaluate(create(str(directory), **row.at), plan.data))
    return msgspec.structs.replace(run, curve=curve)


def _classify(plan: Plan, row: Row, seed: int) -> Any:
    """Fits the row's classifier to features of the training images, and scores it on those of the test images."""
    import torch

    from zoo import classifiers, create, features

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = create(row.init or row.model, **row.args)
    train, test = (features(network, plan.data, split) for split in ("train", "test"))
    return classifiers.classify(train, test, row.classifier)


def _scored(file: Path, score: Callable[[], Any]) -> _Run:
    """Returns what ``file`` says, or else ``score()``, whose ``correct`` and ``n`` are written there."""
    if not file.exists():
        report = score()
        storage.replace(file, json.dumps({"correct": report.correct, "n": report.n}).encode())
    return msgspec.json.decode(file.read_bytes(), type=_Run)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]

"""Facts that the site shows of each model, also how its weights fail: values alone, read without torch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from zoo import registry, statistics
from zoo.manifest import Score, Weights
from zoo.registry import DISTRIBUTION, Listed, listing
from zoo.results import Row
from zoo.spec import Model
from zoo.training import choice, reproduce


class Scored(msgspec.Struct, frozen=True):
    """The top-1 on images that were changed by ``strength``, in per cent with its 95% interval."""

    strength: float
    top1: float
    interval: tuple[float, float]


class Curve(msgspec.Struct, frozen=True):
    """The fall of the score as images are attacked or transformed: ``kind`` is ``attack`` or ``transformation``."""

    kind: str
    name: str
    unit: str
    data: str
    n: int
    fingerprint: str
    points: tuple[Scored, ...]
    command: str = ""


class Sheet(msgspec.Struct, frozen=True):
    """A file of pictures, each as large as ``tile`` (width, height), in rows of ``columns``."""

    file: str
    tile: tuple[int, int]
    columns: int
    rows: int


class Example(msgspec.Struct, frozen=True):
    """An image that was confused, by its number in the split; the probability of the class that was predicted."""

    image: int
    true: str
    predicted: str
    probability: float | None


class Confusion(msgspec.Struct, frozen=True):
    """The number of images by true and by predicted class, and some that were confused."""

    data: str
    fingerprint: str
    n: int
    correct: int
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    examples: tuple[Example, ...] = ()
    sheet: Sheet | None = None

    @property
    def pairs(self) -> list[tuple[str, str, int]]:
        """The classes that are confused, true and predicted, the most frequent pair first."""
        confused = [
            (self.classes[true], self.classes[predicted], count)
            for true, row in enumerate(self.counts)
            for predicted, count in enumerate(row)
            if true != predicted and count
        ]
        return sorted(confused, key=lambda pair: -pair[2])


class Predicted(msgspec.Struct, frozen=True):
    """A class with its probability, and whether it is the image's."""

    name: str
    probability: float
    is_right: bool


class Series(msgspec.Struct, frozen=True):
    """A few images attacked at several ``epsilons`` in units of 1/255: a row of the ``sheet`` for each image."""

    name: str
    data: str
    fingerprint: str
    epsilons: tuple[float, ...]
    images: tuple[int, ...]
    truths: tuple[str, ...]
    predicted: tuple[tuple[Predicted, ...], ...]
    sheet: Sheet
    command: str

    @property
    def right(self) -> list[int]:
        """The images that are classified rightly, by epsilon."""
        return [sum(one.is_right for one in column) for column in zip(*self.predicted, strict=True)]


class PatchScore(msgspec.Struct, frozen=True):
    """The success of a patch in making weights predict ``target``, in per cent with its interval; ``without`` it."""

    target: str
    data: str
    fingerprint: str
    n: int
    rate: float
    interval: tuple[float, float]
    without: float
    area: float
    sheet: Sheet
    command: str


class Failures(msgspec.Struct, frozen=True):
    """The failures of weights, as far as they were measured."""

    curves: tuple[Curve, ...] = ()
    confusions: tuple[Confusion, ...] = ()
    series: tuple[Series, ...] = ()
    patches: tuple[PatchScore, ...] = ()

    @property
    def sheets(self) -> list[Sheet]:
        """The pictures that a page about them shows."""
        shown = [one.sheet for one in self.confusions if one.sheet is not None]
        return [*shown, *(one.sheet for one in self.series), *(one.sheet for one in self.patches)]


class Claim(msgspec.Struct, frozen=True):
    """A score of a manifest; ``interval`` is the 95% interval of ``top1``."""

    split: str
    score: Score
    interval: tuple[float, float] | None

    @property
    def is_measured(self) -> bool:
        """Whether this project counted the right images, which it states then."""
        return self.score.correct is not None


class Published(msgspec.Struct, frozen=True):
    """A figure that others report for an architecture."""

    data: str
    top1: float | None
    mean_class: float | None
    source: str
    protocol: str
    """Its protocol in words."""


class Latency(msgspec.Struct, frozen=True):
    """The time of one batch: the fields of ``zoo benchmark --csv`` that the site shows."""

    model: str
    latency_ms: float
    batch_size: int
    hardware: str
    device: str
    threads: int
    precision: str
    backend: str
    torch: str

    @property
    def images_per_second(self) -> float:
        return 1000 * self.batch_size / self.latency_ms

    @property
    def setting(self) -> str:
        """The place and way of the measurement: only latencies of one setting can be compared."""
        batch = f"{self.batch_size} image{'s' if self.batch_size > 1 else ''} a batch"
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        parts = (self.hardware, self.device, threads, self.precision, batch, f"torch {self.torch} {self.backend}")
        return ", ".join(parts)


class Explored(msgspec.Struct, frozen=True):
    """A layer with ``channels`` in the atlas of the site, and the address of its page below the site's folder."""

    layer: str
    address: str
    channels: int


class Findings(NamedTuple):
    """Measurements in files, by the weights' names; latencies also by those of models."""

    latencies: Mapping[str, Latency] = {}
    failures: Mapping[str, Failures] = {}
    explored: Mapping[str, Sequence[Explored]] = {}


_NOTHING = Findings()


class Recheck(msgspec.Struct, frozen=True):
    """A row of a table of results; ``verdict`` compares it with the score of the manifest, if there is one."""

    row: Row
    verdict: str


class Trained(msgspec.Struct, frozen=True):
    """Weights of a model."""

    name: str
    weights: Weights
    params: int
    macs: int
    claims: tuple[Claim, ...]
    training: dict[str, str]
    published: Published | None
    latency: Latency | None
    failures: Failures
    explored: tuple[Explored, ...] = ()
    rechecks: tuple[Recheck, ...] = ()
    is_default: bool = False
    """Whether they are those of several that the model's name alone means."""

    @property
    def main(self) -> Claim | None:
        """The score on the data set of the weights' classes, else the first."""
        split, _ = listing.main_score(self.weights)
        return next((claim for claim in self.claims if claim.split == split), None)


class Page(msgspec.Struct, frozen=True):
    """A model, which has a page of its own, and its weights."""

    name: str
    family: str
    distribution: str
    version: str
    is_builtin: bool
    model: Model
    trained: tuple[Trained, ...]
    published: tuple[Published, ...]

    @property
    def slug(self) -> str:
        """The page's file without its suffix. A name has no dot, so no two names have one slug."""
        return self.name.replace("/", ".")

    @property
    def year(self) -> int | None:
        return self.model.paper.year if self.model.paper else None


def pages(models: Iterable[Listed], findings: Findings = _NOTHING) -> list[Page]:
    """Returns a page for each of ``models``, in their order."""
    return [_page(entry, findings) for entry in models]


def _page(entry: Listed, findings: Findings) -> Page:
    return Page(
        name=entry.name,
        family=entry.row.name,
        distribution=DISTRIBUTION if entry.row.is_builtin else entry.row.distribution,
        version=entry.row.version,
        is_builtin=entry.row.is_builtin,
        model=entry.model,
        trained=tuple(_trained(entry, weights, findings) for weights in entry.weights),
        published=_published(entry),
    )


def _published(entry: Listed, weights: Weights | None = None) -> tuple[Published, ...]:
    figures = choice.published(entry.row.plugin, entry.model.name, weights.args if weights else None)
    return tuple(
        Published(it.data, it.top1, it.mean_class, it.reference, ", ".join(it.protocol.words().values()))
        for it in figures
    )


def _trained(entry: Listed, weights: Weights, findings: Findings) -> Trained:
    name = f"{entry.name}.{weights.tag}"
    return Trained(
        name=name,
        weights=weights,
        params=listing.params_of(entry.model, weights),
        macs=listing.macs_of(entry.model, weights),
        claims=tuple(_claim(split, score) for split, score in weights.scores.items()),
        training=reproduce.training_of(weights),
        published=next((one for one in _published(entry, weights) if one.data == weights.classes), None),
        latency=findings.latencies.get(name) or findings.latencies.get(entry.name),
        failures=findings.failures.get(name, Failures()),
        explored=tuple(findings.explored.get(name, ())),
        is_default=len(entry.weights) > 1 and weights == registry.current().default_of(entry.row, entry.model),
    )


def _claim(split: str, score: Score) -> Claim:
    interval = statistics.percent_interval(score.top1, score.n, score.correct) if score.top1 is not None else None
    return Claim(split, score, interval)

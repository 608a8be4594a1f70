"""What the site says about each model: values alone, read without torch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from zoo.errors import RecipeError
from zoo.manifest import Score, Weights, interval
from zoo.registry import DISTRIBUTION, Listed, listing
from zoo.results.rows import Row
from zoo.spec import Model, Plugin
from zoo.training import choice, reproduce
from zoo.training.recipe import Expectation
from zoo_gallery.failures import Failures


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
    top1: float
    source: str


class Latency(msgspec.Struct, frozen=True):
    """What one batch takes: the fields of ``zoo benchmark --csv`` that the site shows."""

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
    def setting(self) -> str:
        """Where and how it was measured: only latencies of one setting can be compared."""
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
    """What files say about weights, by their names; latencies also by those of models."""

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
    """A page for each of ``models``, in their order."""
    quoted: dict[str, list[Expectation]] = {}
    found = []
    for entry in models:
        if entry.row.name not in quoted:
            quoted[entry.row.name] = _quoted(entry.row.plugin)
        found.append(_page(entry, quoted[entry.row.name], findings))
    return found


def _page(entry: Listed, quoted: list[Expectation], findings: Findings) -> Page:
    own = (one for one in quoted if one.model == entry.model.name)
    published = tuple(Published(one.data, one.top1, one.source) for one in own)
    return Page(
        name=entry.name,
        family=entry.row.name,
        distribution=DISTRIBUTION if entry.row.is_builtin else entry.row.distribution,
        version=entry.row.version,
        is_builtin=entry.row.is_builtin,
        model=entry.model,
        trained=tuple(_trained(entry, weights, published, findings) for weights in entry.weights),
        published=published,
    )


def _trained(
    entry: Listed,
    weights: Weights,
    published: tuple[Published, ...],
    findings: Findings,
) -> Trained:
    name = f"{entry.name}.{weights.tag}"
    return Trained(
        name=name,
        weights=weights,
        params=listing.params_of(entry.model, weights),
        macs=listing.macs_of(entry.model, weights),
        claims=tuple(_claim(split, score) for split, score in weights.scores.items()),
        training=reproduce.training_of(weights),
        published=next((one for one in published if one.data == weights.classes), None),
        latency=findings.latencies.get(name) or findings.latencies.get(entry.name),
        failures=findings.failures.get(name, Failures()),
        explored=tuple(findings.explored.get(name, ())),
    )


def _claim(split: str, score: Score) -> Claim:
    found = interval.of_percent(score.top1, score.n, score.correct) if score.top1 is not None else None
    return Claim(split, score, found)


def _quoted(plugin: Plugin | None) -> list[Expectation]:
    """The figures of others that a plugin's recipes quote. Recipes that cannot be read hide no page."""
    try:
        tables = choice.read(plugin) if plugin is not None else {}
        given = [one for name, table in tables.items() for one in choice.expectations(name, table)]
    except RecipeError:
        return []
    return [one for one in given if one.source and not one.on]  # those with a machine are this project's own

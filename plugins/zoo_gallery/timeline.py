"""The timeline: the papers of the registry's models by year, with the winners of ILSVRC among them."""

import tomllib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from zoo.spec import Paper
from zoo_gallery.charts import bars
from zoo_gallery.facts import Page
from zoo_gallery.markup import Markup


class Winner(msgspec.Struct, frozen=True):
    """An entry of ILSVRC's classification task. ``layers`` is 0 if it was not one network.

    ``is_designed`` says that its features were designed by hand.
    """

    year: int
    entry: str
    what: str
    top5_error: float
    layers: int = 0
    is_designed: bool = False
    paper: str = ""


class Cited(msgspec.Struct, frozen=True):
    """A paper with the pages of its models, and the entries of ILSVRC that it describes."""

    paper: Paper
    pages: tuple[Page, ...]
    winners: tuple[Winner, ...]


class Year(msgspec.Struct, frozen=True):
    """The papers of a year, and the winners that no model's paper describes."""

    year: int
    papers: tuple[Cited, ...]
    winners: tuple[Winner, ...]


def winners() -> list[Winner]:
    text = Path(__file__).with_name("winners.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text)["winner"], list[Winner])


def years(pages: Iterable[Page]) -> list[Year]:
    """Every year in which a paper of ``pages`` was published or ILSVRC was won, oldest first."""
    papers: dict[Paper, list[Page]] = {}
    for page in pages:
        if page.model.paper is not None:
            papers.setdefault(page.model.paper, []).append(page)
    known = winners()
    by_address = {paper.url: paper for paper in papers if paper.url}
    found = []
    for year in sorted({paper.year for paper in papers} | {winner.year for winner in known}):
        own = tuple(
            Cited(paper, tuple(of), tuple(one for one in known if one.paper == paper.url and paper.url))
            for paper, of in sorted(papers.items(), key=lambda item: (item[0].title, item[0].url))
            if paper.year == year
        )
        lone = tuple(one for one in known if one.year == year and one.paper not in by_address)
        found.append(Year(year, own, lone))
    return found


def depth() -> Markup:
    """The error of ILSVRC's winners by year, with their layers."""
    rows = [
        (f"{one.year} {one.entry}", one.top5_error, _in_words(one), "designed" if one.is_designed else "learned")
        for one in winners()
    ]
    return bars(rows, label="Top-5 error of the best entries of ILSVRC by year. The table below has the numbers.")


def _in_words(winner: Winner) -> str:
    how = f"{winner.layers} layers" if winner.layers else "designed features" if winner.is_designed else ""
    return f"{winner.top5_error:g}%" + (f", {how}" if how else "")

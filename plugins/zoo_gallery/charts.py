"""Charts as SVG: points over a logarithmic axis with the Pareto line, and bars; the timeline of papers."""

import tomllib
from collections.abc import Callable, Iterable, Sequence
from math import ceil, floor, log10
from pathlib import Path
from typing import NamedTuple

import msgspec

from zoo.spec import Paper
from zoo_gallery.facts import Page
from zoo_gallery.markup import Markup, element

_WIDTH, _HEIGHT = 620.0, 400.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 16.0, 14.0, 50.0
COLORS = 8
"""Classes ``c0``, ``c1``, ... of the stylesheet."""
_BETWEEN_MARKS = 30.0
"""The least distance of two marks of an axis at measured values."""

_SHAPES: tuple[Callable[[float, float], str], ...] = (
    lambda x, y: f"M{x - 5:.1f} {y:.1f}a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",  # circle
    lambda x, y: f"M{x - 4.5:.1f} {y - 4.5:.1f}h9v9h-9z",  # square
    lambda x, y: f"M{x:.1f} {y - 6:.1f}l5.5 10h-11z",  # triangle
    lambda x, y: f"M{x:.1f} {y - 6.5:.1f}l6 6.5l-6 6.5l-6 -6.5z",  # diamond
    lambda x, y: f"M{x:.1f} {y + 6:.1f}l5.5 -10h-11z",  # triangle, down
    lambda x, y: f"M{x - 1.8:.1f} {y - 6:.1f}h3.6v4.2h4.2v3.6h-4.2v4.2h-3.6v-4.2h-4.2v-3.6h4.2z",  # plus
    lambda x, y: f"M{x - 5.5:.1f} {y:.1f}l2.7 -5h5.6l2.7 5l-2.7 5h-5.6z",  # hexagon
)


class Point(NamedTuple):
    """A marker at ``x`` and ``y``, with its 95% interval if known; ``group`` decides colour and shape.

    ``link`` may be empty.
    """

    x: float
    y: float
    label: str
    link: str
    group: int
    interval: tuple[float, float] | None = None
    is_hollow: bool = False

    @property
    def name(self) -> str:
        """The label up to its colon."""
        return self.label.partition(":")[0]


def pareto(points: Sequence[Point]) -> list[Point]:
    """Returns the points that no other beats at lower or equal ``x``, from left to right."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.x, -point.y)):
        if not best or point.y > best[-1].y:
            best.append(point)
    return best


def marker(group: int, x: float = 8.0, y: float = 8.0, *, is_hollow: bool = False) -> Markup:
    """Returns the marker of a group: no two of the first 56 have one colour and one shape."""
    shape = _SHAPES[(group + group // COLORS) % len(_SHAPES)]
    return element("path", d=shape(x, y), class_=f"c{group % COLORS}{' hollow' if is_hollow else ''}")


def key(group: int) -> Markup:
    """Returns the marker of a group as a picture of its own, beside its name in the legend."""
    return element("svg", marker(group), viewBox="0 0 16 16", width=16, height=16, aria_hidden="true")


def scatter(points: Sequence[Point], *, x_title: str, y_title: str, x_unit: Callable[[float], str]) -> Markup:
    """Draws ``points``: each a link if it has one, those that no other beats joined by a line."""
    x_of, x_marks = _logarithmic([point.x for point in points])
    ends = [end for point in points for end in (point.y, *(point.interval or ()))]
    y_of, y_marks = _linear(min(ends), max(ends))
    grid = [_vertical(x_of(value), x_unit(value)) for value in x_marks]
    grid += [_horizontal(y_of(value), f"{value:g}") for value in y_marks]
    line = " ".join(f"{x_of(point.x):.1f},{y_of(point.y):.1f}" for point in pareto(points))
    drawn = [_linked(point, x_of(point.x), y_of) for point in sorted(points, key=lambda one: (one.x, one.y))]
    names = _names(pareto(points), points, x_of, y_of)
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    half = (_TOP + _HEIGHT - _BOTTOM) / 2
    titles = [
        element("text", x_title, x=middle, y=_HEIGHT - 8, text_anchor="middle", class_="axis"),
        element("text", y_title, x=14.0, y=half, text_anchor="middle", transform=f"rotate(-90 14 {half:.0f})",
                class_="axis"),
    ]  # fmt: skip
    label = f"{y_title} over {x_title}: {len(points)} points"
    label += ", each a link. The table below has the numbers." if points[0].link else ""
    return element(
        "svg", element("g", *grid, class_="grid", aria_hidden="true"),
        element("polyline", points=line, class_="pareto"),
        element("g", *drawn, class_="points"), element("g", *names, class_="names", aria_hidden="true"), *titles,
        viewBox=f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}", role="group", aria_label=label, class_="chart",
    )  # fmt: skip


def lines(
    series: Sequence[Sequence[tuple[float, float, tuple[float, float] | None]]],
    *,
    x_title: str,
    label: str,
    y_title: str = "top-1, %",
    top: float = 100.0,
) -> Markup:
    """Values from 0 to ``top`` over numbers: a line for each series.

    A point with a 95% interval has a marker; of a line without intervals, the last point has one.
    """
    places = sorted({x for line in series for x, _, _ in line})
    low, reach = places[0], (places[-1] - places[0]) or 1.0
    wide, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _BOTTOM - _TOP

    def x_of(value: float) -> float:
        return _LEFT + 8 + (value - low) / reach * (wide - 16)

    def y_of(value: float) -> float:
        return _HEIGHT - _BOTTOM - min(value, top) / top * tall

    marked = places[:1]
    for place in places[1:]:
        marked += [place] if x_of(place) - x_of(marked[-1]) > _BETWEEN_MARKS else []
    grid = [_vertical(x_of(place), f"{place:.3g}") for place in marked]
    grid += [_horizontal(y_of(top * step / 5), f"{top * step / 5:.3g}") for step in range(6)]
    drawn = []
    for group, line in enumerate(series):
        path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y, _ in line)
        drawn.append(element("polyline", points=path, class_=f"line c{group % COLORS}"))
        for place, (x, y, interval) in enumerate(line):
            if interval is not None:
                least, most = interval
                whisker = f"M{x_of(x):.1f} {y_of(least):.1f}V{y_of(most):.1f}"
                drawn.append(element("path", d=whisker, class_=f"whisker c{group % COLORS}"))
            if interval is not None or place == len(line) - 1:
                drawn.append(marker(group, x_of(x), y_of(y)))
    titles = [
        element("text", x_title, x=_LEFT + wide / 2, y=_HEIGHT - 8, text_anchor="middle", class_="axis"),
        element("text", y_title, x=14.0, y=_TOP + tall / 2, text_anchor="middle",
                transform=f"rotate(-90 14 {_TOP + tall / 2:.0f})", class_="axis"),
    ]  # fmt: skip
    return element(
        "svg", element("g", *grid, class_="grid"), *drawn, *titles,
        viewBox=f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}", role="img", aria_label=label, class_="chart",
    )  # fmt: skip


def round_above(value: float) -> float:
    """Returns the least of 1, 2 and 5 times a power of ten that is at least ``value``."""
    power = 10.0 ** floor(log10(value)) if value > 0 else 1.0
    return next(step * power for step in (1, 2, 5, 10) if value <= step * power)


def bars(rows: Sequence[tuple[str, float, str, str]], *, label: str) -> Markup:
    """Draws horizontal bars with their values: name, length, value in words, class."""
    longest = max(length for _, length, _, _ in rows)
    row, left, width = 30.0, 190.0, 620.0
    beside = 10.0 * max(len(words) for _, _, words, _ in rows) + 8  # on a phone, letters are that wide
    parts = []
    for number, (name, length, words, kind) in enumerate(rows):
        y = 6 + row * number
        long = max((width - left - beside) * length / longest, 1.0)
        parts += [
            element("text", name, x=left - 10, y=y + 16, text_anchor="end"),
            element("rect", x=left, y=y, width=long, height=row - 8, rx=2, class_=kind),
            element("text", words, x=left + long + 8, y=y + 16),
        ]
    height = row * len(rows) + 6
    return element("svg", *parts, viewBox=f"0 0 {width:.0f} {height:.0f}", role="img", aria_label=label, class_="bars")


def _linked(point: Point, x: float, y_of: Callable[[float], float]) -> Markup:
    about = element("title", point.label)
    parts = [about]
    if point.interval is not None:
        low, high = (y_of(end) for end in point.interval)
        parts.append(element("path", d=f"M{x:.1f} {low:.1f}V{high:.1f}", class_=f"whisker c{point.group % COLORS}"))
    parts.append(marker(point.group, x, y_of(point.y), is_hollow=point.is_hollow))
    if not point.link:
        return element("g", *parts)
    place = f"{x:.1f} {y_of(point.y):.1f}"
    return element("a", *parts, href=point.link, aria_label=point.label, data_group=point.group, data_place=place)


_LETTER, _LINE = 6.0, 13.0
"""The width and height of a letter of a name, about."""


def _names(
    named: Sequence[Point], points: Sequence[Point], x_of: Callable[[float], float], y_of: Callable[[float], float]
) -> list[Markup]:
    """Writes the names of points beside them, where they cover neither each other nor, if possible, markers."""
    markers = [(x_of(point.x), y_of(point.y)) for point in points]
    boxes: list[tuple[float, float, float, float]] = []
    written = []
    for point in named:
        x, y, name = x_of(point.x), y_of(point.y), point.name
        width = _LETTER * len(name)
        best: tuple[float, float, float] | None = None
        for distance in range(8):
            for right in (False, True):
                for below in (False, True):
                    left = x + 9 if right else x - 9 - width
                    top = y + 2 + _LINE * distance if below else y - 2 - _LINE * (distance + 1)
                    cost = 3.0 * distance
                    is_inside = left >= _LEFT and left + width <= _WIDTH and 0 <= top <= _HEIGHT - _BOTTOM - _LINE
                    cost += 0 if is_inside else 200
                    cost += 100 * sum(
                        left < right_end and left + width > start and top < low and top + _LINE > high
                        for start, high, right_end, low in boxes
                    )
                    cost += 8 * sum(
                        left - 6 < at < left + width + 6 and top - 6 < to < top + _LINE + 6 for at, to in markers
                    )
                    if best is None or cost < best[0]:
                        best = cost, left, top
        assert best is not None
        _, left, top = best
        boxes.append((left, top, left + width, top + _LINE))
        if abs(top + _LINE / 2 - y) > 2 * _LINE:
            end = left if left > x else left + width
            written.append(
                element("path", d=f"M{x:.1f} {y:.1f}L{end:.1f} {top + _LINE / 2:.1f}", data_group=point.group)
            )
        written.append(element("text", name, x=left, y=top + _LINE - 3, data_group=point.group))
    return written


def _logarithmic(values: Sequence[float]) -> tuple[Callable[[float], float], list[float]]:
    """Places of values, and marks at round ones: at more of them the fewer powers of ten there are."""
    low, high = log10(min(values)) - 0.08, log10(max(values)) + 0.08
    powers = range(floor(low), ceil(high) + 1)
    steps = (1, 2, 3, 5, 7) if high - low < 1 else (1, 2, 5) if high - low < 2 else (1,)
    marks = [step * 10.0**power for power in powers for step in steps]
    inner = [mark for mark in marks if low <= log10(mark) <= high]
    return lambda value: _LEFT + (log10(value) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT), inner


def _linear(low: float, high: float) -> tuple[Callable[[float], float], list[float]]:
    """Places of percentages, and about five marks at round ones."""
    reach = max(high - low, 1.0)
    step = next((size for size in (0.2, 0.5, 1, 2, 5, 10) if reach / size <= 6), 20)
    low, high = max(0.0, low - 0.04 * reach), min(100.0, high + 0.04 * reach)
    first = ceil(low / step)
    marks = [round(step * number, 1) for number in range(first, floor(high / step) + 1)]
    return lambda value: _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _BOTTOM - _TOP), marks


def _vertical(x: float, text: str) -> Markup:
    line = element("path", d=f"M{x:.1f} {_TOP:.0f}V{_HEIGHT - _BOTTOM:.0f}")
    return element("g", line, element("text", text, x=x, y=_HEIGHT - _BOTTOM + 17, text_anchor="middle"))


def _horizontal(y: float, text: str) -> Markup:
    line = element("path", d=f"M{_LEFT:.0f} {y:.1f}H{_WIDTH - _RIGHT:.0f}")
    return element("g", line, element("text", text, x=_LEFT - 7, y=y + 4, text_anchor="end"))


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


def papers_by_year(pages: Iterable[Page]) -> list[Year]:
    """Returns every year in which a paper of ``pages`` was published or ILSVRC was won, oldest first."""
    papers: dict[Paper, list[Page]] = {}
    for page in pages:
        if page.model.paper is not None:
            papers.setdefault(page.model.paper, []).append(page)
    entries = winners()
    by_address = {paper.url: paper for paper in papers if paper.url}
    rows = []
    for year in sorted({paper.year for paper in papers} | {winner.year for winner in entries}):
        cited = tuple(
            Cited(paper, tuple(of), tuple(one for one in entries if one.paper == paper.url and paper.url))
            for paper, of in sorted(papers.items(), key=lambda item: (item[0].title, item[0].url))
            if paper.year == year
        )
        lone = tuple(one for one in entries if one.year == year and one.paper not in by_address)
        rows.append(Year(year, cited, lone))
    return rows


def depth_chart() -> Markup:
    """Draws the error of ILSVRC's winners by year, with their layers."""
    rows = [
        (f"{one.year} {one.entry}", one.top5_error, _in_words(one), "designed" if one.is_designed else "learned")
        for one in winners()
    ]
    return bars(rows, label="Top-5 error of the best entries of ILSVRC by year. The table below has the numbers.")


def _in_words(winner: Winner) -> str:
    how = f"{winner.layers} layers" if winner.layers else "designed features" if winner.is_designed else ""
    return f"{winner.top5_error:g}%" + (f", {how}" if how else "")

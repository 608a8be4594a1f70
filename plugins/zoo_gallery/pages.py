"""The pages as bytes, from templates; and the pages of the atlas, made again where a layer has changed."""

import hashlib
import io
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from PIL import Image

from zoo import __version__
from zoo.errors import MissingExtraError
from zoo.registry import DISTRIBUTION
from zoo.system import storage
from zoo.system.progress import count, size
from zoo_gallery import charts
from zoo_gallery.atlas import Layer
from zoo_gallery.charts import Point
from zoo_gallery.facts import Curve, Explored, Page, Trained
from zoo_gallery.markup import Markup, breakable, finish, web_address
from zoo_gallery.outline import Outline, draw, in_words

if TYPE_CHECKING:
    from jinja2 import Environment


_HERE = Path(__file__).parent
_LEAST = 3
"""Weights scored on one split from which on there is a chart of them."""


class Row(NamedTuple):
    """Weights with their page."""

    page: Page
    trained: Trained

    @property
    def link(self) -> str:
        # A tag is an id of its page; the page's own ids have a hyphen, which no tag has.
        return f"models/{self.page.slug}.html#{self.trained.weights.tag}"


class Chart(NamedTuple):
    """The weights scored on ``split``, and a drawing over each quantity that is known of at least two."""

    split: str
    rows: list[Row]
    best: dict[str, set[str]]
    """The names on the Pareto line, by quantity."""
    drawings: list[tuple[str, Markup, list[Point]]]
    """Each with the points on its line."""
    groups: list[tuple[str, Markup, int]]


class Fall(NamedTuple):
    """Curves in one drawing, with the markers that tell them apart if there are several."""

    title: str
    curves: list[Curve]
    drawing: Markup
    legend: list[tuple[str, Markup]]


class Learning(NamedTuple):
    """A drawing of how a training went, with the markers that tell its lines apart if there are several."""

    title: str
    drawing: Markup
    legend: list[tuple[str, Markup]]


class Pages:
    """A site with ``pages``, of which each is rendered when it is asked for."""

    def __init__(
        self,
        pages: Sequence[Page],
        *,
        menu: Collection[str] = (),
        docs: str = "",
        tried: Collection[str] = (),
        compared: Collection[str] = (),
    ) -> None:
        """Takes the facts of pages; ``menu`` has those of the pages ``try``, ``atlas`` and ``compare`` that are there.

        ``tried`` and ``compared`` are the names of the weights that readers can try and compare.
        """
        self.pages, self.menu, self.docs = pages, sorted(menu), docs
        self.tried, self.compared = sorted(tried), sorted(compared)
        self.rows = [Row(page, trained) for page in pages for trained in page.trained]
        families = dict.fromkeys(
            page.family for page in sorted(pages, key=lambda page: (page.year or 9999, page.family))
        )
        self.groups = {family: number for number, family in enumerate(families)}

    @cached_property
    def version(self) -> str:
        """The digest of the code, the templates and what every page links to."""
        files = [
            file
            for kind in ("*.py", "*.toml", "*.html", "*.css", "*.js", "*.mjs", "*.svg", "*.bin")
            for file in _HERE.rglob(kind)
        ]
        parts = [f"{file.name} {storage.sha256_of(file)}" for file in sorted(files)]
        links = [self.docs, *self.menu, "", *self.tried, "", *self.compared]
        return hashlib.sha256("\n".join([__version__, *links, *parts]).encode()).hexdigest()

    def asset(self, name: str) -> bytes:
        return (_HERE / "assets" / name).read_bytes()

    def front(self, shown: Sequence["Shown"] = ()) -> bytes:
        depth = charts.depth_chart()
        return self.render(
            "index.html",
            root="",
            shown=shown,
            pages=self.pages,
            rows=sorted(self.rows, key=_by_score),
            charts=[*self._charts()],
            setting=next((row.trained.latency.setting for row in self.rows if row.trained.latency), ""),
            years=charts.papers_by_year(self.pages),
            winners=charts.winners(),
            depth=depth,
            choices={
                "data": sorted({row.trained.weights.classes for row in self.rows} - {""}),
                "family": sorted({row.page.family for row in self.rows}),
                "licence": sorted({row.trained.weights.license.weights for row in self.rows}),
            },
        )

    def models(self) -> bytes:
        return self.render("models.html", root="", pages=self.pages)

    def live(self, name: str, **values: Any) -> bytes:
        """Returns a page that computes in the browser, by its own script."""
        return self.render(f"{name}.html", root="", **values)

    def model(self, page: Page, outline: Outline) -> bytes:
        picture = draw(outline.blocks)
        return self.render(
            "model.html", root="../", page=page, outline=outline, picture=picture, falls=_falls, trainings=_trainings
        )

    def index(self) -> bytes:
        """Returns the rows of the table of weights as JSON."""
        rows = [
            {
                "name": row.trained.name,
                "default": row.trained.is_default or len(row.page.trained) == 1,
                "page": row.link,
                "family": row.page.family,
                "classes": row.trained.weights.classes,
                "year": row.page.year,
                "params": row.trained.params,
                "macs": row.trained.macs,
                "epochs": row.trained.weights.epochs,
                "license": row.trained.weights.license,
                "sha256": row.trained.weights.sha256,
                "scores": row.trained.weights.scores,
                "latency_ms": row.trained.latency.latency_ms if row.trained.latency else None,
            }
            for row in self.rows
        ]
        about = {"version": __version__, "models": len(self.pages), "weights": rows}
        return msgspec.json.format(msgspec.json.encode(about, order="deterministic"), indent=1) + b"\n"

    def _charts(self) -> Iterable[Chart]:
        """Returns a chart for each split with enough scores, those with most first."""
        splits: dict[str, list[Row]] = {}
        for row in self.rows:
            main = row.trained.main
            if main is not None and main.score.top1 is not None and row.trained.params:
                splits.setdefault(main.split, []).append(row)
        for split, rows in sorted(splits.items(), key=lambda item: (-len(item[1]), item[0])):
            if len(rows) >= _LEAST:
                yield self._chart(split, rows)

    def _chart(self, split: str, rows: list[Row]) -> Chart:
        quantities = {
            "parameters": ({row.trained.name: float(row.trained.params) for row in rows}, "parameters", _amount),
            "multiply-adds": (
                {row.trained.name: float(row.trained.macs) for row in rows if row.trained.macs},
                "multiply-adds for one image",
                _amount,
            ),
            "latency": (
                {row.trained.name: row.trained.latency.latency_ms for row in rows if row.trained.latency},
                "latency, ms",
                lambda value: f"{value:g}",
            ),
        }
        best, drawings = {}, []
        for name, (values, title, unit) in quantities.items():
            if len(values) < 2:
                continue
            points = [self._point(row, values[row.trained.name]) for row in rows if row.trained.name in values]
            line = charts.pareto(points)
            best[name] = {point.name for point in line}
            drawing = charts.scatter(points, x_title=title, y_title="top-1, %", x_unit=unit)
            drawings.append((name, drawing, line))
        families = sorted({row.page.family for row in rows}, key=lambda family: self.groups[family])
        return Chart(
            split, rows, best, drawings, [(name, charts.key(self.groups[name]), self.groups[name]) for name in families]
        )

    def _point(self, row: Row, x: float) -> Point:
        claim = row.trained.main
        assert claim is not None
        assert claim.score.top1 is not None
        epochs = f", {row.trained.weights.epochs} epochs" if row.trained.weights.epochs else ""
        how = "" if claim.is_measured else ", published"
        how += f", trainings {claim.score.spread.words}" if claim.score.spread else ""
        label = f"{row.trained.name}: {claim.score.top1:.2f}%, {count(row.trained.params)} parameters{epochs}{how}"
        return Point(
            x, claim.score.top1, label, row.link, self.groups[row.page.family],
            claim.interval if claim.is_measured else None, not claim.is_measured,
        )  # fmt: skip

    def render(self, template: str, **values: Any) -> bytes:
        return self._templates.get_template(template).render(values).encode()

    @cached_property
    def _templates(self) -> "Environment":
        if find_spec("jinja2") is None:
            raise MissingExtraError.of("zoo gallery", "jinja2", "zoo-vision[gallery]")
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        made = Environment(
            loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True, finalize=finish,
        )  # fmt: skip
        made.filters |= {
            "amount": count, "bytes": size, "web": web_address, "shape": in_words,
            "percent": _percent, "numbers": _numbers, "breakable": breakable,
        }  # fmt: skip
        totals = {
            "menu": self.menu,
            "tried": self.tried,
            "compared": self.compared,
            "models_total": len(self.pages),
            "weights_total": len(self.rows),
        }
        made.globals |= {"version": __version__, "zoo": DISTRIBUTION, "docs": self.docs, **totals}
        return made


def _by_score(row: Row) -> tuple[bool, float, str]:
    """Orders weights by the top-1 that was measured here, the best first; others follow, by their names."""
    main = row.trained.main
    top1 = main.score.top1 if main is not None and main.is_measured else None
    return top1 is None, -(top1 or 0), row.trained.name


def _falls(trained: Trained) -> list[Fall]:
    """Draws the attacks on each split in one drawing, and each transformation in its own."""
    together: dict[tuple[str, str], list[Curve]] = {}
    for curve in trained.failures.curves:
        title = "attack" if curve.kind == "attack" else curve.name
        together.setdefault((title, curve.data), []).append(curve)
    falls = []
    for (title, data), curves in together.items():
        words = f"Top-1 of {trained.name} on {data} by {title}. The table below has the numbers."
        series = [[(point.strength, point.top1, point.interval) for point in curve.points] for curve in curves]
        drawing = charts.lines(series, x_title=f"{title}: {curves[0].unit}", label=words)
        legend = [(curve.name, charts.key(number)) for number, curve in enumerate(curves)] if len(curves) > 1 else []
        falls.append(Fall(title, curves, drawing, legend))
    return falls


def _trainings(trained: Trained) -> list[Learning]:
    """Returns the loss, and the top-1 of training and held-out images; nothing for weights without a history."""
    history = trained.weights.history
    if history is None:
        return []
    percents = {"training, running": history.train_top1, "held out": history.val_top1}
    curves = []
    for title, named, top, unit in (
        ("loss", {"loss": history.loss}, charts.round_above(max(history.loss)), "loss"),
        ("top-1", {name: values for name, values in percents.items() if values}, 100.0, "top-1, %"),
    ):
        series = [
            [(float(x), y, None) for x, y in zip(history.epoch, values, strict=True)] for values in named.values()
        ]
        if not series:
            continue
        words = f"{title} of {trained.name} over the epochs of its training. The table below has the numbers."
        drawing = charts.lines(series, x_title="epoch", y_title=unit, top=top, label=words)
        keys = [(name, charts.key(number)) for number, name in enumerate(named)]
        curves.append(Learning(title, drawing, keys if len(keys) > 1 else []))
    return curves


def _amount(value: float) -> str:
    """Returns ``500 k``, without the zeros of a round number."""
    number, _, unit = count(round(value)).partition(" ")
    return f"{float(number):g} {unit}".strip()


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}%"


FOLDER = "atlas"
_SHOWN = 6
"""Channels in the picture of the first page."""
_COMMON = 12
"""Words of the search that the page of the atlas names."""
_RECORD = "inputs"
"""The file in a layer's folder that says what its pages were made of, so that they are not made again."""


def write_atlas(folder: Path, site: Pages, layers: Sequence[Layer], write: Callable[[Path, bytes], bool]) -> int:
    """Writes the pages of ``layers`` by ``write``, and removes those of others; returns how many were changed."""
    links = {row.trained.name: row.link for row in site.rows}
    networks: dict[str, list[Layer]] = {}
    for layer in layers:
        if layer.weights in links:
            networks.setdefault(layer.weights, []).append(layer)
    total = sum(len(layer.channels) for its_layers in networks.values() for layer in its_layers)
    words = Counter(
        word
        for its_layers in networks.values()
        for layer in its_layers
        for part, it in layer.channels
        for word in part.preferences(it)
    )
    common = sorted(word for word, _ in words.most_common(_COMMON))
    listed = site.render("atlas.html", root="", networks=networks, links=links, total=total, common=common)
    written = int(write(folder / "atlas.html", listed))
    kept = set()
    for name, its_layers in networks.items():
        for layer in its_layers:
            target = folder / FOLDER / layer.address
            kept.add(target)
            written += _write_layer(
                target, site, layer, links[name], [one for one in its_layers if one is not layer], write
            )
    for other in sorted({*(folder / FOLDER).glob("*/*")} - kept):
        shutil.rmtree(other)
    return written


class Shown(NamedTuple):
    """A channel in the picture of the first page, for the ``word`` that it prefers: ``link`` is its page's."""

    word: str
    link: str
    weights: str
    sheet: Path
    row: int
    tile: tuple[int, int]


def picture(site: Pages, layers: Iterable[Layer]) -> tuple[list[Shown], bytes]:
    """Returns the channels that the first page shows, and the file of their strongest patches below one another.

    For each class the channel with most patches of it; of equal ones, that of the deepest layer.
    """
    links = {row.trained.name for row in site.rows}
    best: dict[str, tuple[int, Shown]] = {}
    for layer in layers:
        if layer.weights not in links:
            continue
        for file, part in layer.parts:
            for row, it in enumerate(part.channels):
                (word, *_) = part.preferences(it) or [""]
                count = it.classes.count(word)
                if count and "patches" in part.tiles and count >= best.get(word, (0,))[0]:
                    link = f"{FOLDER}/{layer.address}/{it.number}.html"
                    sheet = file.with_suffix(".patches.webp")
                    best[word] = count, Shown(word, link, layer.weights, sheet, row, part.tiles["patches"])
    names = Counter(shown.weights for _, shown in best.values())
    if not names:
        return [], b""
    ((name, _),) = names.most_common(1)  # of one network, so that the pictures are of one size
    ordered = sorted(best.items(), key=lambda item: (-item[1][0], item[0]))
    chosen = [shown for _, (_, shown) in ordered if shown.weights == name]
    chosen = [shown for shown in chosen if shown.tile == chosen[0].tile][:_SHOWN]
    width, height = chosen[0].tile
    whole = Image.new("RGBA", (width, height * len(chosen)))
    for place, shown in enumerate(chosen):
        with Image.open(shown.sheet) as opened:
            cut = opened.convert("RGBA").crop((0, shown.row * height, width, (shown.row + 1) * height))
        whole.paste(cut, (0, place * height))
    stream = io.BytesIO()
    whole.save(stream, "WEBP", quality=90, method=6)
    return chosen, stream.getvalue()


def explored(layers: Iterable[Layer]) -> dict[str, list[Explored]]:
    """Returns what the pages of models say about ``layers``, by name of the weights."""
    found: dict[str, list[Explored]] = {}
    for layer in layers:
        address = f"{FOLDER}/{layer.address}/index.html"
        found.setdefault(layer.weights, []).append(Explored(layer.name, address, len(layer.channels)))
    return found


def remove_atlas(folder: Path) -> None:
    """Removes the atlas from the site in ``folder``, if an earlier build wrote it."""
    (folder / "atlas.html").unlink(missing_ok=True)
    shutil.rmtree(folder / FOLDER, ignore_errors=True)


def _write_layer(
    target: Path, site: Pages, layer: Layer, link: str, others: list[Layer], write: Callable[[Path, bytes], bool]
) -> int:
    pictures = [file for part, _ in layer.parts for file in sorted(part.parent.glob(f"{part.stem}.*.webp"))]
    inputs = _digest(site, [part for part, _ in layer.parts], pictures, [link, *(other.name for other in others)])
    record = target / _RECORD
    if record.is_file() and record.read_bytes() == inputs:
        return 0
    shutil.rmtree(target, ignore_errors=True)
    written = sum(write(target / file.name, file.read_bytes()) for file in pictures)
    shared = {"root": "../../../", "layer": layer, "page": link}
    written += write(target / "index.html", site.render("layer.html", others=others, **shared))
    every = [
        (file, part, row, channel) for file, part in layer.parts for row, channel in enumerate(part.channels)
    ]  # fmt: skip
    numbers = [channel.number for *_, channel in every]
    around = zip_longest([None, *numbers[:-1]], every, numbers[1:])
    for before, (file, part, row, channel), after in around:
        page = site.render(
            "channel.html", part=part, it=channel, row=row, sheet=f"{file.stem}.", before=before, after=after,
            most=max((value for line in channel.responses for value in line), default=0), **shared,
        )  # fmt: skip
        written += write(target / f"{channel.number}.html", page)
    storage.replace(record, inputs)
    return written


def _digest(site: Pages, parts: Sequence[Path], pictures: Sequence[Path], words: Sequence[str]) -> bytes:
    made = hashlib.sha256(site.version.encode())
    for file in (*parts, *pictures):
        made.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    made.update("\n".join(words).encode())
    return made.hexdigest().encode()

"""The pages of the atlas: a list of layers, a page for each layer, and one for each channel."""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from pathlib import Path

from zoo.system import storage
from zoo_gallery.atlas import Layer
from zoo_gallery.facts import Explored
from zoo_gallery.pages import Pages

FOLDER = "atlas"
_RECORD = "inputs"
"""The file in a layer's folder that says what its pages were made of, so that they are not made again."""


def write(folder: Path, site: Pages, layers: Sequence[Layer], write: Callable[[Path, bytes], bool]) -> int:
    """Writes the pages of ``layers`` by ``write``, and removes those of others; returns how many were changed."""
    links = {row.trained.name: row.link for row in site.rows}
    networks: dict[str, list[Layer]] = {}
    for layer in layers:
        if layer.weights in links:
            networks.setdefault(layer.weights, []).append(layer)
    total = sum(len(layer.channels) for own in networks.values() for layer in own)
    listed = site.render("atlas.html", root="", networks=networks, links=links, total=total)
    written = int(write(folder / "atlas.html", listed))
    kept = set()
    for name, own in networks.items():
        for layer in own:
            target = folder / FOLDER / layer.address
            kept.add(target)
            written += _write_layer(target, site, layer, links[name], [one for one in own if one is not layer], write)
    for other in sorted({*(folder / FOLDER).glob("*/*")} - kept):
        shutil.rmtree(other)
    return written


def explored(layers: Iterable[Layer]) -> dict[str, list[Explored]]:
    """What the pages of models say about ``layers``, by name of the weights."""
    found: dict[str, list[Explored]] = {}
    for layer in layers:
        address = f"{FOLDER}/{layer.address}/index.html"
        found.setdefault(layer.weights, []).append(Explored(layer.name, address, len(layer.channels)))
    return found


def remove(folder: Path) -> None:
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

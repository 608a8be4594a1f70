"""Writes the site: a front page, a list of all models, a page for each, and networks that run in the page."""

import hashlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from zoo import __version__
from zoo.errors import SpecError, StorageError, UnknownNameError
from zoo.registry import Listed, listing
from zoo.spec import Model
from zoo.system import storage
from zoo_gallery import atlas, comparison, facts, outline, results, trial
from zoo_gallery.facts import Findings, Page
from zoo_gallery.markup import web_address
from zoo_gallery.outline import Outline
from zoo_gallery.pages import Pages, Row, explored, picture, remove_atlas, write_atlas

INDEX = "gallery.json"
"""The file by which a folder is known to hold a site."""

_ASSETS = (
    "gallery.css", "gallery.js", "icon.svg", "train.mjs", "network.mjs", "digits.bin",
    "gabor.mjs", "cells.mjs", "preprocess.mjs", "paint.mjs",
)  # fmt: skip
_TRIAL = ("try.mjs", "try-worker.mjs", "networks.mjs", "maps.mjs")


class Record(msgspec.Struct, frozen=True):
    """The inputs of a page, in the JSON file beside it. If ``inputs`` are the same, so is the page."""

    inputs: str
    code: str
    outline: Outline
    page: Page


class Built(msgspec.Struct, frozen=True):
    """The result of :func:`build`. ``written`` counts files that are new or changed, ``size`` is of all, in bytes."""

    folder: Path
    pages: int
    written: int
    removed: int
    size: int


def build(
    folder: str | Path,
    patterns: Sequence[str] = (),
    *,
    latency: str | Path | None = None,
    failures: Sequence[str | Path] = (),
    channels: str | Path | None = None,
    tables: Sequence[str | Path] = (),
    tried: Sequence[str] = (),
    runtime: str | Path | None = None,
    precision: str = "float32",
    calibrate: str | None = None,
    docs: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Built:
    """Writes a static site about models and their weights.

    Equal inputs give equal bytes. In a folder with an earlier site, only the pages whose inputs changed are written,
    and those of models that are no longer chosen are removed.

    Args:
        folder: The site's folder: new, empty, or with an earlier site.
        patterns: Shell patterns of names, as ``zoo list`` takes them: ``timm/resnet*``. By default all models but
            those of collections.
        latency: A file that ``zoo benchmark --csv`` wrote.
        failures: JSON files of ``zoo attack curve``, ``zoo attack series``, ``zoo attack patch score``,
            ``zoo look invariance`` and ``zoo look confusion``.
        channels: The folder of an atlas that ``zoo gallery atlas`` computed.
        tables: Tables of results, which ``zoo bulk`` wrote.
        tried: Names of weights that the reader can try in the page: they are exported to ONNX. A pattern means the
            weights of the site that are part of a package, without those that cannot be exported.
        runtime: The folder ``dist`` of the npm package onnxruntime-web, which runs them.
        precision: That of their files: ``float32``, ``float16`` or ``int8``.
        calibrate: For ``int8``, the data set whose training split calibrates them. By default that of the weights.
        docs: Address of the documentation, to which every page links: ``https://...``, or relative to the site.
        progress: Called with the number of pages done and the number of all.

    Returns:
        The number of pages, of files written, and of bytes.

    Raises:
        UnknownNameError: A pattern matches nothing.
        StorageError: The folder holds something else, or cannot be written.
        SpecError: Only one of ``tried`` and ``runtime`` is given, or ``docs`` has another scheme.
        DataError: ``latency``, or one of ``failures`` or ``tables``, is not such a file, or ``runtime`` or
            ``channels`` no such folder.
        ExportError: A network cannot be exported.
        MissingExtraError: Jinja2 is not installed.
    """
    folder = Path(folder)
    _check(folder)
    if ":" in docs and not web_address(docs):
        raise SpecError(f"docs is {docs!r}, expected an address that begins with https://, or a relative one.")
    trial.check(tried, Path(runtime) if runtime is not None else None)
    chosen = _chosen(patterns)
    measured = results.read_latencies(Path(latency)) if latency is not None else {}
    layers = atlas.read(Path(channels)) if channels is not None else []
    failed = results.read(map(Path, failures))
    pages = facts.pages(chosen, Findings(measured, failed.failures, explored(layers)))
    pages = results.add_rechecks(pages, map(Path, tables))
    rows = {trained.name: Row(page, trained) for page in pages for trained in page.trained}
    written = int(_write(folder / INDEX, Pages(pages).index()))  # first: what is interrupted leaves a site, too
    networks = []
    if runtime is not None:
        networks = trial.write(folder, trial.chosen(tried, rows), rows, Path(runtime), precision, calibrate)
    else:
        trial.remove(folder)
    compared = comparison.read(folder, rows)
    menu = {"atlas": layers, "try": runtime, "compare": compared}
    site = Pages(
        pages,
        menu=[name for name, there in menu.items() if there],
        docs=docs,
        tried=[network.name for network in networks],
        compared=[weights.name for together in compared.sets for weights in together.weights] if compared else (),
    )
    files = {f"assets/{name}": site.asset(name) for name in _ASSETS}
    shown, front = picture(site, layers)
    if shown:
        files["front.webp"] = front
    else:
        (folder / "front.webp").unlink(missing_ok=True)
    files |= {"index.html": site.front(shown), "models.html": site.models()}
    sheets = {sheet.file for row in site.rows for sheet in row.trained.failures.sheets}
    files |= {f"failures/{name}": failed.pictures[name] for name in sheets}
    files |= {f"{name}.html": site.live(name) for name in ("train", "gabor")}
    if runtime is not None:
        files |= {f"assets/{name}": site.asset(name) for name in _TRIAL}
        files["assets/runtime/LICENSE"] = site.asset("runtime-LICENSE")
        size = sum((Path(runtime) / name).stat().st_size for name in trial.RUNTIME)
        files |= {"try.html": site.live("try", runtime_size=size), "try/models.json": _encode(networks)}
    if compared is not None:
        files |= {"compare.html": site.live("compare"), "assets/compare.mjs": site.asset("compare.mjs")}
        files[comparison.FILE] = _encode(compared)
    else:
        for name in ("compare.html", comparison.FILE):
            (folder / name).unlink(missing_ok=True)
    written += _write_all({folder / name: data for name, data in files.items()})
    code_of = cache(_code)  # for this build: files may change until the next one
    with ThreadPoolExecutor() as pool:  # a disk takes milliseconds to have a file for sure: meanwhile the next is made
        jobs = []
        for number, (entry, page) in enumerate(zip(chosen, pages, strict=True)):
            if progress is not None:
                progress(number, len(pages))
            package = entry.model.build.partition(":")[0].partition(".")[0]
            code = code_of(package, tuple(requirement.module for requirement in entry.model.requires))
            jobs.append(pool.submit(_write_all, _changed(folder, site, entry.model, _digest(entry.model, code), page)))
        written += sum(job.result() for job in jobs)
    if layers:
        written += write_atlas(folder, site, layers, _write)
    else:
        remove_atlas(folder)
    removed = _remove_others(folder / "models", {page.slug for page in pages})
    removed += _remove_others(folder / "failures", {Path(name).stem for name in sheets})
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return Built(folder, len(pages), written, removed, size)


def _chosen(patterns: Iterable[str]) -> list[Listed]:
    """Returns the models that the patterns name; of a pattern with a dot, only those weights."""
    chosen: dict[str, Listed] = {}
    for pattern in [*patterns] or ["*"]:
        lines = listing.select(pattern, family=None, dataset=None, license=None, max_params=None, pretrained=False)
        if not lines:
            raise UnknownNameError(f"No model matches {pattern!r}.", hint="zoo list shows all models.")
        for line in lines:
            if line.weights is None:
                chosen[line.entry.name] = line.entry
            else:
                listed = chosen.setdefault(line.entry.name, line.entry._replace(weights=()))
                if line.weights not in listed.weights:
                    chosen[line.entry.name] = listed._replace(weights=(*listed.weights, line.weights))
    return [*chosen.values()]


def _check(folder: Path) -> None:
    """Raises :class:`StorageError` for a folder with other files, or with a link to one: both would be written over."""
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / INDEX).is_file())):
        raise StorageError(
            f"{folder} is not empty and has no {INDEX}, so it holds something else than a site.",
            hint="Name a new folder: zoo gallery build -o site",
        )
    for parent, names, _ in os.walk(folder):
        for name in names:
            storage.refuse_links(folder, Path(parent, name))


def _changed(folder: Path, site: Pages, model: Model, code: str, page: Page) -> dict[Path, bytes]:
    """Returns the files of a page, or none if they are there already. ``code`` is the digest of what the drawing
    depends on.
    """
    html, data = (folder / "models" / f"{page.slug}.{kind}" for kind in ("html", "json"))
    before = _read(data)
    blocks = before.outline if before is not None and before.code == code else outline.of_model(model)
    inputs = _digest(page, blocks, site.version)
    if before is not None and before.inputs == inputs and html.is_file():
        return {}
    text = msgspec.json.format(_encode(Record(inputs, code, blocks, page)), indent=1)
    return {html: site.model(page, blocks), data: text}


def _read(file: Path) -> Record | None:
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(file.read_bytes(), type=Record)
    return None


def _write(file: Path, data: bytes) -> bool:
    """Returns whether ``file`` had other contents, and has ``data`` now."""
    with suppress(OSError):
        if file.read_bytes() == data:
            return False
    storage.replace(file, data)
    return True


def _write_all(files: dict[Path, bytes]) -> int:
    """Writes files in their order; returns how many had other contents."""
    return sum(_write(file, data) for file, data in files.items())


def _remove_others(folder: Path, slugs: set[str]) -> int:
    """Removes the files of an earlier build that are about something else; returns their number."""
    kinds = (".html", ".json", ".webp")
    others = [file for file in sorted(folder.glob("*")) if file.suffix in kinds and file.stem not in slugs]
    for file in others:
        file.unlink()
    return len(others)


def _encode(value: Any) -> bytes:
    return msgspec.json.encode(value, order="deterministic", enc_hook=str)


def _digest(*values: Any) -> str:
    return hashlib.sha256(b"\n".join(map(_encode, values))).hexdigest()


def _code(package: str, required: tuple[str, ...]) -> list[str]:
    """Returns what drawings depend on: the sources that build the networks, and the libraries' versions."""
    versions = [__version__, *map(storage.sha256_of, [Path(outline.__file__), *_sources(package)])]
    for name in ("torch", *required):
        with suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{name} {importlib.metadata.version(name)}")
    return versions


def _sources(package: str) -> list[Path]:
    """Returns the files of a package, or that of a module; nothing for one that has none, such as ``__main__``."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return []
    if spec is None or not spec.submodule_search_locations:
        return [Path(spec.origin)] if spec is not None and spec.has_location and spec.origin else []
    return [file for root in spec.submodule_search_locations for file in sorted(Path(root).rglob("*.py"))]

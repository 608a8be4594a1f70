"""The page on which readers try networks: the exported files, example images, and what the page says of each network.

The reader's browser runs the networks by onnxruntime-web, in a worker.
"""

import io
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import msgspec

from zoo import __version__, registry
from zoo.errors import DataError, ExportError, ManifestError, SpecError, UnknownNameError, ZooError
from zoo.spec import Preprocess
from zoo.system import storage
from zoo_gallery import atlas
from zoo_gallery.pages import Row

RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
"""The files of onnxruntime-web that the page loads: its smallest build, and the WebAssembly it finds beside itself."""

_FOLDER = "dist of the npm package onnxruntime-web"
_MOST_EXAMPLES = 10
_SMALL = 64
"""Pixels of a side up to which an example keeps its pixels."""


class Sample(msgspec.Struct, frozen=True):
    """An image for readers to begin with: its ``file`` below the folder of the networks, and what it shows."""

    file: str
    label: str
    credit: str = ""


class Maps(msgspec.Struct, frozen=True):
    """The file that computes the maps of ``layers``."""

    file: str
    layers: tuple[str, ...]


class Inside(msgspec.Struct, frozen=True):
    """The pictures of a network that its files give the page: maps of ``layers``, and a class activation map."""

    layers: tuple[str, ...]
    has_class_map: bool


class Network(msgspec.Struct, frozen=True):
    """Weights as the page needs to know them, and its words about them. ``page`` and ``attack`` are addresses."""

    name: str
    file: str
    size: int
    precision: str
    maps: Maps | None
    has_class_map: bool
    preprocess: Preprocess
    classes: tuple[str, ...]
    trained_on: str
    training: str
    knows: str
    page: str
    attack: str
    examples: tuple[Sample, ...]


class Failed(msgspec.Struct, frozen=True):
    """The reason why weights that a pattern chose cannot be exported, so that they are not tried at each build."""

    zoo: str
    sha256: str
    precision: str
    reason: str


class Wish(NamedTuple):
    """Weights that readers shall try; ``is_by_name`` if a pattern did not choose them."""

    name: str
    is_by_name: bool


def check(names: Sequence[str], runtime: Path | None) -> None:
    """Raises :class:`SpecError` if only one of the two is given, :class:`DataError` for an incomplete runtime."""
    if bool(names) != (runtime is not None):
        raise SpecError(
            f"Got {'a runtime without networks' if runtime else 'networks to try without a runtime'}, expected both.",
            hint=f"--try NAME --runtime DIR; DIR is the folder {_FOLDER}.",
        )
    missing = [name for name in RUNTIME if runtime is not None and not (runtime / name).is_file()]
    if missing:
        raise DataError(f"{runtime} has no {missing[0]}.", hint=f"--runtime expects the folder {_FOLDER}.")


def chosen(names: Sequence[str], rows: Mapping[str, Row]) -> list[Wish]:
    """Returns the weights that ``names`` mean. A pattern means those of the site that are part of a package."""
    from zoo.loading.create import info

    wishes: dict[str, Wish] = {}
    for name in names:
        if any(letter in name for letter in "*?["):
            matching = [found for found in atlas.embedded() if found in rows and fnmatchcase(found, name)]
            if not matching:
                raise UnknownNameError(
                    f"No weights match {name!r}.", hint="A pattern of --try means weights that are part of a package."
                )
            for found in matching:
                wishes.setdefault(found, Wish(found, is_by_name=False))
        else:
            weights = info(name).get("weights", [])[:1]
            full = name if "." in name or not weights else f"{name}.{weights[0]['tag']}"
            wishes[full] = Wish(full, is_by_name=True)
    return [*wishes.values()]


def write(
    folder: Path,
    wishes: Sequence[Wish],
    rows: Mapping[str, Row],
    runtime: Path,
    precision: str = "float32",
    calibrate: str | None = None,
) -> list[Network]:
    """Exports networks into ``folder``/try, unless they are there, with example images, and copies the runtime.

    ``rows`` are the weights that the site has a page of. Returns what the page needs to know of each network; those
    that a pattern chose and that cannot be exported are left out.
    """
    for name in RUNTIME:
        target, data = folder / "assets" / "runtime" / name, (runtime / name).read_bytes()
        if not target.is_file() or target.read_bytes() != data:
            storage.replace(target, data)
    networks = [_network(folder / "try", wish, rows.get(wish.name), precision, calibrate) for wish in wishes]
    written = [network for network in networks if network is not None]
    _remove_others(folder / "try", written)
    return written


def remove(folder: Path) -> None:
    """Removes the page and its files from the site in ``folder``, if an earlier build wrote them."""
    (folder / "try.html").unlink(missing_ok=True)
    for part in ("try", "assets/runtime"):
        shutil.rmtree(folder / part, ignore_errors=True)


def _remove_others(folder: Path, networks: Sequence[Network]) -> None:
    """Removes the files of networks that an earlier build had."""
    names = {network.file.removesuffix(".onnx") for network in networks}
    for file in folder.glob("*.onnx*"):
        if file.name.partition(".onnx")[0].removesuffix(".maps") not in names:
            file.unlink()


def _network(folder: Path, wish: Wish, row: Row | None, precision: str, calibrate: str | None) -> Network | None:
    from zoo import exporting
    from zoo.loading.create import info

    file = folder / f"{wish.name.replace('/', '.')}.onnx"
    maps, record, failed = (file.with_suffix(f".{kind}") for kind in ("maps.onnx", "maps.json", "failed.json"))
    weights = info(wish.name)["weights"][:1]
    sha256 = weights[0].get("sha256", "") if weights else ""
    about = exporting.about_of(file)
    is_old = about is not None and (about.zoo != __version__ or not weights or about.sha256 != sha256)
    inside = _inside(record)
    if about is None or is_old or about.precision != precision or inside is None:
        if not wish.is_by_name and _has_failed(failed, sha256, precision):
            return None
        try:
            about = exporting.export(
                wish.name, file, format="onnx", input="uint8", precision=precision, calibrate=calibrate
            ).about
        except ExportError as error:
            if wish.is_by_name:
                raise
            storage.replace(failed, msgspec.json.encode(Failed(__version__, sha256, precision, error.message)))
            return None
        inside = Inside(exporting.export_maps(wish.name, maps), exporting.add_class_map(file))
        storage.replace(record, msgspec.json.encode(inside))
    failed.unlink(missing_ok=True)
    split = row.trained.main.split if row is not None and row.trained.main is not None else f"{about.classes}/test"
    classes = about.class_names or _class_names(about.classes)
    return Network(
        name=wish.name,
        file=file.name,
        size=file.stat().st_size,
        precision=about.precision,
        maps=Maps(maps.name, inside.layers) if inside.layers else None,
        has_class_map=inside.has_class_map,
        preprocess=about.preprocess,
        classes=classes,
        trained_on=_title(about.classes),
        training=_training(about.classes, about.preprocess, row),
        knows=_knowledge(about.classes, classes, about.num_classes),
        page=row.link if row is not None else "",
        attack=f"models/{row.page.slug}.html#{row.trained.weights.tag}-attacked"
        if row is not None and row.trained.failures.series
        else "",
        examples=(*_examples(folder, *split.rpartition("/")[::2]), *_photographs(folder)),
    )


def _inside(file: Path) -> Inside | None:
    """Returns what an earlier build wrote, None if there is nothing of this kind."""
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(file.read_bytes(), type=Inside)
    return None


def _has_failed(file: Path, sha256: str, precision: str) -> bool:
    with suppress(OSError, msgspec.MsgspecError):
        before = msgspec.json.decode(file.read_bytes(), type=Failed)
        return (before.zoo, before.sha256, before.precision) == (__version__, sha256, precision)
    return False


def _class_names(classes: str) -> tuple[str, ...]:
    from zoo.data.classes import class_names

    try:
        return tuple(class_names(classes))
    except UnknownNameError:
        return ()


# ---- what the page says of a network ---------------------------------------------------------------------

_TITLES = {
    "digits": "scikit-learn's digits",
    "mnist": "MNIST",
    "mnist_rot": "MNIST, turned",
    "mnist_rts": "MNIST, turned, scaled and shifted",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "caltech101": "Caltech-101",
    "imagenet-1k": "ImageNet",
}


def _title(classes: str) -> str:
    return _TITLES.get(classes.partition(":")[0], classes or "Other data")


def _training(classes: str, preprocess: Preprocess, row: Row | None) -> str:
    """Returns what the network was trained on and how often it is right."""
    from zoo.data.classes import count_training_images

    channels, height, width = preprocess.input_size
    claim = row.trained.main if row is not None else None
    protocol = claim.score.protocol if claim is not None else None
    count = (protocol.trained_on if protocol is not None else None) or count_training_images(classes)
    about = f"Trained on {_title(classes)}" + (f", {count:,} images" if count else "")
    about += f". It sees {width} x {height} pixels, {'in shades of grey' if channels == 1 else 'in colour'}."
    if claim is None or claim.score.top1 is None:
        return about
    images = f"{claim.score.n:,} test images" if claim.score.n else "the test images"
    published = "" if claim.is_measured else ", as published"
    return f"{about} It gets {claim.score.top1:.2f}% of {images} right{published}."


def _knowledge(data: str, classes: Sequence[str], number: int) -> str:
    """Returns what the network knows and nothing else, for the reader who shows it something else."""
    digits = [str(digit) for digit in range(10)]
    if [*classes] == digits:
        things = "the ten digits of " + _title(data) if data in _TITLES else "the ten digits"
    elif 0 < len(classes) <= 12:
        things = f"{len(classes)} things, {', '.join(classes[:-1])} and {classes[-1]},"
    else:
        things = f"{number:,} classes of {_title(data)}"
    return f"This network knows {things} only: it takes whatever it sees for one of them."


# ---- images to begin with --------------------------------------------------------------------------------


def _examples(folder: Path, data: str, split: str) -> tuple[Sample, ...]:
    """Returns an image of each of the first classes of ``data``, if it is on this machine."""
    from zoo.data import load

    place = Path("examples", data.replace(":", "-").replace("/", "-"))
    record = folder / place / "labels.json"
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(record.read_bytes(), type=tuple[Sample, ...])
    try:
        with _offline():
            images = load(data, split)
    except (ZooError, OSError, ImportError):
        return ()
    labels = images.labels.tolist()
    firsts = sorted((labels.index(label), label) for label in set(labels[:2000]))
    step = max(1, len(firsts) // _MOST_EXAMPLES)
    samples = []
    for index, label in sorted(firsts, key=lambda one: one[1])[::step][:_MOST_EXAMPLES]:
        image, stream = images.image(index), io.BytesIO()
        kind = "png" if max(image.size) <= _SMALL else "jpg"
        image.save(stream, "PNG" if kind == "png" else "JPEG", **({} if kind == "png" else {"quality": 90}))
        sample = Sample(f"{place.as_posix()}/{label}.{kind}", images.classes[label])
        storage.replace(folder / sample.file, stream.getvalue())
        samples.append(sample)
    storage.replace(record, msgspec.json.encode(samples))
    return tuple(samples)


_PHOTOGRAPHS = {
    "flower.jpg": ("a photograph of a flower", "flower.jpg by vultilion, CC BY 2.0"),
    "china.jpg": ("a photograph of a palace", "china.jpg by danielbuechele, CC BY 2.0"),
}
"""The sample images of scikit-learn: what they show, and who took them."""


def _photographs(folder: Path) -> tuple[Sample, ...]:
    """Returns small copies of scikit-learn's photographs, if it is installed."""
    from PIL import Image

    try:
        originals = registry.resource("sklearn:datasets/images")
    except ManifestError:
        return ()
    samples = []
    for name, (label, credit) in _PHOTOGRAPHS.items():
        sample, original = Sample(f"examples/{name}", label, credit), originals / name
        if not (folder / sample.file).is_file():
            if not original.is_file():
                continue
            stream = io.BytesIO()
            with Image.open(original) as image:
                image.resize((320, 213), Image.Resampling.LANCZOS).save(stream, "JPEG", quality=85)
            storage.replace(folder / sample.file, stream.getvalue())
        samples.append(sample)
    return tuple(samples)


@contextmanager
def _offline() -> Iterator[None]:
    """Keeps data sets that are not on this machine from being downloaded."""
    before = os.environ.get("ZOO_OFFLINE")
    os.environ["ZOO_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["ZOO_OFFLINE"]
        else:
            os.environ["ZOO_OFFLINE"] = before

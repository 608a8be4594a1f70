"""``load``: an ``ImageSet`` from a name or a path, built in, downloaded or by a plugin."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo import registry
from zoo.data.image_set import ImageSet
from zoo.data.readers import caltech101, folder, huggingface, parquet, small_images, webdataset
from zoo.data.readers.remote_file import place_at
from zoo.data.stream import ImageStream
from zoo.errors import DataError, MissingExtraError, PluginError, UnknownNameError
from zoo.hub import cache, offline_switch
from zoo.registry import extensions, hooks
from zoo.registry.extensions import Offered
from zoo.registry.hooks import blaming
from zoo.spec import Reader

BUILT_IN = ("digits", "mnist", "fashion_mnist", "cifar10", caltech101.NAME)

_LAYOUTS = {
    "mnist": "mnist.npz, or mnist/train-images-idx3-ubyte.gz and the other three files",
    "fashion_mnist": "fashion_mnist/train-images-idx3-ubyte.gz and the other three files",
    "cifar10": f"cifar10/train-*.parquet and test-*.parquet, or {small_images.CIFAR10_ARCHIVE}",
    caltech101.NAME: "caltech101.tar, 101_ObjectCategories.tar.gz, or a folder of either name with class folders",
}


def load(name_or_path: str | Path, split: str = "train", *, root: Path | str | None = None) -> ImageSet:
    """Loads a split of a data set, by name or by path.

    Names are ``digits``, ``mnist``, ``fashion_mnist``, ``cifar10``, ``caltech101`` (in full
    ``caltech101:PER_CLASS:DRAW``), and those that plugins bring. A data set with a name is looked for in ``root``,
    then in the folder ``ZOO_DATA``, and then downloaded. A path is a folder of images (``zoo.data.readers.folder``)
    or a parquet file or folder (``zoo.data.readers.parquet``). What :func:`open_stream` opens is read once. Plugins
    may bring readers of other files and addresses (:class:`zoo.spec.Reader`).

    Args:
        name_or_path: The name or the path. A string that is not a name is a path.
        split: The split.
        root: The folder to look in first.

    Returns:
        The labelled images.

    Raises:
        UnknownNameError: There is no data set of this name; the nearest are suggested.
        AmbiguousNameError: Several plugins have a data set of this name.
        DataError: A file is missing or damaged, or there is no such split.

    Example:
        >>> import zoo
        >>> digits = zoo.data.load("digits", "test")
        >>> len(digits), tuple(digits.pixels.shape)
        (360, (360, 1, 8, 8))
    """
    if not isinstance(name_or_path, str | Path):
        got = type(name_or_path).__name__
        raise DataError(f"Got {got}, expected the name of a data set, such as 'digits', or a path.")
    if isinstance(name_or_path, str):
        if name_or_path in BUILT_IN or caltech101.is_name(name_or_path):
            return _load_built_in(name_or_path, split, root)
        if (offered := extensions.find("datasets", name_or_path)) is not None:
            return _load_set(offered, split, (*_places(root), _cache_folder())[0])
        if (reader := _reader_by_prefix(name_or_path)) is not None:
            return _read_with(reader, name_or_path, split)
    if (stream := open_stream(name_or_path, split)) is not None:
        return stream.as_set()
    path = Path(name_or_path).expanduser().absolute()
    if path.is_file():
        if path.suffix != ".parquet" and (reader := _reader_by_suffix(path)) is not None:
            return _read_with(reader, path, split)
        if path.suffix != ".parquet":
            hint = "Use a folder of images or of .tar shards, or a .parquet file or folder."
            raise DataError(f"{path}: not a data set.", hint=hint)
        return parquet.read([path], path.parent.name or path.stem, parquet.split_of(path))
    if path.is_dir():
        if shards := parquet.find_shards(path, split):
            return parquet.read(shards, path.name, split)
        if (reader := _reader_by_suffix(path)) is not None:
            return _read_with(reader, path, split)
        return folder.read(path, split)
    if isinstance(name_or_path, Path) or "/" in name_or_path or os.sep in name_or_path:
        raise DataError(f"{path}: no such file or folder.")
    names = extensions.names_in("datasets", BUILT_IN)
    hint = f"Names are {', '.join(names)}. Pass any other data set as a path, such as ./FOLDER, or as hf:NAME."
    raise UnknownNameError.of("data set", name_or_path, names, hint=hint)


def address(name_or_path: str | Path) -> str:
    """Makes the name or path of a data set valid in any working directory: a path becomes absolute.

    Args:
        name_or_path: The name or the path.

    Returns:
        The name as it is, or the absolute path.

    Example:
        >>> import zoo
        >>> zoo.data.address("digits")
        'digits'
        >>> zoo.data.address("./photos").startswith("/")
        True
    """
    text = str(name_or_path)
    if isinstance(name_or_path, str):
        is_named = text in BUILT_IN or caltech101.is_name(text) or extensions.find("datasets", text) is not None
        if is_named or _reader_by_prefix(text) or "://" in text or text.startswith(huggingface.PREFIX):
            return text
    return str(Path(text).expanduser().absolute())


def splits(name_or_path: str | Path) -> list[str]:
    """Returns the splits of a data set, as far as its name or its folder says.

    Args:
        name_or_path: The name or the path.

    Returns:
        The splits; none if it has no splits or is not on this machine.

    Example:
        >>> import zoo
        >>> zoo.data.splits("digits")
        ['train', 'test']
    """
    if isinstance(name_or_path, str):
        if name_or_path in BUILT_IN or caltech101.is_name(name_or_path):
            return ["train", "test"]
        if (offered := extensions.find("datasets", name_or_path)) is not None:
            return list(offered.spec.splits)
        if (reader := _reader_by_prefix(name_or_path)) is not None:
            return list(reader.splits)
    path = Path(name_or_path).expanduser()
    if path.exists() and path.suffix != ".parquet" and (reader := _reader_by_suffix(path)) is not None:
        return list(reader.splits)
    if not path.is_dir():
        return []
    if webdataset.is_there(path):
        return list(webdataset.read_info(place_at(path)).splits)
    return parquet.splits_of(path) or folder.splits_of(path)


def open_stream(address: str | Path, split: str = "train") -> ImageStream | None:
    """Opens a split of a data set that is read shard by shard.

    Args:
        address: ``hf:NAME`` or ``hf:NAME:CONFIG`` for Hugging Face ``datasets``, a folder of .tar shards, or their
            address (``https://``, ``s3://``, ``hf://``, ...).
        split: The split.

    Returns:
        The stream; None if ``address`` is a data set of another kind.

    Raises:
        DataError: The shards cannot be read, or there is no such split.
        MissingExtraError: A library is missing: ``pip install 'zoo-vision[stream]'``.

    Example:
        >>> import zoo
        >>> shards = zoo.data.write_shards(zoo.data.load("digits", "test"), "shards").parent
        >>> zoo.data.open_stream(shards, "test").channels
        1
        >>> zoo.data.open_stream("digits") is None
        True
    """
    if isinstance(address, str):
        if "://" in address:
            return webdataset.open_shards(address, split)
        if address.startswith(huggingface.PREFIX):
            return huggingface.open_dataset(address, split)
    folder = Path(address).expanduser()
    return webdataset.open_shards(folder, split) if folder.is_dir() and webdataset.is_there(folder) else None


def _places(root: Path | str | None) -> list[Path]:
    return [Path(place).expanduser() for place in (root, os.environ.get("ZOO_DATA")) if place]


def _load_built_in(name: str, split: str, root: Path | str | None) -> ImageSet:
    if split not in ("train", "test"):
        raise DataError(f"{name} has no split {split!r}.", hint="Its splits are train and test.")
    if name == "digits":
        return small_images.read_digits(split)
    places = [*_places(root), _cache_folder()]
    for place in places:
        if (images := _read_built_in(name, place, split)) is not None:
            return images
    family = name.partition(":")[0]
    try:
        place = download_set(family)
    except DataError as error:
        looked = ", ".join(map(str, places))
        hint = f"Put {_LAYOUTS[family]} into a folder and set ZOO_DATA=FOLDER, or root=FOLDER."
        raise DataError(f"{name} is not in {looked}, and cannot be downloaded: {error.message}", hint=hint) from None
    images = _read_built_in(name, place, split)
    assert images is not None  # it was just put there
    return images


def _read_built_in(name: str, place: Path, split: str) -> ImageSet | None:
    if caltech101.is_name(name):
        return caltech101.read(place, name, split)
    return small_images.read_cifar10(place, split) if name == "cifar10" else small_images.read_mnist(name, place, split)


def _load_set(offered: Offered, split: str, place: Path) -> ImageSet:
    """Reads a split of the data set ``offered``, whose files are in ``place``."""
    spec = offered.spec
    _require_split(spec.name, split, spec.splits)
    read = registry.hook(spec.load, offered.plugin.requires, role=hooks.LOAD, of=spec.name)
    return _checked_images(spec.load, f"{spec.name}/{split}", lambda: read(place, split))


def _reader_by_prefix(address: str) -> Reader | None:
    """Returns the reader of addresses that begin as ``address`` does, which is then not a path."""
    return next((row for row in _readers() if row.prefix and address.startswith(row.prefix)), None)


def _reader_by_suffix(path: Path) -> Reader | None:
    """Returns the reader of files, or folders, whose names end as that of ``path`` does."""
    return next((row for row in _readers() if path.name.endswith(row.suffixes)), None)


def _read_with(row: Reader, address: str | Path, split: str) -> ImageSet:
    """Reads a split of ``address``, by the reader ``row``."""
    _require_split(str(address), split, row.splits)
    hook = registry.hook(row.run, row.requires, role=hooks.READ, of=row.name)
    return _checked_images(row.run, str(address), lambda: hook(str(address), split))


def _readers() -> list[Reader]:
    return [row.spec for row in extensions.offered("readers")]


def _require_split(name: str, split: str, splits: tuple[str, ...]) -> None:
    if split not in splits:
        raise DataError(f"{name} has no split {split!r}.", hint=f"Its splits are {', '.join(splits)}.")


def _checked_images(target: str, what: str, call: Callable[[], Any]) -> ImageSet:
    """Calls a plugin's hook that returns images; raises :class:`PluginError` for anything else."""
    with blaming(target, what):
        images = call()
    if not isinstance(images, ImageSet):
        raise PluginError(f"{target} returned {type(images).__name__}, expected zoo.data.ImageSet.")
    return images


def _cache_folder() -> Path:
    """Returns the folder ``data`` of Zoo's cache."""
    return cache.root() / "data"


def download_set(name: str) -> Path:
    """Downloads ``mnist``, ``fashion_mnist`` or ``cifar10`` and returns its folder.

    Each file is checked against the publisher's md5 and moved into place atomically. Raises :class:`DataError` if
    network access is disabled or fails.
    """
    if switch := offline_switch():
        raise DataError(f"network access is disabled ({switch}={os.environ[switch]})")
    try:
        from torchvision.datasets import MNIST, FashionMNIST
        from torchvision.datasets.utils import download_url
    except ImportError:
        raise MissingExtraError.of(f"Downloading {name}", "torchvision", "zoo-vision[data]") from None
    files: dict[str, tuple[str, list[str], list[tuple[str, str]]]] = {
        "mnist": ("mnist", MNIST.mirrors, MNIST.resources),
        "fashion_mnist": ("fashion_mnist", FashionMNIST.mirrors, FashionMNIST.resources),
        # The binary form: torchvision's own is a pickle.
        "cifar10": (
            "",
            ["https://www.cs.toronto.edu/~kriz/"],
            [(small_images.CIFAR10_ARCHIVE, "c32a1d4ab5d03f1284b67883e8d87530")],
        ),
    }
    if name not in files:
        raise DataError("its publisher offers no direct download")
    below, mirrors, resources = files[name]
    target = _cache_folder() / below
    target.mkdir(parents=True, exist_ok=True)
    for file, md5 in resources:
        if not (target / file).is_file():
            _fetch_file(download_url, mirrors, file, md5, target)
    return _cache_folder()


def _fetch_file(download_url: Callable[..., Any], mirrors: list[str], file: str, md5: str, target: Path) -> None:
    failures = []
    for mirror in mirrors:
        with tempfile.TemporaryDirectory(dir=target) as beside:
            try:
                download_url(mirror + file, beside, filename=file, md5=md5)
                (Path(beside) / file).replace(target / file)
                return
            except (OSError, RuntimeError, ValueError) as error:  # urllib's and http's errors are OSErrors
                failures.append(f"{mirror + file}: {error}")
    raise DataError("; ".join(failures))

"""``load``: an ``ImageSet`` from a name or a path."""

import os
from pathlib import Path

from zoo.data import brought
from zoo.data.download import download_set
from zoo.data.download import folder as download_folder
from zoo.data.image_set import ImageSet
from zoo.data.image_stream import ImageStream
from zoo.data.readers import caltech101, cifar10, digits, folder, huggingface, mnist, parquet, webdataset
from zoo.data.readers.remote_file import place_at
from zoo.errors import DataError, UnknownNameError
from zoo.registry import extensions

BUILT_IN = ("digits", "mnist", "fashion_mnist", "cifar10", caltech101.NAME)

_LAYOUTS = {
    "mnist": "mnist.npz, or mnist/train-images-idx3-ubyte.gz and the other three files",
    "fashion_mnist": "fashion_mnist/train-images-idx3-ubyte.gz and the other three files",
    "cifar10": f"cifar10/train-*.parquet and test-*.parquet, or {cifar10.ARCHIVE}",
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
    if isinstance(name_or_path, str):
        if name_or_path in BUILT_IN or caltech101.is_name(name_or_path):
            return _load_built_in(name_or_path, split, root)
        if (found := brought.find_set(name_or_path)) is not None:
            return brought.load_set(found, split, (*_places(root), download_folder())[0])
        if (reader := brought.by_prefix(name_or_path)) is not None:
            return brought.read(reader, name_or_path, split)
    if (stream := open_stream(name_or_path, split)) is not None:
        return stream.as_set()
    path = Path(name_or_path).expanduser().absolute()
    if path.is_file():
        if path.suffix != ".parquet" and (reader := brought.by_suffix(path)) is not None:
            return brought.read(reader, path, split)
        if path.suffix != ".parquet":
            hint = "Use a folder of images or of .tar shards, or a .parquet file or folder."
            raise DataError(f"{path}: not a data set.", hint=hint)
        return parquet.read([path], path.parent.name or path.stem, parquet.split_of(path))
    if path.is_dir():
        if shards := parquet.find_shards(path, split):
            return parquet.read(shards, path.name, split)
        if (reader := brought.by_suffix(path)) is not None:
            return brought.read(reader, path, split)
        return folder.read(path, split)
    if isinstance(name_or_path, Path) or "/" in name_or_path or os.sep in name_or_path:
        raise DataError(f"{path}: no such file or folder.")
    known = extensions.names("datasets", BUILT_IN)
    hint = f"Names are {', '.join(known)}. Pass any other data set as a path, such as ./FOLDER, or as hf:NAME."
    raise UnknownNameError.of("data set", name_or_path, known, hint=hint)


def address(name_or_path: str | Path) -> str:
    """What :func:`load` accepts for the same data set in any working directory: a path becomes absolute.

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
        is_named = text in BUILT_IN or caltech101.is_name(text) or brought.find_set(text) is not None
        if is_named or brought.by_prefix(text) or "://" in text or text.startswith(huggingface.PREFIX):
            return text
    return str(Path(text).expanduser().absolute())


def splits(name_or_path: str | Path) -> list[str]:
    """The splits of a data set, as far as its name or its folder says.

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
        if (found := brought.find_set(name_or_path)) is not None:
            return list(found.spec.splits)
        if (reader := brought.by_prefix(name_or_path)) is not None:
            return list(reader.splits)
    path = Path(name_or_path).expanduser()
    if path.exists() and path.suffix != ".parquet" and (reader := brought.by_suffix(path)) is not None:
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
    given = [root, os.environ.get("ZOO_DATA")]
    return [Path(place).expanduser() for place in given if place]


def _load_built_in(name: str, split: str, root: Path | str | None) -> ImageSet:
    if split not in ("train", "test"):
        raise DataError(f"{name} has no split {split!r}.", hint="Its splits are train and test.")
    if name == "digits":
        return digits.read(split)
    places = [*_places(root), download_folder()]
    for place in places:
        if (found := _read(name, place, split)) is not None:
            return found
    family = name.partition(":")[0]
    try:
        place = download_set(family)
    except DataError as error:
        looked = ", ".join(map(str, places))
        hint = f"Put {_LAYOUTS[family]} into a folder and set ZOO_DATA=FOLDER, or root=FOLDER."
        raise DataError(f"{name} is not in {looked}, and cannot be downloaded: {error.message}", hint=hint) from None
    found = _read(name, place, split)
    assert found is not None  # it was just put there
    return found


def _read(name: str, place: Path, split: str) -> ImageSet | None:
    if caltech101.is_name(name):
        return caltech101.read(place, name, split)
    return cifar10.read(place, split) if name == "cifar10" else mnist.read(name, place, split)

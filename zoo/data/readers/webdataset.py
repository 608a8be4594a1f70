"""WebDataset shards: ``.tar`` files of ``KEY.jpg`` (or ``.png``, ``.webp``) and ``KEY.cls``, the label as text.

A folder or address holds the shards of all splits and ``_info.json`` (or ``info.json``), as timm reads
and publishes them: of each split the names of the shards and the number of images in each::

    {"splits": {"train": {"name": "train", "num_samples": 2500,
                          "filenames": ["train-000000.tar", ...], "shard_lengths": [1000, ...]}},
     "name": "birds", "classes": ["crow", "jay"], "channels": 3}

The last line is ours and may be missing: then the folder names the set, ``classes.txt`` (a name a
line) or the well-known set of that name the classes, and images have three channels.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

import msgspec
import torch

from zoo.data.classes import class_names
from zoo.data.image_file import SUFFIXES, open_image
from zoo.data.image_set import ImageSet
from zoo.data.readers.remote_file import Place, place_at
from zoo.data.stream import ImageStream, Sample, Shard
from zoo.errors import DataError, MissingExtraError, ZooError
from zoo.system import storage

INFO = "_info.json"
_INFO_NAMES = (INFO, "info.json")
_IMAGES = tuple(sorted(suffix.removeprefix(".") for suffix in SUFFIXES))


class Split(msgspec.Struct, omit_defaults=True):
    filenames: list[str]
    shard_lengths: list[Annotated[int, msgspec.Meta(ge=0)]]
    name: str = ""
    num_samples: int | None = None


class Info(msgspec.Struct, omit_defaults=True):
    """The contents of ``_info.json``."""

    splits: dict[str, Split]
    name: str = ""
    classes: list[str] = []
    channels: int = 3


def is_there(folder: Path) -> bool:
    """Returns whether the local ``folder`` holds shards."""
    return (folder / INFO).is_file() or next(folder.glob("*.tar"), None) is not None


def open_shards(address: str | Path, split: str = "train") -> ImageStream:
    """Opens a split of the shards at ``address``: a folder, ``https://``, ``s3://`` or what else fsspec opens.

    Raises :class:`DataError` if there is no ``_info.json`` or no such split in it.
    """
    place = place_at(address)
    info = read_info(place)
    if split not in info.splits:
        raise DataError(f"{place.name}: no split {split!r}.", hint=f"Splits: {', '.join(info.splits) or 'nothing'}.")
    entry = info.splits[split]
    if len(entry.filenames) != len(entry.shard_lengths):
        raise DataError(
            f"{place.name}: {len(entry.filenames)} shards of {split!r}, {len(entry.shard_lengths)} lengths."
        )
    return from_shards(
        address,
        dict(zip(entry.filenames, entry.shard_lengths, strict=True)),
        classes=info.classes or _classes(place, info.name or _name_of(place)),
        channels=info.channels,
        name=info.name or _name_of(place),
        split=split,
    )


def from_shards(
    address: str | Path,
    counts: Mapping[str, int],
    *,
    classes: Sequence[str],
    channels: int = 3,
    name: str = "",
    split: str = "train",
) -> ImageStream:
    """Returns the stream of WebDataset shards without an ``_info.json``.

    Args:
        address: The folder of the shards, or their address.
        counts: Images in each shard, by file name.
        classes: Names of the classes, in label order.
        channels: 1 or 3.
        name: What to call the data set. By default the name of its folder.
        split: The name of its split.

    Returns:
        The stream, which :func:`zoo.train` takes.

    Raises:
        DataError: A file name leads out of the folder, or the counts are not possible.

    Example:
        >>> import zoo
        >>> digits = zoo.data.load("digits", "test")
        >>> folder = zoo.data.write_shards(digits, "shards").parent
        >>> len(zoo.data.from_shards(folder, {"test-000000.tar": 360}, classes=digits.classes, channels=1))
        360
    """
    place = place_at(address)
    shards = tuple(Shard(file, count) for file, count in counts.items())
    for shard in shards:
        place.check(shard.name)
    reader = _Reader(place, tuple(shard.name for shard in shards))
    return ImageStream(
        name or _name_of(place), split, tuple(classes), shards, reader, channels=channels, origin=place.name
    )


@dataclass(frozen=True)
class _Reader:
    place: Place
    files: tuple[str, ...]

    def __call__(self, shard: int) -> Iterator[Sample]:
        return samples(self.place, self.files[shard])


def samples(place: Place, file: str) -> Iterator[Sample]:
    """Yields the samples of one shard, in order; members that belong to neither image nor label are passed over."""
    try:
        from webdataset.tariterators import group_by_keys, tar_file_expander
    except ImportError:
        raise MissingExtraError.of("Reading .tar shards", "webdataset", "zoo-vision[stream]") from None
    key, where = "", f"{place.name}/{file}"
    with place.open(file) as stream:
        groups = group_by_keys(tar_file_expander([{"url": file, "stream": stream}]))
        while True:
            try:
                group = next(groups, None)
            except Exception as error:  # the library passes on whatever tarfile and the stream raise
                if stream.failure is not None:
                    raise stream.failure from None
                reason = str(error.args[0] if error.args else error).partition(" @ <")[0] or type(error).__name__
                after = f" after {key}" if key else ""
                hint = "The file may be truncated: download it again."
                raise DataError(f"{where}: cannot be read{after}: {reason}", hint=hint) from None
            if group is None:
                return
            key = group["__key__"]
            if (sample := _sample(where, key, group)) is not None:
                yield sample


def _sample(where: str, key: str, group: Mapping[str, Any]) -> Sample | None:
    images = [group[suffix] for suffix in _IMAGES if suffix in group]
    if not images and "cls" not in group:
        return None
    if len(images) != 1 or "cls" not in group:
        parts = ", ".join(name for name in group if not name.startswith("__"))
        raise DataError(f"{where}: {key} has {parts}; expected one image ({', '.join(_IMAGES[:3])}, ...) and cls.")
    text = group["cls"][:32].decode("ascii", "replace").strip()
    if not re.fullmatch(r"-?\d+", text):
        raise DataError(f"{where}: {key}.cls holds {text!r}, expected a label such as 7.")
    return Sample(key, images[0], int(text))


def read_info(place: Place) -> Info:
    """Reads the description of the shards at ``place``; raises :class:`DataError` if there is none."""
    failures = []
    for name in _INFO_NAMES:
        try:
            return msgspec.json.decode(place.read(name), type=Info)
        except msgspec.DecodeError as error:
            raise DataError(f"{place.name}: {name} is invalid: {error}.") from None
        except DataError as error:
            failures.append(error)
    hint = "Create it with zoo.data.index_shards(FOLDER), or write shards with zoo.data.write_shards."
    raise DataError(f"{place.name}: {failures[0].message}, so its shards cannot be counted.", hint=hint)


def _classes(place: Place, name: str) -> Sequence[str]:
    try:
        return place.read("classes.txt").decode("utf-8").splitlines()
    except DataError:
        pass
    except UnicodeDecodeError as error:
        raise DataError(f"{place.name}: classes.txt is not UTF-8 text: {error}.") from None
    try:
        return class_names(name)
    except ZooError:
        raise DataError(
            f"{place.name}: no class names found.",
            hint='Put them into classes.txt, one name per line in label order, or under "classes" in _info.json.',
        ) from None


def _name_of(place: Place) -> str:
    """Returns the last part of the address; ``imagenet-1k-wds``, as timm publishes it, is ``imagenet-1k``."""
    path = unquote(urlsplit(place.name).path) if "://" in place.name else place.name
    return Path(path).expanduser().absolute().name.removesuffix("-wds") or place.name


_NUMBERED = re.compile(r"(?P<split>.+?)[-_.]?\d+\.tar")
_COPIED = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}


def write_shards(images: ImageSet, folder: str | Path, *, per_shard: int = 1000, seed: int | None = 0) -> Path:
    """Writes images into a folder as WebDataset shards.

    JPEG, PNG and WebP files are copied as they are; other images are written as PNG. The same images give the same
    bytes. Other splits in the folder are not changed.

    Args:
        images: The images of a split.
        folder: The folder.
        per_shard: Images in a shard.
        seed: Decides the order of a split ``train``, so that each shard has many classes. None, as for other splits,
            leaves the order, and the fingerprint, as they are.

    Returns:
        The file ``_info.json``, which describes the shards.

    Raises:
        DataError: The folder has this split already, or another data set.
        MissingExtraError: ``webdataset`` is not installed.

    Example:
        >>> import zoo
        >>> info = zoo.data.write_shards(zoo.data.load("digits", "test"), "shards", per_shard=200)
        >>> sorted(file.name for file in info.parent.iterdir())
        ['_info.json', 'test-000000.tar', 'test-000001.tar']
    """
    try:
        from webdataset.writer import TarWriter
    except ImportError:
        raise MissingExtraError.of("Writing .tar shards", "webdataset", "zoo-vision[stream]") from None
    folder = Path(folder).expanduser()
    info = _info_for(images, folder)
    folder.mkdir(parents=True, exist_ok=True)
    every = torch.arange(len(images))
    if seed is not None and images.split == "train":
        every = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    split = Split([], [], images.split)
    batches = [every[start : start + per_shard] for start in range(0, len(every), per_shard)]
    for number, numbers in enumerate(batches):
        file = folder / f"{images.split}-{number:06d}.tar"
        with storage.beside(file) as stream, TarWriter(stream, encoder=False, mtime=0) as tar:
            for index in numbers.tolist():
                suffix, encoded = _encode(images, index)
                label = str(int(images.labels[index])).encode("ascii")
                tar.write({"__key__": f"{index:08d}", suffix: encoded, "cls": label})
        split.filenames.append(file.name)
        split.shard_lengths.append(len(numbers))
    info.splits[images.split] = split
    return _write_info(folder, info)


def index_shards(folder: str | Path, classes: Sequence[str] = (), *, name: str = "", channels: int = 3) -> Path:
    """Counts the images of the .tar files in a folder and writes its ``_info.json``.

    The split of a file is the part of its name before the number (``train-000012.tar``), or the folder within
    ``folder`` that contains it.

    Args:
        folder: The folder.
        classes: Names of the classes, in label order, unless ``classes.txt`` has them.
        name: What to call the data set. By default the name of its folder.
        channels: 1 or 3.

    Returns:
        The file ``_info.json``.

    Raises:
        DataError: There are no .tar files, one is damaged, or they hold no images.
        MissingExtraError: ``webdataset`` is not installed.

    Example:
        >>> import zoo
        >>> digits = zoo.data.load("digits", "test")
        >>> folder = zoo.data.write_shards(digits, "shards").parent
        >>> info = zoo.data.index_shards(folder, digits.classes, channels=1)
        >>> zoo.data.splits(folder)
        ['test']
    """
    folder = Path(folder).expanduser()
    files = sorted(file.relative_to(folder) for pattern in ("*.tar", "*/*.tar") for file in folder.glob(pattern))
    if not files:
        raise DataError(f"{folder}: no .tar files.")
    info = Info({}, name=name, classes=list(classes), channels=channels)
    for file in files:
        match = _NUMBERED.fullmatch(file.name)
        split = file.parent.name or (match["split"] if match else file.stem)
        entry = info.splits.setdefault(split, Split([], [], split))
        entry.filenames.append(file.as_posix())
        entry.shard_lengths.append(sum(1 for _ in samples(place_at(folder), file.as_posix())))
    if not any(sum(split.shard_lengths) for split in info.splits.values()):
        raise DataError(f"{folder}: its .tar files hold no images.", hint="Expected pairs of KEY.jpg and KEY.cls.")
    return _write_info(folder, info)


def _info_for(images: ImageSet, folder: Path) -> Info:
    """Returns the folder's description, to which a split is added."""
    fresh = Info({}, name=images.name, classes=list(images.classes), channels=images.channels)
    if not (folder / INFO).is_file():
        return fresh
    existing = read_info(place_at(folder))
    if images.split in existing.splits:
        raise DataError(f"{folder} already contains the split {images.split!r}.", hint="Choose another folder.")
    if (existing.name, existing.classes, existing.channels) != (fresh.name, fresh.classes, fresh.channels):
        raise DataError(
            f"{folder} holds {existing.name!r} with {len(existing.classes)} classes and {existing.channels} channels; "
            f"got {fresh.name!r} with {len(fresh.classes)} and {fresh.channels}.",
            hint="Choose another folder.",
        )
    return existing


def _write_info(folder: Path, info: Info) -> Path:
    """Replaces the ``_info.json`` of ``folder`` in one step."""
    for split in info.splits.values():
        split.num_samples = sum(split.shard_lengths)
    file = folder / INFO
    storage.replace(file, msgspec.json.format(msgspec.json.encode(info), indent=2) + b"\n")
    return file


def _encode(images: ImageSet, index: int) -> tuple[str, bytes]:
    """Returns the suffix and the bytes of a file of image ``index``."""
    encoded = images.encoded(index)
    if encoded is not None:
        with open_image(encoded, f"{images.origin} image {index}") as image:
            if (image.format or "") in _COPIED:
                return _COPIED[image.format or ""], encoded
    file = BytesIO()
    images.image(index).save(file, "PNG")
    return "png", file.getvalue()

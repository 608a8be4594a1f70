"""``ImageStream``: labelled images that are read shard by shard, for sets larger than memory."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import accumulate
from threading import Lock
from typing import ClassVar, NamedTuple

import torch
from PIL import Image

from zoo.data.image_file import read_image
from zoo.data.image_set import MAX_RESIDENT_BYTES, ImageSet
from zoo.errors import DataError

BUFFER = 8192
"""Images among which training draws the next one, over all processes."""

READERS = 16
"""Parts of an epoch that are read at once, over all processes."""


class Sample(NamedTuple):
    """An image in a shard: ``key`` is its name, ``encoded`` are the bytes of its file."""

    key: str
    encoded: bytes
    label: int


class Shard(NamedTuple):
    """A shard's name and number of images."""

    name: str
    size: int


@dataclass(frozen=True, eq=False)
class ImageStream:
    """A split of a data set in shards, each of which is read sequentially.

    ``read(i)`` yields the samples of shard i, always in the same order. ``buffer`` and ``readers`` determine how well
    training shuffles: see ``zoo.training.inputs``. Raises :class:`DataError` if these are inconsistent.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    shards: tuple[Shard, ...] = field(repr=False)
    read: Callable[[int], Iterator[Sample]] = field(repr=False)
    channels: int = 3
    origin: str = ""
    buffer: int = BUFFER
    readers: int = READERS
    pixels: ClassVar[None] = None
    """None, as of an ``ImageSet`` that is not resident."""

    def __post_init__(self) -> None:
        if any(shard.size < 0 for shard in self.shards) or len(self) == 0:
            self._refuse("no images")
        if not self.classes:
            self._refuse("no classes")
        if self.channels not in (1, 3):
            self._refuse(f"{self.channels} channels, expected 1 or 3")
        if self.buffer < 1 or self.readers < 1:
            self._refuse(f"a buffer of {self.buffer} images and {self.readers} readers, expected at least 1 of each")

    def _refuse(self, message: str) -> None:
        raise DataError(f"{self.origin or self.name} ({self.split}): {message}.")

    def __len__(self) -> int:
        return sum(shard.size for shard in self.shards)

    @cached_property
    def ends(self) -> list[int]:
        """The number, for each shard, of images in it and all shards before it."""
        return list(accumulate(shard.size for shard in self.shards))

    @property
    def fingerprint(self) -> str:
        """sha256 over the names and counts of the shards and the class names; no image is read."""
        lines = [*(f"{shard.name} {shard.size}" for shard in self.shards), *self.classes]
        return f"shards sha256:{sha256(chr(10).join(lines).encode()).hexdigest()}"

    def where(self, shard: int) -> str:
        """Returns the name of shard number ``shard`` in messages."""
        return f"{self.origin}/{self.shards[shard].name}" if self.origin else self.shards[shard].name

    def samples(self, shard: int, start: int = 0, stop: int | None = None) -> Iterator[Sample]:
        """Yields the samples ``start`` to ``stop``, by default all, of shard number ``shard``.

        Raises :class:`DataError` naming shard and sample if a label is not among the classes, or
        if the shard does not hold the stated number of images.
        """
        where, count = self.where(shard), self.shards[shard].size
        stop = count if stop is None else stop
        number = 0
        for sample in self.read(shard):
            if number == count:
                raise DataError(
                    f"{where}: more than the {count} images stated in the index; {sample.key} is next.",
                    hint="Count the images again: zoo.data.index_shards(FOLDER).",
                )
            if number >= start:
                if not 0 <= sample.label < len(self.classes):
                    raise DataError(
                        f"{where}: {sample.key} has label {sample.label}, expected 0 to {len(self.classes) - 1}."
                    )
                yield sample
            number += 1
            if number == stop < count:
                return
        if number < count:
            raise DataError(
                f"{where}: {number} images, expected {count}.", hint="The file may be truncated: download it again."
            )

    def decode(self, shard: int, sample: Sample) -> Image.Image:
        """Decodes the image of a ``sample`` of shard number ``shard`` in RGB or L, depending on ``channels``."""
        return read_image(sample.encoded, f"{self.where(shard)}: {sample.key}", self.channels)

    def as_set(self) -> ImageSet:
        """Returns the same images with random access, for scoring networks.

        Reads all shards once, for the labels. If they fit into ``MAX_RESIDENT_BYTES``, encoded, they are kept;
        otherwise two shards at a time: fast in order, slow at random.
        """
        labels: list[int] = []
        kept: list[Sample] | None = []
        size = 0
        for shard in range(len(self.shards)):
            for sample in self.samples(shard):
                labels.append(sample.label)
                size += len(sample.encoded)
                kept = kept if size <= MAX_RESIDENT_BYTES else None
                if kept is not None:
                    kept.append(sample)
        return ImageSet(
            self.name,
            self.split,
            self.classes,
            torch.tensor(labels, dtype=torch.int64),
            read=_Images(self, kept),
            channels=self.channels,
            origin=self.origin,
        )


class _Images:
    """Decodes image i of a stream, from all its samples or from the last two shards."""

    def __init__(self, stream: ImageStream, kept: list[Sample] | None) -> None:
        self.stream = stream
        self.kept = kept
        self.shards: OrderedDict[int, list[Sample]] = OrderedDict()
        self.lock = Lock()

    def __call__(self, index: int) -> Image.Image:
        return self.stream.decode(*self._find(index))

    def encoded(self, index: int) -> bytes:
        return self._find(index)[1].encoded

    def _find(self, index: int) -> tuple[int, Sample]:
        ends = self.stream.ends
        shard = bisect_right(ends, index)
        if self.kept is not None:
            return shard, self.kept[index]
        with self.lock:
            if shard not in self.shards:
                self.shards[shard] = list(self.stream.samples(shard))
            self.shards.move_to_end(shard)
            while len(self.shards) > 2:
                self.shards.popitem(last=False)
            return shard, self.shards[shard][index - ends[shard] + self.stream.shards[shard].size]

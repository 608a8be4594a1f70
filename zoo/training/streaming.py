"""Batches from a stream of shards, with memory limited to its buffers.

The order of an epoch. Its shards are permuted; laid end to end, they are a sequence of all images.
Of it, each of the ``readers`` of the stream gets an unbroken part, as long as its places in a batch
ask for: a shard across the border of two parts is read by both, each taking its own images. A reader
shuffles its images by a buffer, which is filled first and then returns a random one for each
that comes in. The buffers of all readers hold ``stream.buffer`` images.

All processes have equally many readers, of which there are more if they would not divide: among 1,
2, 4, 8 and 16 processes, 16 readers make the same batches. Another number makes another order, with
as many steps for every process; resumed with it in the middle of an epoch, the rest of that epoch may
show images again and leave others out.
"""

import os
from array import array
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import accumulate, islice
from typing import NamedTuple

import torch
from torch import Tensor

from zoo.data.stream import ImageStream, Sample
from zoo.spec import Preprocess
from zoo.system.distributed import ALONE, Processes
from zoo.training.portion import portion_of
from zoo.training.randomness import generator_at
from zoo.training.recipe import Recipe
from zoo.training.train_transform import TrainTransform, to_batch

_AHEAD = 4
"""Batches that are read and decoded before they are asked for."""


class Span(NamedTuple):
    """The images ``start`` to ``stop`` of shard number ``shard``."""

    shard: int
    start: int
    stop: int


class Drawn(NamedTuple):
    """A sample from a buffer: image ``number`` of the stream, from shard number ``shard``."""

    number: int
    shard: int
    sample: Sample


class StreamedBatches:
    """Batches of an epoch by number, like ``zoo.training.inputs.Batches``, of images read shard by shard.

    An epoch has ``steps`` full batches of ``size`` images; the remaining images, at the end of the last shards, are
    skipped in that epoch. Buffers hold encoded files, so that an epoch can be entered at any step without decoding or
    opening shards that are not needed.
    """

    def __init__(
        self,
        stream: ImageStream,
        recipe: Recipe,
        preprocess: Preprocess,
        device: torch.device,
        processes: Processes = ALONE,
    ) -> None:
        self.size, self.steps, self.share = portion_of(len(stream), recipe, processes)
        self._stream = stream
        self._seed = recipe.seed
        self._device = device
        self._transform = TrainTransform(recipe, preprocess, stream, self.share, self.size, device)
        each = -(-stream.readers // processes.count)
        self._readers = each * processes.count
        self._own = range(each * processes.rank, each * (processes.rank + 1))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of ``epoch`` from step ``start`` on, on the device: see :meth:`TrainTransform.batch`."""
        for step, (pixels, numbers, labels) in enumerate(self._read(epoch, start), start):
            pixels, numbers, labels = (part.to(self._device) for part in (pixels, numbers, labels))
            yield self._transform.batch(pixels, numbers, labels, epoch, step)

    def _read(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Pixels uint8 B C H W, numbers and labels int64 B of each batch from ``start`` on."""
        with ExitStack() as stack:
            decoders = ThreadPoolExecutor(_cores())
            stack.callback(decoders.shutdown, cancel_futures=True)
            readers = []
            for reader in self._own:
                thread = ThreadPoolExecutor(1)  # one thread per part: reading waits for disks and networks
                stack.callback(thread.shutdown, cancel_futures=True)
                places = self._places(reader)
                readers.append((thread, len(places), self._let_out(epoch, reader, places, start)))

            def take(images: Iterator[Drawn], count: int) -> list[tuple[Drawn, Future[Tensor]]]:
                return [(drawn, decoders.submit(self._decode, drawn, epoch)) for drawn in islice(images, count)]

            coming: deque[list[Future[list[tuple[Drawn, Future[Tensor]]]]]] = deque()
            for step in range(start, self.steps):
                while len(coming) < min(_AHEAD, self.steps - step):
                    coming.append([thread.submit(take, images, count) for thread, count, images in readers])
                batch = [pair for part in coming.popleft() for pair in part.result()]
                pixels = to_batch(image.result() for _, image in batch)
                numbers = torch.tensor([drawn.number for drawn, _ in batch])
                yield pixels, numbers, torch.tensor([drawn.sample.label for drawn, _ in batch])

    def _decode(self, drawn: Drawn, epoch: int) -> Tensor:
        """uint8 C H W at the network's input size."""
        return self._transform.cut(self._stream.decode(drawn.shard, drawn.sample), epoch, drawn.number)

    def _places(self, reader: int) -> range:
        """The places in a batch that ``reader`` fills."""
        return range(reader * self.size // self._readers, (reader + 1) * self.size // self._readers)

    def _let_out(self, epoch: int, reader: int, places: range, start: int) -> Iterator[Drawn]:
        """The images of ``reader`` in the order of its buffer, from step ``start`` on."""
        count = self.steps * len(places)
        buffer = max(1, self._stream.buffer // self._readers)
        order = shuffled(count, buffer, generator_at(self._seed, "buffer", epoch, reader))[start * len(places) :]
        is_wanted = bytearray(count)
        for position in order:
            is_wanted[position] = 1
        arrivals = self._arrive(self._spans(epoch, self.steps * places.start, self.steps * places.stop), is_wanted)
        held: dict[int, Drawn] = {}
        for position in order:
            while position not in held:
                arrived, drawn = next(arrivals)
                held[arrived] = drawn
            yield held.pop(position)

    def _arrive(self, spans: list[Span], is_wanted: bytearray) -> Iterator[tuple[int, Drawn]]:
        """The wanted images of ``spans`` in their stored order, each with its position among all of them."""
        position = 0
        for shard, start, stop in spans:
            first = self._stream.ends[shard] - self._stream.shards[shard].size
            if is_wanted.find(1, position, position + stop - start) >= 0:
                for index, sample in enumerate(self._stream.samples(shard, start, stop), start):
                    if is_wanted[position + index - start]:
                        yield position + index - start, Drawn(first + index, shard, sample)
            position += stop - start

    def _spans(self, epoch: int, low: int, high: int) -> list[Span]:
        """The parts of shards from ``low`` to ``high`` in the sequence of the epoch's shards."""
        order = torch.randperm(len(self._stream.shards), generator=generator_at(self._seed, "shards", epoch)).tolist()
        counts = [self._stream.shards[shard].size for shard in order]
        spans = []
        for shard, count, end in zip(order, counts, accumulate(counts), strict=True):
            first, last = max(low, end - count), min(high, end)
            if first < last:
                spans.append(Span(shard, first - (end - count), last - (end - count)))
        return spans


def shuffled(count: int, buffer: int, generator: torch.Generator) -> "array[int]":
    """0 ... count - 1 in the order in which a buffer of that size returns them."""
    held = list(range(min(buffer, count)))
    order = array("q")
    draws = torch.rand(count, dtype=torch.float64, generator=generator).tolist()
    for arriving, draw in enumerate(draws, start=len(held)):
        place = int(draw * len(held))
        order.append(held[place])
        if arriving < count:
            held[place] = arriving
        else:
            held[place] = held[-1]
            held.pop()
    return order


def _cores() -> int:
    """The number of cores for this process, if a launcher started several."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, available // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))

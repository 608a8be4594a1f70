"""Training images: split, normalisation, order, augmentation, batches; in memory, or from a stream of shards."""

import math
import os
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import accumulate, islice
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.data.augment import Augment, Policies, draw_window
from zoo.data.image_file import upright
from zoo.data.image_set import MAX_RESIDENT_BYTES, ImageSet, hold_out, mean_and_std
from zoo.data.preprocess import Transform
from zoo.data.stream import ImageStream, Sample
from zoo.data.whitening import ZCA, attach
from zoo.errors import DataError, RecipeError
from zoo.spec import Preprocess
from zoo.system.distributed import ALONE, Processes
from zoo.training.randomness import derive_seed, generator_at
from zoo.training.recipe import Recipe

_AHEAD = 4
"""Batches that are read and decoded before they are asked for."""


class TrainingData(msgspec.Struct, frozen=True):
    """The images to train on, and those held out to score after each epoch."""

    train: ImageSet | ImageStream
    validation: ImageSet | None = None


def split(images: ImageSet | ImageStream, recipe: Recipe, held_out: ImageSet | None = None) -> TrainingData:
    """Divides images into those to train on and those held out to score after each epoch.

    Args:
        images: The training images.
        recipe: Says how many are held out (``validation``), the same share of each class.
        held_out: Images to score after each epoch if ``recipe.validation`` is 0.

    Returns:
        Both.

    Raises:
        RecipeError: ``recipe.validation`` is not 0 and the images are a stream.
        DataError: ``recipe.validation`` leaves no images on one side.

    Example:
        >>> import zoo
        >>> data = zoo.training.split(zoo.data.load("digits"), zoo.training.Recipe(validation=100))
        >>> len(data.train), len(data.validation)
        (1337, 100)
    """
    if recipe.validation == 0:
        return TrainingData(images, held_out)
    if isinstance(images, ImageStream):
        raise RecipeError(
            f"validation = {recipe.validation}: {images.name} is a stream, so images cannot be held out.",
            hint="Use validation=0, and score the network on another split: zoo evaluate --split.",
        )
    return TrainingData(*hold_out(images, recipe.validation, recipe.seed))


def normalise(model: nn.Module, data: TrainingData, recipe: Recipe, declared: Preprocess) -> Preprocess:
    """Decides how images are prepared for a network that a recipe trains.

    Args:
        model: The network. A whitening transform that the recipe asks for is fitted and attached to it.
        data: The images.
        recipe: The recipe.
        declared: How the model declares that images are prepared.

    Returns:
        How images are prepared, with the training images' channels, mean and standard deviation.

    Raises:
        DataError: The recipe's ``normalize`` needs images of one size in memory.

    Example:
        >>> import zoo
        >>> recipe = zoo.training.Recipe(normalize="standardize")
        >>> data = zoo.training.split(zoo.data.load("digits"), recipe)
        >>> model = zoo.create("resnet20", in_chans=1)
        >>> declared = zoo.Preprocess(input_size=(1, 8, 8), mean=(0.5,), std=(0.5,))
        >>> round(zoo.training.normalise(model, data, recipe, declared).mean[0], 3)
        0.306
    """
    images = data.train
    pixels = images.pixels
    _, height, width = declared.input_size
    size = (recipe.input_size, recipe.input_size) if recipe.input_size else (height, width)
    changes: dict[str, object] = {"input_size": (images.channels, *size)}
    if pixels is not None and pixels.shape[2:] == size:
        changes["crop_pct"] = 1.0
    if recipe.normalize != "model":
        if pixels is None:
            raise DataError(
                f"normalize = {recipe.normalize!r} needs images of one size in memory, unlike those of {images.name}.",
                hint="Use normalize=model.",
            )
        zeros, ones = (0.0,) * images.channels, (1.0,) * images.channels
        mean, std = mean_and_std(pixels)
        if recipe.normalize == "zca":
            mean, std = zeros, ones
            changes["whitening"] = "zca"
        changes |= {"mean": mean, "std": ones if recipe.normalize == "mean" else std}
    preprocess = msgspec.structs.replace(declared, **changes)
    if recipe.normalize == "zca" and pixels is not None:
        transform = Transform(preprocess)
        attach(model, ZCA.fit(transform.batch(batch) for batch in _parts(pixels)))
    return preprocess


class Portion(NamedTuple):
    """An epoch has ``steps`` full batches of ``size`` images; ``share`` are this process's positions in each."""

    size: int
    steps: int
    share: range


def portion_of(images: int, recipe: Recipe, processes: Processes) -> Portion:
    """Returns this process's portion of ``images``; raises :class:`RecipeError` if it is too small to train on."""
    size = min(recipe.batch_size, images)
    if size // processes.count < recipe.accumulate:  # the smallest share, so that all processes refuse alike
        raise RecipeError(
            f"A batch of {size} images cannot be divided among {processes.count} processes "
            f"in {recipe.accumulate} pieces each.",
            hint="Raise batch_size, or start fewer processes.",
        )
    return Portion(size, images // size, processes.share(size))


class TrainTransform:
    """Cut-out, augmentation and normalisation of ``images`` as ``recipe`` and ``preprocess`` say.

    All follows from (seed, epoch, step) and from an image's number. This process varies its ``portion`` of each batch
    in the way that one process alone would.
    """

    def __init__(
        self,
        recipe: Recipe,
        preprocess: Preprocess,
        images: ImageSet | ImageStream,
        portion: Portion,
        device: torch.device,
    ) -> None:
        self._seed = recipe.seed
        self._settings = recipe.augment
        self._progressive, self._epochs = recipe.progressive, recipe.epochs
        self._portion = portion
        self._cut = Transform(preprocess)
        self._normalize = Transform(msgspec.structs.replace(preprocess, crop_pct=1.0))
        self._policies = Policies(recipe.augment, len(images.classes)) if recipe.augment.uses_torchvision else None
        self._first_mirrored: Tensor | None = None
        if recipe.augment.flip == "alternate":
            draw = torch.rand(len(images), generator=generator_at(recipe.seed, "flip"))
            self._first_mirrored = (draw < 0.5).to(device)

    def cut(self, image: Image.Image, epoch: int, number: int) -> Tensor:
        """Cuts image ``number`` to the network's input size, uint8 C H W: its centre, or a window drawn each epoch."""
        if self._settings.resized_crop is None:
            return self._cut.pixels(image)
        image = upright(image)
        generator = generator_at(self._seed, "window", epoch, number)
        window = draw_window(self._settings.resized_crop, image.height, image.width, generator)
        return self._cut.pixels(image, window)

    def batch(self, pixels: Tensor, numbers: Tensor, labels: Tensor, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Returns the network's input, float32 B C H W, and its labels.

        ``pixels`` are uint8 B C H W of the images ``numbers``, int64 B. If the recipe mixes images, their ``labels``,
        int64 B, become shares of the classes, float32 B K.
        """
        augment = Augment(
            self._settings, generator_at(self._seed, "augment", epoch, step), (self._portion.share, self._portion.size)
        )
        is_mirrored = None if self._first_mirrored is None else self._first_mirrored[numbers] ^ bool(epoch % 2)
        pixels = augment(pixels, is_mirrored)
        images, labels = self._normalized(pixels, numbers, labels, epoch, step)
        return self._resized(images, epoch), labels

    def _normalized(
        self, pixels: Tensor, numbers: Tensor, labels: Tensor, epoch: int, step: int
    ) -> tuple[Tensor, Tensor]:
        """Returns normalised images, float32 B C H W, after torchvision's changes, and their labels."""
        if self._policies is None:
            return self._normalize.batch(pixels), labels
        vary, erase = (
            [derive_seed(self._seed, purpose, epoch, number) for number in numbers.tolist()]
            for purpose in ("vary", "erase")
        )
        images = self._policies.erase(self._normalize.batch(self._policies.vary(pixels, vary)), erase)
        seed = derive_seed(self._seed, "mix", epoch, step, self._portion.share.start)
        return self._policies.mix(images, labels, seed)

    def _resized(self, images: Tensor, epoch: int) -> Tensor:
        """Returns ``images`` at the size that progressive resizing has reached."""
        if self._progressive is None:
            return images
        size = [self._progressive.side(side, epoch, self._epochs) for side in images.shape[2:]]
        if size == list(images.shape[2:]):
            return images
        return F.interpolate(images, size, mode="bilinear", antialias=True)


def to_batch(images: Iterable[Tensor]) -> Tensor:
    """Stacks images C H W, to B C H W, that lie in memory as H W C, as decoders leave them, and the batch does.

    In this thread alone: torch would share each image's copy out to all of its threads, which wait for
    one another while the decoders hold the cores.
    """
    return torch.from_numpy(np.stack([image.permute(1, 2, 0).numpy() for image in images])).permute(0, 3, 1, 2)


class Batches:
    """Batches of an epoch by number; order and augmentation depend only on seed, epoch and step.

    An epoch has ``steps`` full batches of ``size`` images; the remaining images are skipped in that epoch. Each of
    several ``processes`` gets its share of every batch, with the same images and augmentation for any number of
    processes. Images of one size stay on ``device`` as uint8 at the network's input size; others are decoded on demand,
    a batch ahead, in threads.
    """

    def __init__(
        self,
        images: ImageSet,
        recipe: Recipe,
        preprocess: Preprocess,
        device: torch.device,
        processes: Processes = ALONE,
    ) -> None:
        self.portion = portion_of(len(images), recipe, processes)
        self.size, self.steps, self.share = self.portion
        self._images = images
        self._seed = recipe.seed
        self._device = device
        self._transform = TrainTransform(recipe, preprocess, images, self.portion, device)
        self._redraw = images.redraw if recipe.augment.redraw else None
        self._preprocess = preprocess
        is_kept = recipe.augment.resized_crop is None and self._redraw is None
        self._pixels = _resident(images.pixels, preprocess, device) if is_kept else None
        self._labels = images.labels.to(device)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the batches of ``epoch`` from step ``start`` on, on the device: see :meth:`TrainTransform.batch`."""
        order = torch.randperm(len(self._images), generator=generator_at(self._seed, "order", epoch))
        first, last = self.share.start, self.share.stop
        batches = [batch[first:last] for batch in _parts(order[: self.steps * self.size], self.size)]
        for step, (numbers, pixels) in enumerate(self._read(batches[start:], epoch), start):
            yield self._transform.batch(pixels, numbers, self._labels.index_select(0, numbers), epoch, step)

    def _read(self, batches: list[Tensor], epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields numbers of the images on the device, int64 B, and their pixels, uint8 B C H W, in order."""
        if self._pixels is not None:
            for numbers in batches:
                numbers = numbers.to(self._device)
                yield numbers, self._pixels.index_select(0, numbers)
            return
        if self._redraw is not None:
            for numbers in batches:
                pixels = self._redraw(numbers, generator_at(self._seed, "redraw", epoch))
                yield numbers.to(self._device), _fitted(pixels, self._preprocess).to(self._device)
            return
        with ThreadPoolExecutor() as pool:
            coming: list[list[Future[Tensor]]] = []
            for step, numbers in enumerate(batches):
                for later in batches[step + len(coming) : step + 2]:
                    coming.append([pool.submit(self._cut, index, epoch) for index in later.tolist()])
                pixels = to_batch(image.result() for image in coming.pop(0))
                yield numbers.to(self._device), pixels.to(self._device)

    def _cut(self, index: int, epoch: int) -> Tensor:
        """Returns image ``index`` at the network's input size, uint8 C H W."""
        return self._transform.cut(self._images.image(index), epoch, index)


def _resident(pixels: Tensor | None, preprocess: Preprocess, device: torch.device) -> Tensor | None:
    """Returns all ``pixels`` at the network's input size on the device; None if that is not possible."""
    if pixels is None or len(pixels) * math.prod(preprocess.input_size) > MAX_RESIDENT_BYTES:
        return None
    return _fitted(pixels, preprocess).to(device)


def _fitted(pixels: Tensor, preprocess: Preprocess) -> Tensor:
    """Returns ``pixels`` uint8 B C H W at the network's input size, before augmentation and normalisation."""
    size = preprocess.input_size
    if tuple(pixels.shape[1:]) == size:
        return pixels
    zeros, ones = (0.0,) * size[0], (1.0,) * size[0]
    to_unit = Transform(msgspec.structs.replace(preprocess, mean=zeros, std=ones))
    return torch.cat([(to_unit.batch(batch) * 255).round_().to(torch.uint8) for batch in _parts(pixels)])


def _parts(tensor: Tensor, size: int = 1024) -> list[Tensor]:
    """Returns slices of at most ``size`` along the first axis."""
    return [tensor[start : start + size] for start in range(0, len(tensor), size)]


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
    """Batches of an epoch by number, like :class:`Batches`, of images read shard by shard.

    An epoch has ``steps`` full batches of ``size`` images; the remaining images, at the end of the last shards, are
    skipped in that epoch. Buffers hold encoded files, so that an epoch can be entered at any step without decoding or
    opening shards that are not needed.

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

    def __init__(
        self,
        stream: ImageStream,
        recipe: Recipe,
        preprocess: Preprocess,
        device: torch.device,
        processes: Processes = ALONE,
    ) -> None:
        self.portion = portion_of(len(stream), recipe, processes)
        self.size, self.steps, self.share = self.portion
        self._stream = stream
        self._seed = recipe.seed
        self._device = device
        self._transform = TrainTransform(recipe, preprocess, stream, self.portion, device)
        each = -(-stream.readers // processes.count)
        self._readers = each * processes.count
        self._own = range(each * processes.rank, each * (processes.rank + 1))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the batches of ``epoch`` from step ``start`` on, on the device: see :meth:`TrainTransform.batch`."""
        for step, (pixels, numbers, labels) in enumerate(self._read(epoch, start), start):
            pixels, numbers, labels = (tensor.to(self._device) for tensor in (pixels, numbers, labels))
            yield self._transform.batch(pixels, numbers, labels, epoch, step)

    def _read(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yields pixels uint8 B C H W, numbers and labels int64 B of each batch from ``start`` on."""
        with ExitStack() as stack:
            decoders = ThreadPoolExecutor(_cores())
            stack.callback(decoders.shutdown, cancel_futures=True)
            readers = []
            for reader in self._own:
                thread = ThreadPoolExecutor(1)  # one per reader: reading waits for disks and networks
                stack.callback(thread.shutdown, cancel_futures=True)
                places = self._places(reader)
                readers.append((thread, len(places), self._let_out(epoch, reader, places, start)))

            def take(images: Iterator[Drawn], count: int) -> list[tuple[Drawn, Future[Tensor]]]:
                return [(drawn, decoders.submit(self._decode, drawn, epoch)) for drawn in islice(images, count)]

            coming: deque[list[Future[list[tuple[Drawn, Future[Tensor]]]]]] = deque()
            for step in range(start, self.steps):
                while len(coming) < min(_AHEAD, self.steps - step):
                    coming.append([thread.submit(take, images, count) for thread, count, images in readers])
                batch = [pair for future in coming.popleft() for pair in future.result()]
                pixels = to_batch(image.result() for _, image in batch)
                numbers = torch.tensor([drawn.number for drawn, _ in batch])
                yield pixels, numbers, torch.tensor([drawn.sample.label for drawn, _ in batch])

    def _decode(self, drawn: Drawn, epoch: int) -> Tensor:
        """Returns uint8 C H W at the network's input size."""
        return self._transform.cut(self._stream.decode(drawn.shard, drawn.sample), epoch, drawn.number)

    def _places(self, reader: int) -> range:
        """Returns the places in a batch that ``reader`` fills."""
        return range(reader * self.size // self._readers, (reader + 1) * self.size // self._readers)

    def _let_out(self, epoch: int, reader: int, places: range, start: int) -> Iterator[Drawn]:
        """Yields the images of ``reader`` in the order of its buffer, from step ``start`` on."""
        count = self.steps * len(places)
        buffer = max(1, self._stream.buffer // self._readers)
        order = shuffled(count, buffer, generator_at(self._seed, "buffer", epoch, reader))[start * len(places) :]
        is_wanted = bytearray(count)
        for position in order:
            is_wanted[position] = 1
        arrivals = self._arrive(self._spans(epoch, self.steps * places.start, self.steps * places.stop), is_wanted)
        waiting: dict[int, Drawn] = {}
        for position in order:
            while position not in waiting:
                arrived, drawn = next(arrivals)
                waiting[arrived] = drawn
            yield waiting.pop(position)

    def _arrive(self, spans: list[Span], is_wanted: bytearray) -> Iterator[tuple[int, Drawn]]:
        """Yields the wanted images of ``spans`` in their stored order, each with its position among all of them."""
        position = 0
        for shard, start, stop in spans:
            first = self._stream.ends[shard] - self._stream.shards[shard].size
            if is_wanted.find(1, position, position + stop - start) >= 0:
                for index, sample in enumerate(self._stream.samples(shard, start, stop), start):
                    if is_wanted[position + index - start]:
                        yield position + index - start, Drawn(first + index, shard, sample)
            position += stop - start

    def _spans(self, epoch: int, low: int, high: int) -> list[Span]:
        """Returns the parts of shards from ``low`` to ``high`` in the sequence of the epoch's shards."""
        order = torch.randperm(len(self._stream.shards), generator=generator_at(self._seed, "shards", epoch)).tolist()
        counts = [self._stream.shards[shard].size for shard in order]
        spans = []
        for shard, count, end in zip(order, counts, accumulate(counts), strict=True):
            first, last = max(low, end - count), min(high, end)
            if first < last:
                spans.append(Span(shard, first - (end - count), last - (end - count)))
        return spans


def shuffled(count: int, buffer: int, generator: torch.Generator) -> "array[int]":
    """Returns 0 ... count - 1 in the order in which a buffer of that size returns them."""
    waiting = list(range(min(buffer, count)))
    order = array("q")
    draws = torch.rand(count, dtype=torch.float64, generator=generator).tolist()
    for arriving, draw in enumerate(draws, start=len(waiting)):
        place = int(draw * len(waiting))
        order.append(waiting[place])
        if arriving < count:
            waiting[place] = arriving
        else:
            waiting[place] = waiting[-1]
            waiting.pop()
    return order


def _cores() -> int:
    """Returns the number of cores for this process, if a launcher started several."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, available // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def batches(
    images: ImageSet | ImageStream,
    recipe: Recipe,
    preprocess: Preprocess,
    device: torch.device,
    processes: Processes = ALONE,
) -> Batches | StreamedBatches:
    """Returns the batches of ``images`` for this one of ``processes``."""
    if recipe.augment.redraw and (isinstance(images, ImageStream) or images.redraw is None):
        raise RecipeError(
            f"augment.redraw: {images.name} is not a data set of randomly distorted images.",
            hint="Disable it: --set augment.redraw=false.",
        )
    if isinstance(images, ImageStream):
        return StreamedBatches(images, recipe, preprocess, device, processes)
    return Batches(images, recipe, preprocess, device, processes)

"""Training images: split, normalisation, order, batches."""

import math
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec
import torch
from torch import Tensor, nn

from zoo.data.image_set import MAX_RESIDENT_BYTES, ImageSet, hold_out, mean_and_std
from zoo.data.preprocess import Transform
from zoo.data.stream import ImageStream
from zoo.data.whitening import ZCA, attach
from zoo.errors import DataError, RecipeError
from zoo.spec import Preprocess
from zoo.system.distributed import ALONE, Processes
from zoo.training.portion import portion_of
from zoo.training.randomness import generator_at
from zoo.training.recipe import Recipe
from zoo.training.streaming import StreamedBatches
from zoo.training.train_transform import TrainTransform, to_batch


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
    """How images are prepared for a network that a recipe trains.

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
        attach(model, ZCA.fit(transform.batch(part) for part in _parts(pixels)))
    return preprocess


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
        self.size, self.steps, self.share = portion_of(len(images), recipe, processes)
        self._images = images
        self._seed = recipe.seed
        self._device = device
        self._transform = TrainTransform(recipe, preprocess, images, self.share, self.size, device)
        has_windows = recipe.augment.resized_crop is not None
        self._redraw = images.redraw if recipe.augment.redraw else None
        self._preprocess = preprocess
        is_kept = not has_windows and self._redraw is None
        self._pixels = _resident(images.pixels, preprocess, device) if is_kept else None
        self._labels = images.labels.to(device)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of ``epoch`` from step ``start`` on, on the device: see :meth:`TrainTransform.batch`."""
        share = self.share
        order = torch.randperm(len(self._images), generator=generator_at(self._seed, "order", epoch))
        parts = [whole[share.start : share.stop] for whole in _parts(order[: self.steps * self.size], self.size)]
        for step, (part, pixels) in enumerate(self._read(parts[start:], epoch), start):
            yield self._transform.batch(pixels, part, self._labels.index_select(0, part), epoch, step)

    def _read(self, parts: list[Tensor], epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Numbers of the images on the device, int64 B, and their pixels, uint8 B C H W, in order."""
        if self._pixels is not None:
            for part in parts:
                part = part.to(self._device)
                yield part, self._pixels.index_select(0, part)
            return
        if self._redraw is not None:
            for part in parts:
                pixels = self._redraw(part, generator_at(self._seed, "redraw", epoch))
                yield part.to(self._device), _fitted(pixels, self._preprocess).to(self._device)
            return
        with ThreadPoolExecutor() as pool:
            coming: list[list[Future[Tensor]]] = []
            for number, part in enumerate(parts):
                for later in parts[number + len(coming) : number + 2]:
                    coming.append([pool.submit(self._cut, index, epoch) for index in later.tolist()])
                pixels = to_batch(image.result() for image in coming.pop(0))
                yield part.to(self._device), pixels.to(self._device)

    def _cut(self, index: int, epoch: int) -> Tensor:
        """Image ``index`` at the network's input size, uint8 C H W."""
        return self._transform.cut(self._images.image(index), epoch, index)


def batches(
    images: ImageSet | ImageStream,
    recipe: Recipe,
    preprocess: Preprocess,
    device: torch.device,
    processes: Processes = ALONE,
) -> Batches | StreamedBatches:
    """The batches of ``images`` for this one of ``processes``."""
    if recipe.augment.redraw and (isinstance(images, ImageStream) or images.redraw is None):
        raise RecipeError(
            f"augment.redraw: {images.name} is not a data set of randomly distorted images.",
            hint="Disable it: --set augment.redraw=false.",
        )
    if isinstance(images, ImageStream):
        return StreamedBatches(images, recipe, preprocess, device, processes)
    return Batches(images, recipe, preprocess, device, processes)


def _resident(pixels: Tensor | None, preprocess: Preprocess, device: torch.device) -> Tensor | None:
    """All ``pixels`` at the network's input size on the device; None if that is not possible."""
    if pixels is None or len(pixels) * math.prod(preprocess.input_size) > MAX_RESIDENT_BYTES:
        return None
    return _fitted(pixels, preprocess).to(device)


def _fitted(pixels: Tensor, preprocess: Preprocess) -> Tensor:
    """``pixels`` uint8 B C H W at the network's input size, before augmentation and normalisation."""
    size = preprocess.input_size
    if tuple(pixels.shape[1:]) == size:
        return pixels
    zeros, ones = (0.0,) * size[0], (1.0,) * size[0]
    to_unit = Transform(msgspec.structs.replace(preprocess, mean=zeros, std=ones))
    return torch.cat([(to_unit.batch(part) * 255).round_().to(torch.uint8) for part in _parts(pixels)])


def _parts(tensor: Tensor, size: int = 1024) -> list[Tensor]:
    """Slices of at most ``size`` along the first axis."""
    return [tensor[start : start + size] for start in range(0, len(tensor), size)]

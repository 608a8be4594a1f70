"""Training and scoring of patches: expectation over transformation on training images, success on others."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.data import Fingerprint, ImageSet
from zoo.data.image_file import opaque, webp
from zoo.data.image_set import thin
from zoo.errors import DataError, SpecError
from zoo.evaluation import batches, check_classes, versions
from zoo.evaluation.score import Measured, provenance, weights_name
from zoo.loading.create import info_of
from zoo.spec import Preprocess
from zoo.statistics import wilson
from zoo.system import storage
from zoo.system.machine import keep_freed_memory
from zoo.training.perturbation import PixelModel, PixelTransform, gradient, under_attack
from zoo_attack.patch import Origin, Patch, Ranges, Shape, apply, mask_of, paste, place
from zoo_attack.robustness import answers, images_of, network_of

Progress = Callable[[int, int], None]

_PRINTED = 512
"""Pixels a side, at least, of a patch that is written as a picture: its own pixels are repeated."""


class Success(Measured, frozen=True, kw_only=True, tag_field="kind", tag="attack_patch"):
    """The number of ``n`` images of other classes a network classifies as the ``target``.

    ``rate`` is in per cent with the patch, with Wilson's 95% interval, and ``without`` it; ``top1`` is the accuracy
    with it. ``area`` is the patch's mean fraction of an image.
    """

    target: int
    fooled: int
    rate: float
    interval: tuple[float, float]
    without: float
    top1: float
    area: float
    ranges: Ranges
    seed: int


def train_patch(
    models: str | nn.Module | Sequence[str | nn.Module],
    data: str | Path | ImageSet,
    target: int,
    *,
    split: str = "train",
    shape: Shape = "circle",
    ranges: Ranges | None = None,
    side: int | None = None,
    steps: int = 500,
    batch_size: int = 32,
    lr: float = 0.05,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
    command: str = "",
) -> Patch:
    """Trains a patch that makes networks say one class.

    Adam minimises the mean of the networks' cross-entropies. Each step takes a batch of images of other classes, and
    places the patch on them at random. Pixels start at mid-grey and stay in [0, 1]. Brown et al. 2017, section 2.

    Args:
        models: Names, or networks that :func:`zoo.create` returned, one or several, with input of one size.
        data: A data set's name or path, or its images.
        target: The class that the networks should say.
        split: The split to load, if ``data`` is not images.
        shape: ``circle`` or ``square``.
        ranges: How the patch is placed. By default ``Ranges()``.
        side: The patch's own resolution. By default its largest in an image.
        steps: The number of steps.
        batch_size: Images in a step.
        lr: Learning rate.
        seed: Decides images and places.
        device: Where to run. By default where the networks are.
        progress: Called with (steps done, steps in all).
        command: The command line to write into the patch.

    Returns:
        The patch.

    Raises:
        SpecError: A setting is not possible, or the networks prepare images differently.
        AttackError: A network passes no gradient to its input.
        DataError: There is no such class, or there are no images of others.

    Example:
        >>> import zoo
        >>> patch = zoo.attack.train_patch("resnet20.digits", "digits", target=3, steps=2, batch_size=8)
        >>> patch.origin.target_name
        '3'
    """
    ranges = ranges or Ranges()
    if min(steps, batch_size) < 1 or not lr > 0:
        raise SpecError(f"steps = {steps}, batch_size = {batch_size}, lr = {lr}: expected more than 0.")
    networks = [network_of(model, device) for model in ([models] if isinstance(models, str | nn.Module) else models)]
    preprocess = _common(networks)
    images = images_of(networks[0], data, split)
    for network in networks[1:]:
        check_classes(network, images)
    others = _of_other_classes(images, target)
    channels, height, width = preprocess.input_size
    side = side or max(1, round(ranges.scale[1] * min(height, width)))
    mask = mask_of(shape, side)
    generator = torch.Generator().manual_seed(seed)
    transform = PixelTransform(preprocess)
    keep_freed_memory()
    with ExitStack() as stack:
        pixel_models = [stack.enter_context(under_attack(network)) for network in networks]
        lies_on = pixel_models[0].device
        pixels = torch.full((channels, side, side), 0.5, device=lies_on, requires_grad=True)
        optimizer = torch.optim.Adam([pixels], lr=lr)
        for step in range(steps):
            chosen = others[torch.randint(len(others), (batch_size,), generator=generator)]
            placement = place(ranges, batch_size, (height, width), shape, generator)
            batch = paste(pixels, mask.to(lies_on), transform.take(images, chosen).to(lies_on), placement)
            loss = torch.stack([_loss(pixel_model, batch, target) for pixel_model in pixel_models]).mean()
            pixels.grad = gradient(loss, pixels)
            optimizer.step()
            with torch.no_grad():
                pixels.clamp_(0, 1)
            if progress is not None:
                progress(step + 1, steps)
    origin = Origin(
        target=target,
        target_name=images.classes[target],
        weights=tuple(weights_name(network) or info_of(network).model.name for network in networks),
        data=images.name,
        split=images.split,
        fingerprint=images.fingerprint if images.pixels is not None else "",
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        versions=versions(),
        command=command,
    )
    return Patch(pixels.detach().cpu(), mask, ranges, origin)


def success(
    patch: Patch,
    model: str | nn.Module,
    data: str | Path | ImageSet,
    *,
    target: int | None = None,
    split: str = "test",
    ranges: Ranges | None = None,
    limit: int | None = None,
    batch_size: int = 256,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
    command: str = "",
) -> Success:
    """Measures how often a network says a patch's class for images of other classes, once the patch is on them.

    Args:
        patch: The patch.
        model: A name, or a network that :func:`zoo.create` returned. A name without a tag means the model's default
            weights.
        data: A data set's name or path, or its images.
        target: The class to count. By default the one that the patch was trained for.
        split: The split to load, if ``data`` is not images.
        ranges: How the patch is placed. By default as it was trained.
        limit: How many images to take, at equal distances from the whole split. By default all.
        batch_size: Images per forward pass.
        seed: Decides the random places.
        device: Where to run. By default where the network is.
        progress: Called with (images done, images in all).
        command: The command line to write into the result.

    Returns:
        The rate with its 95% interval, and the rate without the patch.

    Raises:
        SpecError: The patch was trained for no class, and there is no ``target``.
        DataError: There is no such class, or there are no images of others.

    Example:
        >>> import zoo
        >>> patch = zoo.attack.train_patch("resnet20.digits", "digits", target=3, steps=2, batch_size=8)
        >>> 0 <= zoo.attack.success(patch, "resnet20.digits", "digits", limit=50).rate <= 100
        True
    """
    target = patch.origin.target if target is None else target
    if target < 0:
        raise SpecError("This patch has no target class.", hint="Set it with target=NUMBER.")
    network = network_of(model, device)
    images = images_of(network, data, split, limit)
    images = images.subset(_of_other_classes(images, target), images.split)
    ranges = ranges or patch.ranges
    patch = Patch(patch.pixels, patch.mask, ranges, patch.origin)
    streamed = Fingerprint() if images.pixels is None else None
    fooled = fooled_without = right = done = 0
    area = 0.0
    with under_attack(network) as pixel_model:
        for number, (pixels, labels) in enumerate(
            batches(images, PixelTransform(info_of(network).preprocess), batch_size, streamed)
        ):
            draws = seed + number
            patched = answers(pixel_model, apply(patch, pixels, seed=draws).to(pixel_model.device)).cpu()
            fooled += int((patched == target).sum())
            right += int((patched == labels).sum())
            fooled_without += int((answers(pixel_model, pixels.to(pixel_model.device)).cpu() == target).sum())
            white = Patch(torch.ones_like(patch.pixels), patch.mask, patch.ranges)
            area += float(apply(white, torch.zeros_like(pixels), seed=draws).mean((1, 2, 3)).sum())
            done += len(labels)
            if progress is not None:
                progress(done, len(images))
    low, high = wilson(fooled, done)
    return Success(
        **provenance(network, images, done, streamed, command),
        target=target,
        fooled=fooled,
        rate=100 * fooled / done,
        interval=(100 * low, 100 * high),
        without=100 * fooled_without / done,
        top1=100 * right / done,
        area=area / done,
        ranges=ranges,
        seed=seed,
    )


def examples(patch: Patch, model: nn.Module, images: ImageSet, scored: Success, count: int) -> tuple[Tensor, list[str]]:
    """Returns ``count`` images of other classes with ``patch`` on them, B C H W, and the predictions of ``model``."""
    chosen = thin(images.subset(_of_other_classes(images, scored.target), images.split), count)
    pixels = PixelTransform(info_of(model).preprocess).take(chosen, torch.arange(len(chosen)))
    patched = apply(Patch(patch.pixels, patch.mask, scored.ranges), pixels, seed=scored.seed)
    with under_attack(model) as pixel_model:
        predicted = answers(pixel_model, patched.to(pixel_model.device)).tolist()
    return patched, [images.classes[index] if index < len(images.classes) else str(index) for index in predicted]


def write(scored: Success, patch: Patch, images: ImageSet, file: Path) -> None:
    """Writes ``scored`` to ``file`` as JSON, with the name of the target and the patch as a WebP file to print."""
    target = images.classes[scored.target] if scored.target < len(images.classes) else ""
    picture = opaque(patch.pixels)
    picture[3] = patch.mask
    times = -(-_PRINTED // picture.shape[1])
    picture = picture.repeat_interleave(times, 1).repeat_interleave(times, 2)
    about = msgspec.to_builtins(scored) | {"target_name": target, "tile": [*picture.shape[1:]], "sheet": webp(picture)}
    storage.replace(file, msgspec.json.format(msgspec.json.encode(about), indent=1) + b"\n")


def _common(networks: Sequence[nn.Module]) -> Preprocess:
    """Returns the preprocessing for all ``networks``, which must have the same input size."""
    preprocesses = [info_of(network).preprocess for network in networks]
    if not preprocesses:
        raise SpecError("No networks to train a patch for.")
    if len({preprocess.input_size for preprocess in preprocesses}) > 1:
        sizes = ", ".join(str(preprocess.input_size) for preprocess in preprocesses)
        raise SpecError(f"A patch needs networks with the same input size, got {sizes}.")
    return preprocesses[0]


def _of_other_classes(images: ImageSet, target: int) -> Tensor:
    """Returns the numbers of images that are not of class ``target``, int64."""
    if not 0 <= target < len(images.classes):
        raise DataError(f"Target {target} is not a class of {images.name}, which has {len(images.classes)}.")
    others = (images.labels != target).nonzero().flatten()
    if not len(others):
        raise DataError(f"All images of {images.name}/{images.split} are of the target's class.")
    return others


def _loss(pixel_model: PixelModel, images: Tensor, target: int) -> Tensor:
    logits = pixel_model(images.contiguous(memory_format=torch.channels_last))
    if target >= logits.shape[1]:
        raise DataError(f"Target {target} for a network of {logits.shape[1]} classes.")
    return F.cross_entropy(logits, torch.full((len(images),), target, device=logits.device))

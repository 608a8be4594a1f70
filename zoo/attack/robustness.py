"""Robust accuracy: how often a network is still right when each image is attacked within epsilon."""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from zoo import data as datasets
from zoo.attack.gradient import draw, perturb_batch
from zoo.attack.method import Method, MethodName
from zoo.attack.pixel_model import PixelModel, PixelTransform, check_labels, under_attack
from zoo.creation import create_trained, info_of
from zoo.data import Fingerprint, ImageSet
from zoo.errors import DataError, SpecError
from zoo.evaluation import batches, check_classes, versions
from zoo.evaluation.interval import wilson
from zoo.system.malloc import keep_freed_memory


class Point(msgspec.Struct, frozen=True):
    """``correct`` of the images stay right within ``epsilon``: ``accuracy`` per cent, with Wilson's 95% interval."""

    epsilon: float
    correct: int
    accuracy: float
    interval: tuple[float, float]


class Curve(msgspec.Struct, frozen=True):
    """How one network's accuracy falls under one attack, and all it takes to measure it again.

    ``fingerprint`` names the ``n`` images that were attacked, ``clean`` of which the network has right.
    """

    model: str
    weights: str
    dataset: str
    split: str
    fingerprint: str
    n: int
    clean: int
    method: Method
    points: tuple[Point, ...]
    batch_size: int
    device: str
    seconds: float
    versions: dict[str, str]
    command: str = ""


def curve(
    model: str | nn.Module,
    data: str | Path | ImageSet,
    method: MethodName | Method,
    epsilons: Iterable[float],
    *,
    split: str = "test",
    weights: str | Path | None = None,
    limit: int | None = None,
    batch_size: int = 128,
    device: torch.device | str | None = None,
    progress: Callable[[int, int], None] | None = None,
    command: str = "",
) -> Curve:
    """The accuracy of ``model`` on ``data`` attacked by ``method`` within each of ``epsilons``, pixels in [0, 1].

    ``model`` and ``data`` are given by name or as values; a name without a tag means its default weights.
    An image counts where the network is right without the attack and with it; those that it has wrong
    anyway are not attacked. ``limit`` takes so many images at equal distances from the whole split.
    Chance depends on the method's seed and on ``batch_size``, and is the same for each epsilon.
    ``progress`` is called with (images done, images in all). Raises :class:`zoo.AttackError` where the method
    does not apply to the network, :class:`zoo.DataError` where the labels are not its classes.
    """
    method = method if isinstance(method, Method) else Method(name=method)
    epsilons = sorted(set(epsilons))
    if not epsilons or not 0 <= epsilons[0] <= epsilons[-1] < float("inf"):
        raise SpecError(f"epsilons {epsilons} are invalid: expected one or more finite numbers of at least 0.")
    if isinstance(model, str):
        model = create_trained(model, weights=weights)
    info = info_of(model)
    images = thin(data if isinstance(data, ImageSet) else datasets.load(data, split), limit)
    check_classes(model, images)
    if device is not None:
        model.to(device)
    keep_freed_memory()
    streamed = Fingerprint() if images.pixels is None else None
    correct = dict.fromkeys(epsilons, 0)
    clean = done = 0
    started = time.perf_counter()
    with under_attack(model) as pixel_model:
        generator = torch.Generator().manual_seed(method.seed)
        for pixels, labels in batches(images, PixelTransform(info.preprocess), batch_size, streamed):
            pixels, labels = pixels.to(pixel_model.device), labels.to(pixel_model.device)
            check_labels(pixel_model, pixels, labels)
            noise = draw(method, pixels.shape, generator)
            is_right = answers(pixel_model, pixels) == labels
            clean += int(is_right.sum())
            for epsilon in epsilons if is_right.any() else ():
                changed = perturb_batch(
                    pixel_model,
                    pixels[is_right],
                    labels[is_right],
                    epsilon,
                    method,
                    None if noise is None else noise[is_right.to(noise.device)],
                )
                correct[epsilon] += int((answers(pixel_model, changed) == labels[is_right]).sum())
            done += len(labels)
            if progress is not None:
                progress(done, len(images))
    return Curve(
        model=info.model.name,
        weights=name_of(model),
        dataset=images.name,
        split=images.split,
        fingerprint=images.fingerprint if streamed is None else str(streamed),
        n=done,
        clean=clean,
        method=method,
        points=tuple(_point(epsilon, count, done) for epsilon, count in correct.items()),
        batch_size=batch_size,
        device=str(pixel_model.device),
        seconds=time.perf_counter() - started,
        versions=versions(),
        command=command,
    )


def thin(images: ImageSet, limit: int | None) -> ImageSet:
    """``limit`` of ``images`` at equal distances, so that of a set sorted by class there are all; all for None."""
    if limit is None or limit >= len(images):
        return images
    if limit < 1:
        raise DataError(f"limit = {limit} images: expected at least 1.")
    return images.subset([place * len(images) // limit for place in range(limit)], images.split)


def answers(model: PixelModel, images: Tensor) -> Tensor:
    """The predicted class of each image, int64 B."""
    with torch.no_grad():
        logits: Tensor = model(images.contiguous(memory_format=torch.channels_last))
    return logits.argmax(dim=1)


def name_of(model: nn.Module) -> str:
    """The name of the weights' manifest entry, else their file, else nothing: such a network is not trained."""
    info = info_of(model)
    return info.weights.name if info.weights is not None else str(info.file or "")


def write(curves: Sequence[Curve], file: Path) -> None:
    """Writes ``curves`` to ``file`` as JSON, whole or not at all; raises :class:`zoo.StorageError`."""
    from zoo.system import storage

    storage.replace(file, msgspec.json.format(msgspec.json.encode(curves), indent=2) + b"\n")


def read(file: Path) -> list[Curve]:
    """The curves that :func:`write` wrote; raises :class:`DataError` for any other file."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[Curve])
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(
            f"{file} is not a curves file: {error}.", hint="zoo attack curve NAME --data DATA -o FILE.json creates one."
        ) from None


def _point(epsilon: float, correct: int, n: int) -> Point:
    low, high = wilson(correct, n)
    return Point(epsilon, correct, 100 * correct / n, (100 * low, 100 * high))


def as_document(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """``curves`` as plain values, for a JSON document."""
    documents: list[dict[str, Any]] = msgspec.to_builtins(curves)
    return documents

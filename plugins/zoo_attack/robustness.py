"""Robust accuracy: the accuracy on images that are attacked within epsilon."""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from zoo import data as datasets
from zoo.data import Fingerprint, ImageSet
from zoo.data.image_set import thin
from zoo.errors import DataError, SpecError
from zoo.evaluation import batches, check_classes
from zoo.evaluation.score import Measured, provenance
from zoo.loading.create import as_network, info_of
from zoo.statistics import wilson
from zoo.system import storage
from zoo.system.machine import keep_freed_memory
from zoo.training.perturbation import PixelModel, PixelTransform, check_labels, draw, under_attack
from zoo_attack.gradient import perturb_batch
from zoo_attack.method import Method


class Point(msgspec.Struct, frozen=True):
    """``correct`` images stay correct within ``epsilon``: ``accuracy`` in per cent, with Wilson's 95% interval."""

    epsilon: float
    correct: int
    accuracy: float
    interval: tuple[float, float]


class Curve(Measured, frozen=True, kw_only=True, tag_field="kind", tag="attack_curve"):
    """The accuracy of one network under one attack over epsilon, with everything needed to measure it again.

    All ``n`` images were attacked, ``clean`` of which are correct without an attack.
    """

    clean: int
    method: Method
    points: tuple[Point, ...]
    batch_size: int
    device: str
    seconds: float


def curve(
    model: str | nn.Module,
    data: str | Path | ImageSet,
    method: str | Method,
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
    """Measures the accuracy of a network under an attack, for several radii.

    An image counts if the network is right both with and without the attack. Random choices depend on the method's seed
    and on ``batch_size``, and are the same for each radius.

    Args:
        model: A name, or a network that :func:`zoo.create` returned. A name without a tag means the model's default
            weights.
        data: A data set's name or path, or its images.
        method: The attack, by name or with its settings.
        epsilons: The radii, in units of [0, 1].
        split: The split to load, if ``data`` is not images.
        weights: A local safetensors file, instead of the weights that a name means.
        limit: How many images to take, at equal distances from the whole split. By default all.
        batch_size: Images per forward and backward pass.
        device: Where to run. By default where the network is.
        progress: Called with (images done, images in all).
        command: The command line to write into the result.

    Returns:
        For each radius the accuracy with its 95% interval.

    Raises:
        SpecError: No radii, or one that is not a finite number of at least 0.
        AttackError: The attack does not apply to the network.
        DataError: The labels are not among the network's classes.
        UnknownNameError: There is no such model, data set or attack.
        PluginError: A plugin's attack fails, or returns something else than images.

    Example:
        >>> import zoo
        >>> curve = zoo.attack.curve("resnet20.digits", "digits", "fgsm", [0, 0.1, 0.3], limit=50)
        >>> [point.epsilon for point in curve.points]
        [0, 0.1, 0.3]
        >>> curve.points[0].accuracy > curve.points[2].accuracy
        True
    """
    method = method if isinstance(method, Method) else Method(name=method)
    epsilons = sorted(set(epsilons))
    if not epsilons or not 0 <= epsilons[0] <= epsilons[-1] < float("inf"):
        raise SpecError(f"epsilons {epsilons} are invalid: expected one or more finite numbers of at least 0.")
    model = network_of(model, device, weights=weights)
    images = images_of(model, data, split, limit)
    keep_freed_memory()
    streamed = Fingerprint() if images.pixels is None else None
    correct = dict.fromkeys(epsilons, 0)
    clean = done = 0
    started = time.perf_counter()
    with under_attack(model) as pixel_model:
        generator = torch.Generator().manual_seed(method.seed)
        for pixels, labels in batches(images, PixelTransform(info_of(model).preprocess), batch_size, streamed):
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
        **provenance(model, images, done, streamed, command),
        clean=clean,
        method=method,
        points=tuple(_point(epsilon, count, done) for epsilon, count in correct.items()),
        batch_size=batch_size,
        device=str(pixel_model.device),
        seconds=time.perf_counter() - started,
    )


def network_of(
    model: str | nn.Module, device: torch.device | str | None, weights: str | Path | None = None
) -> nn.Module:
    """Returns the network ``model``, a module or a name, on ``device`` if given."""
    network = as_network(model, weights=weights)
    return network if device is None else network.to(device)


def images_of(network: nn.Module, data: str | Path | ImageSet, split: str, limit: int | None = None) -> ImageSet:
    """Returns ``limit`` images of ``data``, a set or a name; raises :class:`DataError` if ``network`` has other
    classes.
    """
    images = thin(data if isinstance(data, ImageSet) else datasets.load(data, split), limit)
    return check_classes(network, images)


def answers(model: PixelModel, images: Tensor) -> Tensor:
    """Returns the predicted class of each image, int64 B."""
    with torch.no_grad():
        logits: Tensor = model(images.contiguous(memory_format=torch.channels_last))
    return logits.argmax(dim=1)


def write(curves: Sequence[Curve], file: Path) -> None:
    """Writes ``curves`` to ``file`` as JSON atomically; raises :class:`zoo.StorageError`."""
    from zoo.system import storage

    storage.replace(file, msgspec.json.format(msgspec.json.encode(curves), indent=2) + b"\n")


def read(file: Path) -> list[Curve]:
    """Reads curves from :func:`write`; raises :class:`DataError` for any other file."""
    try:
        return msgspec.json.decode(storage.read_bounded(file, 1 << 28), type=list[Curve])
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(
            f"{file} is not a curves file: {error}.", hint="zoo attack curve NAME --data DATA -o FILE.json creates one."
        ) from None


def _point(epsilon: float, correct: int, n: int) -> Point:
    low, high = wilson(correct, n)
    return Point(epsilon, correct, 100 * correct / n, (100 * low, 100 * high))


def as_document(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """Returns ``curves`` as plain values, for a JSON document."""
    documents: list[dict[str, Any]] = msgspec.to_builtins(curves)
    return documents

"""Scores with intervals: what a measurement records, the counts of right answers, and what follows from them."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, TypeVar, cast

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.data.classes import names_of_classes, number_of
from zoo.data.image_set import Fingerprint, Images, ImageSet
from zoo.data.preprocess import Transform
from zoo.data.readers.torch_dataset import PreparedBatches
from zoo.errors import DataError
from zoo.evaluation.forward import batches, device_of, precision_of, require_classes, require_logits, run
from zoo.loading import is_as_loaded
from zoo.spec import Preprocess
from zoo.statistics import mean_interval, wilson
from zoo.system import distributed
from zoo.system.distributed import Processes
from zoo.system.machine import versions

Data = TypeVar("Data", bound=ImageSet | PreparedBatches)

OF_LABELS = "labels sha256:"
"""The beginning of the fingerprint of labels alone."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that every measurement records.

    ``weights`` is the name of the manifest's entry, else the file, else empty. ``fingerprint`` names the pixels and
    labels of the ``n`` images, or the labels alone (:func:`fingerprint_of_labels`).
    """

    model: str
    weights: str
    dataset: str
    split: str
    fingerprint: str
    n: int
    versions: dict[str, str]
    command: str = ""


def provenance(
    model: nn.Module, data: ImageSet | PreparedBatches, n: int, streamed: Fingerprint | None = None, command: str = ""
) -> dict[str, Any]:
    """Returns the fields of :class:`Measured`; ``streamed`` has seen the pixels of images that are not resident."""
    info = getattr(model, "zoo_info", None)
    return {
        "model": info.model.name if info is not None else type(model).__name__,
        "weights": weights_name(model),
        "dataset": data.name,
        "split": data.split,
        "fingerprint": fingerprint_of(data, streamed),
        "n": n,
        "versions": versions(),
        "command": command,
    }


def weights_name(model: nn.Module) -> str:
    """Returns the name of the manifest's entry, else the file; nothing if the network's tensors are others."""
    info = getattr(model, "zoo_info", None)
    if info is None or (info.weights is None and info.file is None):
        return ""
    return info.name if is_as_loaded(model) else ""


def fingerprint_of_labels(data: ImageSet) -> str:
    """Returns the fingerprint of labels alone, for images whose pixels were not all read.

    Args:
        data: The images.

    Returns:
        ``labels sha256:`` and 64 hexadecimal digits, over the labels in order.

    Example:
        >>> import zoo
        >>> zoo.evaluation.fingerprint_of_labels(zoo.data.load("digits", "test"))
        'labels sha256:...'
    """
    return f"{OF_LABELS}{sha256(data.labels.numpy().tobytes()).hexdigest()}"


def fingerprint_of(data: ImageSet | PreparedBatches, streamed: Fingerprint | None = None) -> str:
    """Returns the fingerprint of pixels and labels if the pixels were read, as ``streamed`` or resident ones; else of
    labels alone."""
    if isinstance(data, PreparedBatches):
        return data.fingerprint
    if streamed is not None:
        return str(streamed)
    return data.fingerprint if data.pixels is not None else fingerprint_of_labels(data)


ROUNDING = {"float32": 1e-5, "cuda/float32": 1e-3, "bfloat16": 3e-2}
"""The difference of a logit on another machine, relative to the largest of its image, by dtype or ``device/dtype``.

Those of the weights that ship lie within 4e-6 of onnxruntime's; convolutions of a GPU round to the ten bits of TF32.
"""

TOP = 5
"""Classes of which one must be right for top-5. It says nothing about fewer than six classes."""


def rounding_of(device: torch.device | str, precision: str) -> float:
    """Returns how far a logit may differ on another machine, relative to the largest of its image."""
    return ROUNDING.get(f"{torch.device(device).type}/{precision}", ROUNDING[precision])


def are_close(logits: Tensor, rounding: float) -> Tensor:
    """Returns whether the two best logits of each image, float32 B K, lie within ``rounding``, bool B."""
    best = logits.topk(min(2, logits.shape[1]), dim=1).values
    is_near = best[:, 0] - best[:, -1] <= 2 * rounding * logits.abs().amax(dim=1)
    return is_near if logits.shape[1] > 1 else torch.zeros_like(is_near)


class Tally:
    """Takes in a network's logits, or its classes, for images whose labels number ``classes`` classes.

    ``rounding`` is that of the logits, relative to the largest of an image.
    """

    def __init__(self, classes: int, rounding: float = ROUNDING["float32"]) -> None:
        self.done = 0
        self._rounding = rounding
        self._close = 0
        self._of_class, self._right_of_class = torch.zeros(2, classes, dtype=torch.int64)
        self._right5 = 0
        self._loss = 0.0
        self._has_top5 = self._has_loss = False

    def add_logits(self, logits: Tensor, labels: Tensor) -> None:
        """Takes in logits, float32 B K, of images with these labels, int64 B."""
        classes = logits.shape[1]
        self._count(logits.topk(min(TOP, classes), dim=1).indices, labels, classes > TOP)
        self._loss += float(F.cross_entropy(logits.double(), labels, reduction="sum"))
        self._has_loss = True
        self._close += int(are_close(logits, self._rounding).sum())

    def add_classes(self, ranked: Tensor, labels: Tensor) -> None:
        """Takes in the classes of images, int64 B k, the likeliest first. Of fewer than five, there is no top-5."""
        self._count(ranked[:, :TOP], labels, ranked.shape[1] >= TOP and len(self._of_class) > TOP)

    def _count(self, ranked: Tensor, labels: Tensor, has_top5: bool) -> None:
        is_right = ranked == labels[:, None]  # B k
        self._of_class += labels.bincount(minlength=len(self._of_class))
        self._right_of_class += labels[is_right[:, 0]].bincount(minlength=len(self._of_class))
        self._right5 += int(is_right.any(dim=1).sum())
        self._has_top5 = has_top5
        self.done += len(labels)

    def share(self, group: Processes) -> None:
        """Makes the counts of all processes those of each."""
        counts = (self._close, self._right5, *self._of_class.tolist(), *self._right_of_class.tolist())
        self._loss, close, right5, *of_classes = group.totals(self._loss, *counts)
        self._close, self._right5 = int(close), int(right5)
        self._of_class, self._right_of_class = torch.tensor(of_classes).long().view(2, -1)
        self.done = int(self._of_class.sum())
        # A process may have got no image.
        self._has_top5, self._has_loss = group.any(self._has_top5), group.any(self._has_loss)

    def scores(self) -> dict[str, Any]:
        """Returns the fields of a report that follow from the counts."""
        right = int(self._right_of_class.sum())
        low, high = wilson(right, self.done)
        has_images = self._of_class > 0
        of_each = self._right_of_class[has_images], self._of_class[has_images]
        mean_low, mean_high = mean_interval(*(counts.tolist() for counts in of_each))
        return {
            "correct": right,
            "top1": 100 * right / self.done,
            "mean_class": 100 * float((of_each[0].double() / of_each[1]).mean()),
            "mean_class_interval": (100 * mean_low, 100 * mean_high),
            "top5": 100 * self._right5 / self.done if self._has_top5 else None,
            "interval": (100 * low, 100 * high),
            "close": self._close if self._has_loss else None,
            "loss": self._loss / self.done if self._has_loss else None,
        }


log = logging.getLogger("zoo")


class Report(Measured, frozen=True, kw_only=True):
    """The score of one network on one split. ``top1``, ``top5`` and ``interval`` are in per cent.

    ``interval`` is Wilson's 95% interval of top-1: where the score would lie on other images of the same kind.
    ``mean_class`` is the mean over classes of the share of each that is right, of those that have images, and
    ``mean_class_interval`` its 95% interval by the bootstrap within classes. ``close`` counts the images whose two best
    logits lie within the rounding of another machine; None without logits. ``top5`` is None for fewer than six
    classes, where it says nothing; ``loss`` is the mean cross-entropy in nats, None if an evaluate hook returned
    classes alone. ``stated_by`` is the evaluate hook, of a plugin for contract 1, that saw the labels: the scores are
    its own account, not a measurement. It is empty for scores that were measured.
    """

    correct: int
    top1: float
    mean_class: float
    top5: float | None
    interval: tuple[float, float]
    loss: float | None
    images_per_s: float
    seconds: float
    device: str
    dtype: str
    stated_by: str = ""
    mean_class_interval: tuple[float, float] | None = None
    close: int | None = None


def evaluate(
    model: nn.Module,
    data: ImageSet | PreparedBatches,
    *,
    preprocess: Preprocess,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    compile: bool = False,
    progress: Callable[[int, int], None] | None = None,
    take: Callable[[Tensor], object] | None = None,
    command: str = "",
) -> Report:
    """Scores a network on all images of a data set: the default evaluate hook.

    Convolutions are folded with the normalisation that follows them, unless that changes the outputs for the first
    images by more than rounding does. In processes that a launcher started, all must call it; each scores a part of the
    images, and all get the report on the whole. If the images are not in memory, the fingerprint is then that of the
    labels alone.

    Args:
        model: The network. Its modes are put back afterwards.
        data: The images, or batches that are prepared already.
        preprocess: How images are prepared.
        batch_size: Images per batch. A processor computes on fewer photographs at a time, which is faster.
        device: Where to run. By default where the network is.
        dtype: ``"float32"`` or ``"bfloat16"``, or torch's types of these names. By default float32.
        compile: Compile the network with ``torch.compile``, which takes a while and pays for many images.
        progress: Called with (images done, images in all), of this process.
        take: Called with the logits of each batch, float32 B K on the CPU, of this process.
        command: The command line to write into the report.

    Returns:
        The report.

    Raises:
        DataError: A label is not among the network's classes, or the images have no labels.
        WeightsError: Outputs are not B C, or contain NaN or infinity.
        SpecError: Another ``dtype``.

    Example:
        >>> import zoo
        >>> model, digits = zoo.create("resnet20.digits"), zoo.data.load("digits", "test")
        >>> report = zoo.evaluation.evaluate(model, digits, preprocess=model.zoo_info.preprocess)
        >>> report.top1 > 95
        True
    """
    if isinstance(data, Images):
        raise DataError(
            f"{data.name}/{data.split} has no labels here, so there is no score.",
            hint="An evaluate hook returns zoo.evaluation.logits(...), which the core scores.",
        )
    precision = precision_of(dtype)
    group = distributed.current()
    device = group.device(device if device is not None else device_of(model))
    if isinstance(data, PreparedBatches):
        total, streamed, source = data.total, None, iter(data)
        if group.count > 1:
            raise DataError("A data loader is scored by one process.", hint="Pass the data set instead.")
    else:
        share = group.share(len(data))
        total = len(share)
        streamed = Fingerprint() if data.pixels is None and group.count == 1 else None
        source = batches(data, Transform(preprocess), batch_size, streamed, share)
    tally = Tally(len(data.classes), rounding_of(device, precision))

    def count(logits: Tensor, labels: Tensor) -> None:
        require_logits(logits)
        require_classes(logits, labels, data)
        tally.add_logits(logits, labels)
        if take is not None:
            take(logits)
        if progress is not None:
            progress(tally.done, total)

    started = time.perf_counter()
    run(model, source, total, device, precision, compile, count)
    tally.share(group)
    scores, seconds = tally.scores(), time.perf_counter() - started
    return Report(
        **provenance(model, data, tally.done, streamed, command),
        **scores,
        images_per_s=tally.done / seconds,
        seconds=seconds,
        device=str(device),
        dtype=precision,
    )


def check_classes(model: nn.Module, data: Data) -> Data:
    """Checks that a network knows the classes of a data set, and numbers images as the network does.

    Classes that are a part of the network's, or stand in another order, are found by name: by the names that
    the network has for its classes or, for ImageNet's, by WordNet id, such as ``n01440764``. A space may be written
    as ``_``. If the names are others, labels are taken as the network's numbers, with a warning.

    Args:
        model: The network.
        data: The images.

    Returns:
        The images, with labels that number the network's classes.

    Raises:
        DataError: The network is known to know none of the classes, or more or fewer of other names.

    Example:
        >>> import zoo
        >>> digits = zoo.evaluation.check_classes(zoo.create("resnet20.digits"), zoo.data.load("digits"))
        >>> len(digits.classes)
        10
    """
    info = getattr(model, "zoo_info", None)
    if info is None or not (info.classes or info.class_names):
        return data
    names: tuple[str, ...] = info.class_names or names_of_classes(info.classes)
    if names == data.classes:
        return data
    knows = f"{info.name} knows the classes of {info.classes or 'its training'} ({_some(names)})"
    numbers = [number_of(name, names, info.classes) for name in data.classes]
    others = [name for name, number in zip(data.classes, numbers, strict=True) if number is None]
    if isinstance(data, ImageSet) and not others and len(set(numbers)) == len(numbers):
        if numbers == [*range(len(names))]:
            return data
        if len(numbers) < len(names):
            log.warning("%s has %d of the %s classes of %s", data.name, len(numbers), f"{len(names):,}", info.name)
        return cast("Data", replace(data, classes=names, labels=torch.tensor(numbers)[data.labels]))
    if info.classes == data.name and len(names) in (0, len(data.classes)):
        return data
    hint = "Give folders the network's names of classes, or train it for these: zoo train --init."
    has_other_count = isinstance(data, ImageSet) and names and len(names) != len(data.classes)
    if len(others) == len(data.classes) and (info.class_names or has_other_count):
        raise DataError(f"{knows}, none of which are in {data.name} ({_some(data.classes)}).", hint=hint)
    if has_other_count:
        raise DataError(f"{knows}, but not {_some(others)} of {data.name}.", hint=hint)
    log.warning("%s: its score on %s is meaningful only if labels have the same numbers", knows, data.name)
    return data


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:3], *(["..."] if len(names) > 3 else [])])

"""Scores with intervals."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.data.fingerprint import Fingerprint
from zoo.data.image_set import ImageSet
from zoo.data.prepared import PreparedBatches
from zoo.data.preprocess import Transform
from zoo.errors import DataError, SpecError, WeightsError
from zoo.evaluation.batching import batches
from zoo.evaluation.folding import folded
from zoo.evaluation.interval import wilson
from zoo.evaluation.measured import Measured, provenance
from zoo.evaluation.modes import in_eval_mode
from zoo.spec import Preprocess
from zoo.system import distributed
from zoo.system.malloc import keep_freed_memory

log = logging.getLogger("zoo")

_MANY = 64
"""Images for which it pays to fold a network."""


class Report(Measured, frozen=True, kw_only=True):
    """What one network scored on one split. ``top1``, ``top5`` and ``interval`` are in per cent.

    ``interval`` is Wilson's 95% interval of top-1; ``mean_class`` the mean over classes of the share of
    each that is right, of those that have images; ``top5`` is None for fewer than six classes, where it
    says nothing; ``loss`` is the mean cross-entropy in nats.
    """

    correct: int
    top1: float
    mean_class: float
    top5: float | None
    interval: tuple[float, float]
    loss: float
    images_per_s: float
    seconds: float
    device: str
    dtype: str


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
        batch_size: Images per forward pass.
        device: Where to run. By default where the network is.
        dtype: ``"float32"`` or ``"bfloat16"``, or torch's types of these names. By default float32.
        compile: Compile the network with ``torch.compile``, which takes a while and pays for many images.
        progress: Called with (images done, images in all), of this process.
        command: The command line to write into the report.

    Returns:
        The report.

    Raises:
        DataError: A label is not among the network's classes.
        WeightsError: Outputs are not B C, or contain NaN or infinity.
        SpecError: Another ``dtype``.

    Example:
        >>> import zoo
        >>> model, digits = zoo.create("resnet20.digits"), zoo.data.load("digits", "test")
        >>> report = zoo.evaluation.evaluate(model, digits, preprocess=model.zoo_info.preprocess)
        >>> report.top1 > 95
        True
    """
    precision = _precision(dtype)
    keep_freed_memory()
    group = distributed.current()
    device = group.device(device if device is not None else _device_of(model))
    model.to(device)
    if isinstance(data, PreparedBatches):
        total, streamed, source = data.total, None, iter(data)
        if group.count > 1:
            raise DataError("A data loader is scored by one process.", hint="Pass the data set instead.")
    else:
        part = group.share(len(data))
        total = len(part)
        streamed = Fingerprint() if data.pixels is None and group.count == 1 else None
        source = batches(data, Transform(preprocess), batch_size, streamed, part)
    right5 = classes = 0
    of_class, right_of_class = torch.zeros(2, len(data.classes), dtype=torch.int64)
    loss = 0.0
    ran: nn.Module | None = None
    started = time.perf_counter()
    with in_eval_mode(model), torch.inference_mode(), _autocast(device, precision):
        for images, labels in source:
            images = images.to(device, memory_format=torch.channels_last)
            ran = _for_inference(model, images[:2], total, compile) if ran is None else ran
            logits = ran(images).float().cpu()
            classes = _check_logits(logits, labels, data)
            ranked = logits.topk(min(5, classes), dim=1).indices == labels[:, None]  # B 5
            of_class += labels.bincount(minlength=len(data.classes))
            right_of_class += labels[ranked[:, 0]].bincount(minlength=len(data.classes))
            right5 += int(ranked.sum())
            loss += float(nn.functional.cross_entropy(logits.double(), labels, reduction="sum"))
            if progress is not None:
                progress(int(of_class.sum()), total)
    loss, *totals = group.totals(loss, right5, *of_class.tolist(), *right_of_class.tolist())
    right5, *counts = map(int, totals)
    of_class, right_of_class = torch.tensor(counts).view(2, -1)
    done, right = int(of_class.sum()), int(right_of_class.sum())
    has_top5 = group.any(classes > 5)  # a process may have got no image
    seconds = time.perf_counter() - started
    low, high = wilson(right, done)
    return Report(
        **provenance(model, data, done, streamed, command),
        correct=right,
        top1=100 * right / done,
        mean_class=100 * float((right_of_class.double() / of_class)[of_class > 0].mean()),
        top5=100 * right5 / done if has_top5 else None,
        interval=(100 * low, 100 * high),
        loss=loss / done,
        images_per_s=done / seconds,
        seconds=seconds,
        device=str(device),
        dtype=precision,
    )


def _for_inference(model: nn.Module, images: Tensor, count: int, compile: bool) -> nn.Module:
    """``model`` as it computes the same outputs for ``count`` images in less time; ``images`` are some of them."""
    if count >= _MANY:
        with torch.autocast(images.device.type, enabled=False):
            model = folded(model, images)
    return torch.compile(model) if compile else model  # type: ignore[return-value]  # a module as well


def check_classes(model: nn.Module, data: ImageSet | PreparedBatches) -> None:
    """Checks that a network knows classes of a data set.

    Logs a warning if it knows only some of them, or may number them otherwise.

    Args:
        model: The network.
        data: The images.

    Raises:
        DataError: The network is known to know none of the classes.

    Example:
        >>> import zoo
        >>> zoo.evaluation.check_classes(zoo.create("resnet20.digits"), zoo.data.load("digits"))
    """
    info = getattr(model, "zoo_info", None)
    if info is None or info.classes in ("", data.name) or info.class_names == data.classes:
        return
    if info.class_names and not set(info.class_names) & set(data.classes):
        raise DataError(
            f"{info.name} knows the classes of {info.classes} ({_some(info.class_names)}), none of which are in "
            f"{data.name} ({_some(data.classes)}).",
            hint="Use weights trained on this data set, or rename its classes to match.",
        )
    log.warning(
        "%s knows the classes of %s: its score on %s is meaningful only if labels have the same numbers",
        info.name,
        info.classes,
        data.name,
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:3], *(["..."] if len(names) > 3 else [])])


def _check_logits(logits: Tensor, labels: Tensor, data: ImageSet | PreparedBatches) -> int:
    """The number of classes, once outputs and labels are seen to fit."""
    if logits.ndim != 2:
        raise WeightsError(f"The network returns shape {tuple(logits.shape)}, expected (images, classes).")
    if not torch.isfinite(logits).all():
        raise WeightsError("The network's outputs contain NaN or infinity.")
    if int(labels.max()) >= logits.shape[1]:
        raise DataError(
            f"{data.name} has labels up to {int(labels.max())}, but the network has {logits.shape[1]} classes.",
            hint="Use weights trained on this data set, or train with its number of classes.",
        )
    return logits.shape[1]


def _precision(dtype: torch.dtype | str | None) -> Literal["bfloat16", "float32"]:
    match str(dtype or "float32").removeprefix("torch."):
        case "float32":
            return "float32"
        case "bfloat16":
            return "bfloat16"
    raise SpecError(f"dtype = {dtype!r}: expected float32 or bfloat16.")


def _autocast(device: torch.device, precision: str) -> Any:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def _device_of(model: nn.Module) -> torch.device:
    return next((tensor.device for tensor in model.state_dict().values()), torch.device("cpu"))

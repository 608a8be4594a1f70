"""Scores with intervals."""

import logging
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor, nn

from zoo.data.decode import to_pixels
from zoo.data.fingerprint import Fingerprint
from zoo.data.image_set import ImageSet
from zoo.data.preprocess import Transform
from zoo.errors import DataError, SpecError, WeightsError
from zoo.evaluation.interval import wilson
from zoo.spec import Preprocess
from zoo.system import distributed
from zoo.system.malloc import keep_freed_memory

log = logging.getLogger("zoo")

OF_LABELS = "labels sha256:"
"""How the fingerprint of labels alone begins."""


class Report(msgspec.Struct, frozen=True):
    """What one network scored on one split. ``top1``, ``top5`` and ``interval`` are in per cent.

    ``interval`` is Wilson's 95% interval of top-1; ``mean_class`` the mean over classes of the share of
    each that is right, of those that have images; ``top5`` is None for fewer than six classes, where it
    says nothing; ``loss`` is the mean cross-entropy in nats; ``fingerprint`` names the
    pixels and labels, or the labels alone (:func:`fingerprint_of_labels`).
    """

    model: str
    weights: str
    dataset: str
    split: str
    fingerprint: str
    n: int
    correct: int
    top1: float
    mean_class: float
    top5: float | None
    interval: tuple[float, float]
    loss: float
    images_per_s: float
    seconds: float
    versions: dict[str, str]
    device: str
    dtype: str
    command: str = ""


def evaluate(
    model: nn.Module,
    data: ImageSet,
    *,
    preprocess: Preprocess,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    progress: Callable[[int, int], None] | None = None,
    command: str = "",
) -> Report:
    """Scores ``model`` on all images of ``data``, prepared as ``preprocess`` says.

    Runs where the model lies unless a ``device`` is given, in float32 unless ``dtype`` asks for
    bfloat16 (``"bfloat16"``, ``torch.bfloat16``). ``progress`` is called with (images done, images in all).
    The modes of the model and of its modules come back as they were.

    Processes that a launcher started score a part of the images each, all call this, and all get the
    report on the whole. Of images that are not resident no process sees all pixels then, and the
    fingerprint is that of the labels. ``progress`` covers this process's part.

    Raises :class:`DataError` if labels are not among the model's
    classes, :class:`WeightsError` if outputs are not numbers, and :class:`SpecError` for another ``dtype``.
    """
    precision = _precision(dtype)
    keep_freed_memory()
    group = distributed.current()
    device = group.device(device if device is not None else _device_of(model))
    model.to(device)
    part = group.share(len(data))
    right5 = classes = 0
    of_class, right_of_class = torch.zeros(2, len(data.classes), dtype=torch.int64)
    loss = 0.0
    streamed = Fingerprint() if data.pixels is None and group.count == 1 else None
    started = time.perf_counter()
    with in_eval_mode(model), torch.inference_mode(), _autocast(device, precision):
        for images, labels in batches(data, Transform(preprocess), batch_size, streamed, part):
            images = images.to(device, memory_format=torch.channels_last)
            logits = model(images).float().cpu()
            classes = _check_logits(logits, labels, data)
            ranked = logits.topk(min(5, classes), dim=1).indices == labels[:, None]  # B 5
            of_class += labels.bincount(minlength=len(data.classes))
            right_of_class += labels[ranked[:, 0]].bincount(minlength=len(data.classes))
            right5 += int(ranked.sum())
            loss += float(nn.functional.cross_entropy(logits.double(), labels, reduction="sum"))
            if progress is not None:
                progress(int(of_class.sum()), len(part))
    loss, *totals = group.totals(loss, right5, *of_class.tolist(), *right_of_class.tolist())
    right5, *counts = map(int, totals)
    of_class, right_of_class = torch.tensor(counts).view(2, -1)
    done, right = int(of_class.sum()), int(right_of_class.sum())
    has_top5 = group.any(classes > 5)  # a process may have got no image
    seconds = time.perf_counter() - started
    low, high = wilson(right, done)
    info = getattr(model, "zoo_info", None)
    return Report(
        model=info.model.name if info is not None else type(model).__name__,
        weights=_weights_name(info),
        dataset=data.name,
        split=data.split,
        fingerprint=_fingerprint(data, streamed),
        n=done,
        correct=right,
        top1=100 * right / done,
        mean_class=100 * float((right_of_class.double() / of_class)[of_class > 0].mean()),
        top5=100 * right5 / done if has_top5 else None,
        interval=(100 * low, 100 * high),
        loss=loss / done,
        images_per_s=done / seconds,
        seconds=seconds,
        versions=versions(),
        device=str(device),
        dtype=precision,
        command=command,
    )


def check_classes(model: nn.Module, data: ImageSet) -> None:
    """Raises :class:`DataError` if ``model`` is known to know none of the classes of ``data``.

    Where it knows some of them, or calls them otherwise than a data set of another name does, a warning says so.
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


def batches(
    data: ImageSet,
    transform: Transform,
    batch_size: int,
    fingerprint: Fingerprint | None = None,
    images: range | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images, or only those numbered ``images``, in order, prepared: (float32 B C H W, int64 B).

    Images that are not resident are decoded in threads, a batch ahead; ``fingerprint`` then takes
    in their pixels, which saves decoding them again.
    """
    images = range(len(data)) if images is None else images
    parts = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    if data.pixels is not None:
        for part in parts:
            yield transform.batch(data.pixels[part.start : part.stop]), data.labels[part.start : part.stop]
        return

    def prepare(index: int) -> tuple[Tensor, Tensor]:
        image = data.image(index)
        return transform(image), to_pixels(image)

    if not parts:
        return
    with ThreadPoolExecutor() as pool:
        coming = pool.map(prepare, parts[0])
        for part, following in zip(parts, [*parts[1:], range(0)], strict=True):
            current, coming = coming, pool.map(prepare, following)
            inputs = []
            for index, (image, pixels) in zip(part, current, strict=True):
                inputs.append(image)
                if fingerprint is not None:
                    fingerprint.add(pixels[None], data.labels[index : index + 1])
            yield torch.stack(inputs), data.labels[part.start : part.stop]


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Puts ``model`` in eval mode and every module back into its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, is_training in modes:
            module.training = is_training


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Within it, ``model`` is in eval mode and its parameters are constants, whose gradients nobody asks for.

    Modes and ``requires_grad`` come back as they were, whatever happens inside; ``grad`` is never touched.
    """
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with in_eval_mode(model):
        try:
            model.requires_grad_(False)
            yield
        finally:
            for parameter, asks in flags:
                parameter.requires_grad_(asks)


def fingerprint_of_labels(data: ImageSet) -> str:
    """``labels sha256:<64 hex>`` over the labels in order: for images of which nobody has seen all pixels."""
    return f"{OF_LABELS}{sha256(data.labels.numpy().tobytes()).hexdigest()}"


def versions() -> dict[str, str]:
    """Of what took part in the numbers."""
    from importlib.metadata import version

    return {"zoo": version("zoo-vision"), "torch": str(torch.__version__), "python": platform.python_version()}


def _fingerprint(data: ImageSet, streamed: Fingerprint | None) -> str:
    if streamed is not None:
        return str(streamed)
    return data.fingerprint if data.pixels is not None else fingerprint_of_labels(data)


def _check_logits(logits: Tensor, labels: Tensor, data: ImageSet) -> int:
    """The number of classes, once outputs and labels are seen to fit."""
    if logits.ndim != 2:
        raise WeightsError(f"The network returns shape {tuple(logits.shape)}, expected (images, classes).")
    if not torch.isfinite(logits).all():
        raise WeightsError("The network's outputs contain NaN or infinity.")
    if int(labels.max()) >= logits.shape[1]:
        raise DataError(
            f"{data.name} has labels up to {int(data.labels.max())}, but the network has {logits.shape[1]} classes.",
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


def _weights_name(info: Any) -> str:
    """The name of the manifest's entry, else the file, else nothing."""
    weights, file = getattr(info, "weights", None), getattr(info, "file", None)
    return weights.name if weights is not None else str(file or "")

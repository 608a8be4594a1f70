"""Scores with intervals."""

import logging
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from zoo.data.fingerprint import Fingerprint
from zoo.data.image_set import Images, ImageSet
from zoo.data.prepared import PreparedBatches
from zoo.data.preprocess import Transform
from zoo.errors import DataError
from zoo.evaluation.batching import batches
from zoo.evaluation.forward import device_of, precision_of, require_classes, require_logits, run
from zoo.evaluation.measured import Measured, provenance
from zoo.evaluation.tally import Tally
from zoo.spec import Preprocess
from zoo.system import distributed

log = logging.getLogger("zoo")


class Report(Measured, frozen=True, kw_only=True):
    """What one network scored on one split. ``top1``, ``top5`` and ``interval`` are in per cent.

    ``interval`` is Wilson's 95% interval of top-1; ``mean_class`` the mean over classes of the share of
    each that is right, of those that have images; ``top5`` is None for fewer than six classes, where it
    says nothing; ``loss`` is the mean cross-entropy in nats, None if an evaluate hook returned classes alone.
    ``stated_by`` is the evaluate hook, of a plugin for contract 1, that saw the labels: the scores are its own account,
    not a measurement. It is empty for scores that were measured.
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
        part = group.share(len(data))
        total = len(part)
        streamed = Fingerprint() if data.pixels is None and group.count == 1 else None
        source = batches(data, Transform(preprocess), batch_size, streamed, part)
    tally = Tally(len(data.classes))

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

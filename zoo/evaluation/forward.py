"""A network's logits for the images of a data set, batch by batch."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn

from zoo.data.image_set import Images, ImageSet
from zoo.data.prepared import PreparedBatches
from zoo.data.preprocess import Transform
from zoo.errors import DataError, SpecError, WeightsError
from zoo.evaluation.batching import batches
from zoo.evaluation.modes import in_eval_mode
from zoo.evaluation.pieces import Pieces, Precision
from zoo.spec import Preprocess
from zoo.system import distributed
from zoo.system.malloc import keep_freed_memory

Labels = TypeVar("Labels")


def logits(
    model: nn.Module,
    data: Images | ImageSet,
    *,
    preprocess: Preprocess,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    compile: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Computes the logits of all images of a data set, in order: what an evaluate hook may return.

    The network runs as in :func:`zoo.evaluation.evaluate`. In processes that a launcher started, each computes a part
    of the images, and all get the logits of the whole.

    Args:
        model: The network. Its modes are put back afterwards.
        data: The images. Labels are not read.
        preprocess: How images are prepared.
        batch_size: Images per batch. A processor computes on fewer photographs at a time, which is faster.
        device: Where to run. By default where the network is.
        dtype: ``"float32"`` or ``"bfloat16"``, or torch's types of these names. By default float32.
        compile: Compile the network with ``torch.compile``, which takes a while and pays for many images.
        progress: Called with (images done, images in all), of this process.

    Returns:
        float32 N K on the CPU: one row for each image, one column for each class.

    Raises:
        WeightsError: Outputs are not B C, or contain NaN or infinity.
        SpecError: Another ``dtype``.

    Example:
        >>> import zoo
        >>> model, digits = zoo.create("resnet20.digits"), zoo.data.load("digits", "test")
        >>> zoo.evaluation.logits(model, digits, preprocess=model.zoo_info.preprocess).shape
        torch.Size([360, 10])
    """
    group = distributed.current()
    device = group.device(device if device is not None else device_of(model))
    part = group.share(len(data))
    images = data if isinstance(data, Images) else data.without_labels()
    source = batches(images, Transform(preprocess), batch_size, images=part)
    found: list[Tensor] = []

    def keep(output: Tensor, _: None) -> None:
        require_logits(output)
        found.append(output)
        if progress is not None:
            progress(min(len(found) * batch_size, len(part)), len(part))

    run(model, source, len(part), device, precision_of(dtype), compile, keep)
    own = torch.cat(found) if found else torch.empty(0, 0)
    if group.count == 1:
        return own
    classes, sharers = group.totals(own.shape[1], bool(found))
    whole = torch.zeros(len(data), int(classes / sharers), device=device)
    whole[part.start : part.stop] = own.to(device) if found else 0
    return group.sum(whole).cpu()


def run(
    model: nn.Module,
    source: Iterable[tuple[Tensor, Labels]],
    total: int,
    device: torch.device,
    precision: Precision,
    compile: bool,
    take: Callable[[Tensor, Labels], None],
) -> None:
    """Calls ``take`` with (outputs float32 on the CPU, labels) of each of the batches ``source`` of ``total`` images.

    The network is in eval mode and on ``device``.
    """
    keep_freed_memory()
    model.to(device)
    with in_eval_mode(model), Pieces(model, total, device, precision, compile) as pieces:
        for images, labels in source:
            take(pieces(images), labels)


def require_logits(outputs: Tensor) -> None:
    """Raises :class:`WeightsError` unless ``outputs`` are finite logits."""
    if outputs.ndim != 2:
        raise WeightsError(f"The network returns shape {tuple(outputs.shape)}, expected (images, classes).")
    if not torch.isfinite(outputs).all():
        raise WeightsError("The network's outputs contain NaN or infinity.")


def require_classes(logits: Tensor, labels: Tensor, data: ImageSet | PreparedBatches) -> None:
    """Raises :class:`DataError` unless ``logits`` have a column for each of ``labels``."""
    if int(labels.max()) >= logits.shape[1]:
        raise DataError(
            f"{data.name} has labels up to {int(labels.max())}, but the network has {logits.shape[1]} classes.",
            hint="Use weights trained on this data set, or train with its number of classes.",
        )


def precision_of(dtype: torch.dtype | str | None) -> Precision:
    """The precision that ``dtype`` names; raises :class:`SpecError` for another."""
    match str(dtype or "float32").removeprefix("torch."):
        case "float32":
            return "float32"
        case "bfloat16":
            return "bfloat16"
    raise SpecError(f"dtype = {dtype!r}: expected float32 or bfloat16.")


def device_of(model: nn.Module) -> torch.device:
    return next((tensor.device for tensor in model.state_dict().values()), torch.device("cpu"))

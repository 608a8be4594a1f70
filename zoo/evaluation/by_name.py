"""Evaluation by name, by the model's own hook."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.creation import as_network, info_of, require_classes
from zoo.errors import DataError, WeightsError
from zoo.evaluation import hook
from zoo.system import distributed

if TYPE_CHECKING:
    import torch
    from torch import nn

    from zoo.data import ImageSet
    from zoo.evaluation import Report
    from zoo.loading import ModelInfo

log = logging.getLogger("zoo")


def evaluate(
    model: "str | nn.Module",
    data: "str | Path | ImageSet | None" = None,
    split: str = "test",
    *,
    weights: str | Path | None = None,
    device: "str | torch.device | None" = None,
    **options: Any,
) -> "Report":
    """Scores a network on a data set.

    Args:
        model: A name, or a network that :func:`zoo.create` returned. A name without a tag means the model's default
            weights.
        data: A data set's name or path, or its images. By default the data set whose classes the weights know.
        split: The split to load, if ``data`` is not images.
        weights: A local safetensors file, instead of the weights that a name means.
        device: Where to run. By default a GPU if there is one for a name, and where it is for a network.
        options: Passed to the model's evaluate hook; :func:`zoo.evaluation.evaluate` takes ``batch_size``, ``dtype``
            and ``progress``.

    Returns:
        Top-1 with its 95% interval, top-5, loss, and the fingerprint of the images.

    Raises:
        UnknownNameError: There is no such model or data set.
        DataError: The weights name no data set, or the images have classes that they do not know.
        WeightsError: The network has no classes, or its outputs contain NaN or infinity.

    Example:
        >>> import zoo
        >>> report = zoo.evaluate("resnet20.digits", "digits")
        >>> report.n, report.top1 > 95
        (360, True)
    """
    from zoo import data as datasets
    from zoo import evaluation

    if isinstance(model, str):
        device = distributed.current().device(device)
    model = as_network(model, weights=weights)
    info = info_of(model)
    require_classes(model)
    data = data or info.classes
    if not data:
        raise DataError(f"{info.name} does not name a data set.", hint="Set one with --data NAME (data=NAME).")
    images = data if isinstance(data, datasets.ImageSet) else datasets.load(data, split)
    evaluation.check_classes(model, images)
    _warn_of_training_images(info, images)
    return hook.evaluate(info.model, model, images, preprocess=info.preprocess, device=device, **options)


def _warn_of_training_images(info: "ModelInfo", images: "ImageSet") -> None:
    """Says so if the weights' own record names the split that they are to be scored on."""
    from zoo.loading import safetensors_file

    if info.file is None:
        return
    try:
        learned = safetensors_file.metadata(info.file)["run"]["data"]["train"]
        if (learned["name"], learned["split"]) != (images.name, images.split):
            return
    except (WeightsError, LookupError, TypeError):
        return  # of another origin
    where = f"{images.name}/{images.split}" if images.split != "all" else f"{images.name}, which has no splits"
    log.warning("%s was trained on images of %s: the score does not generalise to other images", info.name, where)

"""A model's own evaluate hook, run by name."""

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
    """Scores a model on a data set, each by name or as a value.

    A name without a tag means its default weights, unless ``weights`` is a local safetensors file;
    without ``data``, the data set whose classes the weights know. Without ``device``, what is given by name
    is scored on a GPU if there is one, and a network where it lies. ``options`` go to the model's
    evaluate hook (``zoo.evaluation.evaluate``: ``batch_size``, ``dtype``, ``progress``).
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
        raise DataError(f"{info.name} does not say which data set it knows.", hint="Name one: --data NAME (data=NAME).")
    images = data if isinstance(data, datasets.ImageSet) else datasets.load(data, split)
    evaluation.check_classes(model, images)
    _warn_of_training_images(info, images)
    return hook.evaluate(info.model, model, images, preprocess=info.preprocess, device=device, **options)


def _warn_of_training_images(info: "ModelInfo", images: "ImageSet") -> None:
    """Says so where the weights' own record names the split that they are to be scored on."""
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
    log.warning("%s was trained on images of %s: the score says little of others", info.name, where)

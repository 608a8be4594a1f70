"""The most likely classes of images."""

import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch
from PIL.Image import Image
from torch import nn

from zoo.creation import as_network, info_of, preprocess, require_classes
from zoo.data.classes import class_names
from zoo.data.decode import read_image, to_channels
from zoo.errors import SpecError, UnknownNameError, WeightsError
from zoo.evaluation.modes import in_eval_mode

log = logging.getLogger("zoo")


class Prediction(msgspec.Struct, frozen=True, rename={"class_name": "class"}):
    """A class and its probability, in [0, 1]. A class without a name is called ``class INDEX``."""

    class_name: str
    index: int
    probability: float


def predict(
    model: str | nn.Module,
    images: str | Path | Image | Sequence[str | Path | Image],
    topk: int = 5,
    *,
    weights: str | Path | None = None,
    device: torch.device | str | None = None,
) -> list[list[Prediction]]:
    """Classifies images, one at a time, in eval mode.

    Args:
        model: A name, or a network that :func:`zoo.create` returned. A name without a tag means the model's
            default weights.
        images: Files or Pillow images. A single one is a list of one.
        topk: How many classes to return for each image. A network of fewer classes returns all of them.
        weights: A local safetensors file, instead of the weights that a name means.
        device: Where to run. By default on the CPU for a name, and where it is for a network.

    Returns:
        For each image its likeliest classes, most likely first.

    Raises:
        SpecError: ``topk`` is less than 1.
        UnknownNameError: There is no such model.
        DataError: An image cannot be read.
        WeightsError: The network has no classes, or its outputs contain NaN or infinity.

    Example:
        >>> import zoo
        >>> digit = zoo.data.load("digits", "test").image(0)
        >>> [likeliest] = zoo.predict("resnet20.digits", digit, topk=1)
        >>> likeliest[0].class_name
        '0'
    """
    if topk < 1:
        raise SpecError(f"topk = {topk} is invalid: expected at least 1.")
    network = as_network(model, weights=weights)
    require_classes(network)
    if device is not None:
        network.to(device)
    classes = class_names_of(network)
    several = [images] if isinstance(images, str | Path | Image) else images
    with in_eval_mode(network):
        return [rank(network, image, classes, topk) for image in several]


def class_names_of(model: nn.Module) -> tuple[str, ...]:
    """The names in the weights' file, or those of their data set; none if nobody knows them, with a warning."""
    info = info_of(model)
    if info.class_names or not info.classes:
        return info.class_names
    try:
        return class_names(info.classes)
    except UnknownNameError as error:
        log.warning("Classes are shown by number: %s", error)
        return ()


def rank(model: nn.Module, image: str | Path | Image, classes: Sequence[str], topk: int) -> list[Prediction]:
    """The ``topk`` likeliest of ``classes`` for one image, by a network in eval mode."""
    channels = info_of(model).preprocess.input_size[0]
    source = "an image" if isinstance(image, Image) else str(image)
    picture = to_channels(image, channels) if isinstance(image, Image) else read_image(Path(image), source, channels)
    device = next(model.parameters(), torch.empty(0)).device
    with torch.inference_mode():
        logits = model(preprocess(model)(picture)[None].to(device))[0]  # C
    if not logits.isfinite().all():
        hint = "zoo verify checks a network's weights."
        raise WeightsError(f"{source}: the network's outputs contain NaN or infinity.", hint=hint)
    probabilities, indices = logits.float().softmax(0).topk(min(topk, len(logits)))
    return [
        Prediction(classes[i] if len(classes) == len(logits) else f"class {i}", i, probability)
        for i, probability in zip(indices.tolist(), probabilities.tolist(), strict=True)
    ]

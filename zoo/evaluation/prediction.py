"""The most likely classes of images."""

import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import msgspec
import torch
from PIL.Image import Image
from torch import Tensor, nn

from zoo.data import image_source
from zoo.data.classes import class_names
from zoo.data.image_file import to_channels
from zoo.errors import DataError, SpecError, UnknownNameError, WeightsError
from zoo.evaluation.forward import device_of, in_eval_mode
from zoo.loading.create import as_network, info_of, preprocess, require_classes

log = logging.getLogger("zoo")

_AHEAD = 16
"""Images that are decoded while the network computes."""


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
        images: Files, folders of them, ``https://`` addresses or Pillow images. A single one is a list of one.
        topk: How many classes to return for each image. A network of fewer classes returns all of them.
        weights: A local safetensors file, instead of the weights that a name means.
        device: Where to run. By default on the CPU for a name, and where it is for a network.

    Returns:
        For each image its likeliest classes, most likely first; those of a folder in natural order of their names.

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
    several = image_source.expand(images if isinstance(images, Sequence) and not isinstance(images, str) else [images])
    for image in several:
        if not isinstance(image, str | Path | Image):
            raise DataError(f"Got {type(image).__name__}, expected an image: a path, an address or Pillow's.")
    with in_eval_mode(network), Prepared(network, several) as prepared:
        return [prepared.rank(image, classes, topk) for image in several]


def class_names_of(model: nn.Module) -> tuple[str, ...]:
    """Returns the names in the weights' file, or those of their data set; none if nobody knows them, with a warning."""
    info = info_of(model)
    if info.class_names or not info.classes:
        return info.class_names
    try:
        return class_names(info.classes)
    except UnknownNameError as error:
        log.warning("Classes are shown by number: %s", error)
        return ()


class Prepared:
    """Images as a network's input, decoded in threads ahead of it; a context, which :meth:`rank` needs.

    ``images`` are what it will be asked for, in this order.
    """

    def __init__(self, model: nn.Module, images: Sequence[str | Path | Image]) -> None:
        self._model = model
        self._transform = preprocess(model)
        self._coming = iter(images)
        self._ready: deque[Future[Tensor]] = deque()
        self._pool = ThreadPoolExecutor()

    def __enter__(self) -> "Prepared":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def rank(self, image: str | Path | Image, classes: Sequence[str], topk: int) -> list[Prediction]:
        """Returns the ``topk`` likeliest of ``classes`` for the next image, which is ``image``, by the network in
        eval mode.
        """
        for waiting in islice(self._coming, _AHEAD - len(self._ready)):
            self._ready.append(self._pool.submit(self._prepare, waiting))
        prepared = self._ready.popleft().result()
        device = device_of(self._model)
        with torch.inference_mode():
            logits = self._model(prepared[None].to(device))[0]  # C
        if not logits.isfinite().all():
            source = "an image" if isinstance(image, Image) else str(image)
            hint = "zoo verify checks a network's weights."
            raise WeightsError(f"{source}: the network's outputs contain NaN or infinity.", hint=hint)
        probabilities, indices = logits.float().softmax(0).topk(min(topk, len(logits)))
        return [
            Prediction(classes[i] if len(classes) == len(logits) else f"class {i}", i, probability)
            for i, probability in zip(indices.tolist(), probabilities.tolist(), strict=True)
        ]

    def _prepare(self, image: str | Path | Image) -> Tensor:
        channels = info_of(self._model).preprocess.input_size[0]
        if isinstance(image, Image):
            return self._transform(to_channels(image, channels))
        return self._transform(image_source.read(image, channels))


def class_number(text: str, classes: Sequence[str]) -> int:
    """Returns the class ``text``, a number or one of ``classes``; raises :class:`UnknownNameError`."""
    if text.isdecimal():
        return int(text)
    if text in classes:
        return list(classes).index(text)
    raise UnknownNameError.of("class", text, classes, hint="Use its number." if not classes else "")

"""Images as a network's input."""

from typing import TYPE_CHECKING

from zoo import resolve
from zoo.creation import info_of
from zoo.spec import Preprocess

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import nn

    from zoo.data.preprocess import Picture, Transform


def preprocess(model: "nn.Module") -> "Transform":
    """The transform from a Pillow image to the input of a network, as its weights expect it.

    Args:
        model: A network that :func:`zoo.create` returned.

    Returns:
        A callable that takes a Pillow image and returns a tensor, float32 C H W.

    Raises:
        WeightsError: ``zoo.create`` did not make this network.

    Example:
        >>> import zoo
        >>> model = zoo.create("resnet20.digits")
        >>> image = zoo.data.load("digits", "test").image(0)
        >>> zoo.preprocess(model)(image).shape
        torch.Size([1, 8, 8])
    """
    from zoo.data.preprocess import Transform

    return Transform(info_of(model).preprocess)


def transforms(
    model: "str | nn.Module", *, train: bool = False, size: int | None = None
) -> "Callable[[Picture], torch.Tensor]":
    """The transform of images to the input of a network, for your own data set or data loader.

    Works in torchvision's ``v2.Compose`` and as the ``transform`` of its data sets.

    Args:
        model: A network that :func:`zoo.create` returned, or a name. An architecture without a tag means the
            preprocessing that it declares.
        train: Random crops and flips like the recipe for your own images, instead of :func:`preprocess`. The random
            numbers are those of torch's global generator.
        size: Side of the input in pixels, instead of the network's.

    Returns:
        A callable. It takes a Pillow image, a path, a uint8 array H W C, or a uint8 tensor C H W, and returns a
        tensor, float32 C H W; of a uint8 batch B C H W, float32 B C H W. For training it is a ``v2.Compose``, which
        crops all images of a batch alike.

    Raises:
        UnknownNameError: There is no such model or tag.
        WeightsError: ``zoo.create`` did not make this network.
        SpecError: ``size`` is not possible.
        MissingExtraError: ``train`` needs torchvision, which is not installed.

    Example:
        >>> import zoo
        >>> photo = zoo.data.load("digits", "test").image(0)
        >>> zoo.transforms("resnet20.c10")(photo).shape
        torch.Size([3, 32, 32])
        >>> zoo.transforms("resnet20.c10", train=True, size=64)(photo).shape
        torch.Size([3, 64, 64])
    """
    import msgspec

    from zoo.data.preprocess import EvaluationTransform, training_transform

    wanted = _preprocess_named(model) if isinstance(model, str) else info_of(model).preprocess
    if size is not None:
        wanted = msgspec.structs.replace(wanted, input_size=(wanted.input_size[0], size, size))
    return training_transform(wanted) if train else EvaluationTransform(wanted)


def _preprocess_named(name: str) -> Preprocess:
    """The preprocessing of a name; weights are fetched only if a conversion states it."""
    found = resolve.find(name)
    entry = None if found.weights is None else resolve.weights_for(found)
    if entry is not None and entry.preprocess is None and entry.needs_conversion:
        entry, _ = resolve.use(found)
    return (entry and entry.preprocess) or found.model.preprocess

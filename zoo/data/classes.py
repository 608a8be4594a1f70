"""The names of the classes of well-known data sets, in label order."""

from zoo.errors import MissingExtraError, UnknownNameError

_TEN_DIGITS = tuple("0123456789")

_NAMES = {
    "digits": _TEN_DIGITS,
    "mnist": _TEN_DIGITS,
    "fashion_mnist": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}


def class_names(name: str) -> tuple[str, ...]:
    """The class names of the data set ``name``; those of ``imagenet-1k`` come from timm.

    Raises :class:`UnknownNameError`, and :class:`MissingExtraError` where timm is needed and absent.
    """
    if name == "imagenet-1k":
        try:
            from timm.data import ImageNetInfo
        except ImportError:
            raise MissingExtraError.of("The class names of imagenet-1k", "timm", "zoo-vision[train]") from None
        return tuple(ImageNetInfo("imagenet-1k").label_descriptions())
    if name not in _NAMES:
        raise UnknownNameError.of("data set", name, [*_NAMES, "imagenet-1k"])
    return _NAMES[name]

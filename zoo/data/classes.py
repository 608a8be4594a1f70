"""The names of the classes of well-known data sets, in label order."""

from functools import cache
from pathlib import Path

from zoo.errors import UnknownNameError

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
    """The class names of a well-known data set, in label order.

    Args:
        name: ``digits``, ``mnist``, ``fashion_mnist``, ``cifar10`` or ``imagenet-1k``.

    Returns:
        The names.

    Raises:
        UnknownNameError: The class names of this data set are not known.

    Example:
        >>> import zoo
        >>> zoo.data.class_names("cifar10")[:3]
        ('airplane', 'automobile', 'bird')
    """
    if name == "imagenet-1k":
        return _imagenet()
    if name not in _NAMES:
        raise UnknownNameError.of("data set", name, [*_NAMES, "imagenet-1k"])
    return _NAMES[name]


@cache
def _imagenet() -> tuple[str, ...]:
    lines = Path(__file__).with_name("imagenet_1k.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))

"""Well-known data sets: the names of their classes in label order, and the number of their training images."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

from zoo import registry
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


_IMAGENET = ("imagenet-1k", "imagenet-1k-devkit")
"""Orders of the classes: by WordNet ids, as in torchvision, timm and Caffe; and as in ILSVRC2012's development kit."""


def class_names(name: str) -> tuple[str, ...]:
    """Returns the class names of a well-known data set, in label order.

    Args:
        name: ``digits``, ``mnist``, ``fashion_mnist``, ``cifar10`` or ``imagenet-1k``. ``imagenet-1k-devkit`` is the
            order of ILSVRC2012's development kit, in which its ground truth numbers the classes (from 1).

    Returns:
        The names. ImageNet's are torchvision's.

    Raises:
        UnknownNameError: The class names of this data set are not known.

    Example:
        >>> import zoo
        >>> zoo.data.class_names("cifar10")[:3]
        ('airplane', 'automobile', 'bird')
    """
    if name in _IMAGENET:
        return tuple(row.name for row in _imagenet(name))
    if name not in _NAMES:
        raise UnknownNameError.of("data set", name, [*_NAMES, *_IMAGENET])
    return _NAMES[name]


def class_synsets(name: str = "imagenet-1k") -> tuple[str, ...]:
    """Returns the WordNet ids of ImageNet's classes, in label order. ImageNet's folders of images have these names.

    Args:
        name: ``imagenet-1k``, or ``imagenet-1k-devkit`` for the order of ILSVRC2012's development kit.

    Returns:
        The ids: ``n`` and eight digits.

    Raises:
        UnknownNameError: The classes of this data set have no WordNet ids.

    Example:
        >>> import zoo
        >>> synsets = zoo.data.class_synsets()
        >>> synsets[0], zoo.data.class_names("imagenet-1k")[synsets.index("n02099601")]
        ('n01440764', 'golden retriever')
    """
    if name not in _IMAGENET:
        raise UnknownNameError.of(
            "data set with WordNet ids", name, _IMAGENET, hint=f"These have them: {', '.join(_IMAGENET)}."
        )
    return tuple(row.synset for row in _imagenet(name))


def names_of_classes(name: str) -> tuple[str, ...]:
    """Returns the class names of a well-known data set; none of any other."""
    return class_names(name) if name in _NAMES or name in _IMAGENET else ()


def number_of(name: str, names: tuple[str, ...], dataset: str = "") -> int | None:
    """Returns which of ``names``, the classes of ``dataset``, a folder called ``name`` has images of; None if none.

    It is the name, also in other case and with ``_`` or ``-`` for spaces where this is unambiguous, or ImageNet's
    WordNet id.
    """
    exact, synsets, loose = _numbers(names, dataset)
    return exact.get(name, synsets.get(name, loose.get(_loosely(name))))


@cache
def _numbers(names: tuple[str, ...], dataset: str) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    exact = {name: number for number, name in enumerate(names)}
    of_synsets = dataset if dataset in _IMAGENET else "imagenet-1k"
    is_imagenet = len(names) == len(_imagenet(of_synsets)) and (
        dataset in _IMAGENET or names == class_names(of_synsets)
    )
    synsets = {name: i for i, name in enumerate(class_synsets(of_synsets))} if is_imagenet else {}
    forms = [_loosely(name) for name in names]
    return exact, synsets, {form: i for i, form in enumerate(forms) if forms.count(form) == 1}


def _loosely(name: str) -> str:
    return name.casefold().replace("_", " ").replace("-", " ")


class _Class(NamedTuple):
    synset: str
    devkit: int
    name: str


@cache
def _imagenet(order: str) -> tuple[_Class, ...]:
    lines = Path(__file__).with_name("imagenet_1k.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split(" ", 2) for line in lines if line and not line.startswith("#")]
    classes = [_Class(synset, int(number), name) for synset, number, name in rows]
    return tuple(sorted(classes, key=lambda row: row.devkit) if order == "imagenet-1k-devkit" else classes)


_SIZES = {
    "digits": 1437,
    "mnist": 60_000,
    "fashion_mnist": 60_000,
    "cifar10": 50_000,
    "imagenet-1k": 1_281_167,
}


def count_training_images(name: str) -> int:
    """Returns the number of training images of a well-known data set or one that a plugin brings; 0 if unknown."""
    if name in _SIZES:
        return _SIZES[name]
    plugins = [row.plugin for row in registry.current().plugins if row.plugin is not None]
    found = (spec.images for plugin in plugins for spec in plugin.datasets if spec.name == name)
    return next(found, 0)

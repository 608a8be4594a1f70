"""What the author of a plugin writes."""

from zoo.spec.checked import Spec
from zoo.spec.rows import (
    API,
    CIFAR10,
    CIFAR10_IMAGE_STD,
    IMAGENET,
    MNIST,
    STD_255,
    Argument,
    DatasetSpec,
    KeyMap,
    Model,
    Paper,
    Plugin,
    Preprocess,
    Requirement,
    unscaled,
)

__all__ = [
    "API",
    "CIFAR10",
    "CIFAR10_IMAGE_STD",
    "IMAGENET",
    "MNIST",
    "STD_255",
    "Argument",
    "DatasetSpec",
    "KeyMap",
    "Model",
    "Paper",
    "Plugin",
    "Preprocess",
    "Requirement",
    "Spec",
    "unscaled",
]

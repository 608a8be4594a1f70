"""The values that a plugin author writes."""

from zoo.spec.checked import Spec
from zoo.spec.described import Described
from zoo.spec.preprocess import CIFAR10, CIFAR10_IMAGE_STD, IMAGENET, MNIST, STD_255, Preprocess, unscaled
from zoo.spec.rows import API, Argument, DatasetSpec, KeyMap, Model, Paper, Plugin, Requirement

__all__ = [
    "API",
    "CIFAR10",
    "CIFAR10_IMAGE_STD",
    "IMAGENET",
    "MNIST",
    "STD_255",
    "Argument",
    "DatasetSpec",
    "Described",
    "KeyMap",
    "Model",
    "Paper",
    "Plugin",
    "Preprocess",
    "Requirement",
    "Spec",
    "unscaled",
]

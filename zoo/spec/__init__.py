"""The values that a plugin author writes."""

from zoo.spec.checked import Spec
from zoo.spec.extensions import (
    AttackMethod,
    DatasetSpec,
    Described,
    ExportPass,
    Extension,
    KeyMap,
    LookQuestion,
    Reader,
)
from zoo.spec.model import API, Argument, Model, Paper, Requirement
from zoo.spec.plugin import Plugin
from zoo.spec.preprocess import CIFAR10, CIFAR10_IMAGE_STD, IMAGENET, MNIST, STD_255, Preprocess, unscaled

__all__ = [
    "API",
    "CIFAR10",
    "CIFAR10_IMAGE_STD",
    "IMAGENET",
    "MNIST",
    "STD_255",
    "Argument",
    "AttackMethod",
    "DatasetSpec",
    "Described",
    "ExportPass",
    "Extension",
    "KeyMap",
    "LookQuestion",
    "Model",
    "Paper",
    "Plugin",
    "Preprocess",
    "Reader",
    "Requirement",
    "Spec",
    "unscaled",
]

"""What the author of a plugin writes."""

from zoo.spec.checked import Spec
from zoo.spec.rows import API, Argument, DatasetSpec, KeyMap, Model, Paper, Plugin, Preprocess, Requirement

__all__ = [
    "API",
    "Argument",
    "DatasetSpec",
    "KeyMap",
    "Model",
    "Paper",
    "Plugin",
    "Preprocess",
    "Requirement",
    "Spec",
]

"""``weights_manifest/*.toml`` to ``Weights`` values, strictly typed.

A manifest says of each trained file where it lies, which bytes it is (sha256), how its input is
prepared, what it scores and on whose word, and what its first outputs are. One table an entry::

    [resnet152.tv_in1k]
    repo = "timm/resnet152.tv_in1k"
    file = "model.safetensors"
    ...
"""

from zoo.manifest.parsing import parse, read
from zoo.manifest.rendering import render, render_probe, table_name
from zoo.manifest.schema import (
    Address,
    Amount,
    Commit,
    Count,
    Entry,
    License,
    Percent,
    Probe,
    ProbedImage,
    Score,
    Sha256,
    Sha256Prefix,
    Text,
    Tolerance,
    Weights,
)

__all__ = [
    "Address",
    "Amount",
    "Commit",
    "Count",
    "Entry",
    "License",
    "Percent",
    "Probe",
    "ProbedImage",
    "Score",
    "Sha256",
    "Sha256Prefix",
    "Text",
    "Tolerance",
    "Weights",
    "parse",
    "read",
    "render",
    "render_probe",
    "table_name",
]

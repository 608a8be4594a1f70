"""``weights_manifest/*.toml`` to ``Weights`` values, strictly typed.

A manifest describes each trained file: its location, sha256, preprocessing, scores and who reported them,
and its first outputs. One table per entry::

    [resnet152.tv_in1k]
    repo = "timm/resnet152.tv_in1k"
    file = "model.safetensors"
    ...

A manifest may also state key maps for ``zoo convert``, a table ``[key_maps.NAME]`` each, and which of its publisher's
manifests it is, in the table ``[release]``.
"""

from zoo.manifest.parsing import key_maps, parse, read, release_of
from zoo.manifest.schema import (
    Address,
    Amount,
    Commit,
    Count,
    Digest,
    Entry,
    History,
    License,
    Percent,
    Probe,
    ProbedImage,
    Protocol,
    Release,
    Score,
    Sha256,
    Sha256Prefix,
    Spread,
    Text,
    Tolerance,
    Weights,
)
from zoo.manifest.writing import render, render_probe, table_name

__all__ = [
    "Address",
    "Amount",
    "Commit",
    "Count",
    "Digest",
    "Entry",
    "History",
    "License",
    "Percent",
    "Probe",
    "ProbedImage",
    "Protocol",
    "Release",
    "Score",
    "Sha256",
    "Sha256Prefix",
    "Spread",
    "Text",
    "Tolerance",
    "Weights",
    "key_maps",
    "parse",
    "read",
    "release_of",
    "render",
    "render_probe",
    "table_name",
]

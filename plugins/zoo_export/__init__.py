"""Exports networks to the formats of other runtimes, and compares each file with the network at once."""

from zoo.spec import Plugin
from zoo.system import lazy

plugin = Plugin(
    "export",
    api=2,
    commands={"export": "zoo_export.cli:export"},
    modules={"export": "zoo_export.by_name:export", "exporting": "zoo_export"},
    openers=dict.fromkeys((".onnx", ".pt2"), "zoo_export.network:open_file"),
)

__getattr__, __dir__, __all__ = lazy.exports(__name__)

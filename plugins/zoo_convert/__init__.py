"""Converts checkpoints of other frameworks to weights of a model, and scores them with the usual preprocessings."""

from zoo.spec import Plugin
from zoo.system import lazy

plugin = Plugin(
    "convert",
    api=2,
    commands={"convert": "zoo_convert.cli:convert", "audit": "zoo_convert.cli:audit"},
    modules={"convert": "zoo_convert"},
    converters=dict.fromkeys(
        (".safetensors", ".pth", ".pth.tar", ".pt", ".th", ".ckpt", ".bin", ".h5", ".hdf5", ".keras", ".onnx"),
        "zoo_convert.conversion:convert_entry",
    ),
)

__getattr__, __dir__, __all__ = lazy.exports(__name__)

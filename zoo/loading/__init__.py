"""Loads a file's tensors into a network.

Names are bound on first use, so that the reader of safetensors files comes without the rest.
"""

from zoo.system import lazy

__getattr__, __dir__, __all__ = lazy.exports(__name__)

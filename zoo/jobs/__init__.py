"""Runs independent jobs in processes of their own, several at a time."""

from zoo.system import lazy

__getattr__, __dir__, __all__ = lazy.exports(__name__)

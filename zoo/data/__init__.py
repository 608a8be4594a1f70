"""Data sets by name or path, and preprocessing.

Names are bound on first use, so that torch-free code can read ``zoo.data.augmentation`` (what a
recipe may say) and ``zoo.data.classes`` (the names of classes) at no cost.
"""

from zoo.system import lazy

__getattr__, __dir__, __all__ = lazy.exports(__name__)

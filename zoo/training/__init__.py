"""Training: recipes, the default training hook, and run directories.

Names are bound on first use, so that torch-free code can read ``zoo.training.recipe`` at no cost.
"""

from zoo.system import lazy

__getattr__, __dir__, __all__ = lazy.exports(__name__)

"""Scores with intervals, and their comparison with published ones.

Names are bound on first use, so that torch-free code can import ``zoo.evaluation.hook`` at no cost.
"""

from zoo.system import lazy

__getattr__, __dir__, __all__ = lazy.exports(__name__)

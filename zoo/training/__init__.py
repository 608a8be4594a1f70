"""Training: recipes, the default training hook, and run directories.

Names are bound on first use, so that torch-free code can read ``zoo.training.recipe`` at no cost.
"""

from typing import TYPE_CHECKING

from zoo.system import lazy

if TYPE_CHECKING:
    from zoo.training.choice import change as change
    from zoo.training.choice import choose as choose
    from zoo.training.inputs import TrainingData as TrainingData
    from zoo.training.inputs import normalise as normalise
    from zoo.training.inputs import split as split
    from zoo.training.recipe import Recipe as Recipe
    from zoo.training.run import Run as Run
    from zoo.training.supervised import train as train

_HOMES = {
    "Recipe": "recipe",
    "Run": "run",
    "TrainingData": "inputs",
    "change": "choice",
    "choose": "choice",
    "normalise": "inputs",
    "split": "inputs",
    "train": "supervised",
}

__all__ = list(_HOMES)

__getattr__ = lazy.binder(__name__, {name: f"zoo.training.{home}" for name, home in _HOMES.items()})

"""Training: recipes, the default way to carry them out, and what it leaves on the disk."""

from zoo.training.engine import train
from zoo.training.inputs import TrainingData, normalise, split
from zoo.training.recipe import Recipe, choose
from zoo.training.run import Run

__all__ = ["Recipe", "Run", "TrainingData", "choose", "normalise", "split", "train"]

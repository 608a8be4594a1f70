from zoo.training.choice import change as change
from zoo.training.choice import choose as choose
from zoo.training.engine import train as train
from zoo.training.inputs import TrainingData as TrainingData
from zoo.training.inputs import normalise as normalise
from zoo.training.inputs import split as split
from zoo.training.recipe import Recipe as Recipe
from zoo.training.run import Run as Run

"""The share of images for each batch and process."""

from typing import NamedTuple

from zoo.errors import RecipeError
from zoo.system.distributed import Processes
from zoo.training.recipe import Recipe


class Portion(NamedTuple):
    """An epoch has ``steps`` full batches of ``size`` images; ``share`` are this process's positions in each."""

    size: int
    steps: int
    share: range


def portion_of(images: int, recipe: Recipe, processes: Processes) -> Portion:
    """This process's portion of ``images``; raises :class:`RecipeError` if it is too small to train on."""
    size = min(recipe.batch_size, images)
    if size // processes.count < recipe.accumulate:  # the smallest share, so that all processes refuse alike
        raise RecipeError(
            f"A batch of {size} images cannot be divided among {processes.count} processes "
            f"in {recipe.accumulate} pieces each.",
            hint="Raise batch_size, or start fewer processes.",
        )
    return Portion(size, images // size, processes.share(size))

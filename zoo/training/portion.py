"""How images are dealt out to batches and processes."""

from typing import NamedTuple

from zoo.errors import RecipeError
from zoo.system.distributed import Processes
from zoo.training.recipe import Recipe


class Portion(NamedTuple):
    """``steps`` whole batches of ``size`` images make an epoch; the places ``share`` of each are this process's."""

    size: int
    steps: int
    share: range


def portion(images: int, recipe: Recipe, processes: Processes) -> Portion:
    """This process's portion of so many ``images``; raises :class:`RecipeError` where one is too small to train on."""
    size = min(recipe.batch_size, images)
    if size // processes.count < recipe.accumulate:  # the smallest share, so that all processes refuse alike
        raise RecipeError(
            f"A batch of {size} images cannot be shared by {processes.count} processes "
            f"in {recipe.accumulate} pieces each.",
            hint="Raise batch_size, or start fewer processes.",
        )
    return Portion(size, images // size, processes.share(size))

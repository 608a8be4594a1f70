"""Writes which validation images a trained network gets wrong, as tables into the run's directory."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from zoo.data.image_set import ImageSet
from zoo.evaluation.mistakes import find_mistakes
from zoo.spec import Preprocess
from zoo.system import storage
from zoo.training.recipe import Recipe
from zoo.training.run import Run


def write(run: Run, model: nn.Module, images: ImageSet, preprocess: Preprocess, recipe: Recipe) -> None:
    """Writes ``confusion.csv`` and ``mistakes.csv`` for the validation ``images``."""
    found = find_mistakes(model, images, preprocess=preprocess, is_bfloat16=recipe.precision == "bfloat16")
    names = images.classes
    counts = [[name, *row] for name, row in zip(names, found.confusion.tolist(), strict=True)]
    storage.replace(run.confusion, _table(["true", *names], counts))
    wrong = (
        [images.where(number), names[true], names[predicted], f"{probability:.4f}"]
        for number, true, predicted, probability in found.mistakes
    )
    storage.replace(run.mistakes, _table(["file", "true", "predicted", "probability"], wrong))


def _table(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([titles, *rows])
    return text.getvalue().encode(errors="surrogateescape")

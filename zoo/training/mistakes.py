"""Writes which validation images a trained network gets wrong, as tables into the run's directory."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from zoo.data.image_set import ImageSet
from zoo.evaluation.outputs import Answers
from zoo.system import storage
from zoo.training.run import Run


def write(run: Run, images: ImageSet, found: Answers) -> None:
    """Writes ``confusion.csv`` and ``mistakes.csv`` for the answers to the validation ``images``."""
    names = images.classes
    counts = [[name, *row] for name, row in zip(names, found.confusion.tolist(), strict=True)]
    storage.replace(run.confusion, _table(["true", *names], counts))
    wrong = (
        [images.where(number), names[true], names[predicted], "" if probability is None else f"{probability:.4f}"]
        for number, true, predicted, probability in found.mistakes
    )
    storage.replace(run.mistakes, _table(["file", "true", "predicted", "probability"], wrong))


def _table(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([titles, *rows])
    return text.getvalue().encode(errors="surrogateescape")

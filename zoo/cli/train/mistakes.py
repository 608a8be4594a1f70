"""What ``zoo train`` prints about the validation images that the network gets wrong."""

import csv
from pathlib import Path

from zoo.cli.output import note, one_line

MOST_CLASSES = 12
"""A larger confusion matrix is only written: it does not fit on a terminal."""

SHOWN = 5


def show(output: Path) -> None:
    """Prints the confusion matrix and the worst mistakes of the run in ``output``, if it has validation images."""
    files = [output / "confusion.csv", output / "mistakes.csv"]
    if not all(file.is_file() for file in files):
        return
    (titles, *counts), (_, *wrong) = (_read(file) for file in files)
    total = sum(int(number) for _, *row in counts for number in row)
    note(f"{len(wrong)} of {total} validation images are wrong: {files[0]}, {files[1]}")
    if wrong and len(counts) <= MOST_CLASSES:
        note("Rows are the true classes, columns the predicted ones:")
        _print_columns([["", *titles[1:]], *counts])
    if wrong:
        note("The most confident mistakes:" if wrong[0][3] else "The first mistakes:")
        for file, true, predicted, probability in wrong[:SHOWN]:
            share = f" ({float(probability):.1%})" if probability else ""
            note(one_line(f"  {file}: {true}, predicted {predicted}{share}"))


def _read(file: Path) -> list[list[str]]:
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        return list(csv.reader(stream))


def _print_columns(rows: list[list[str]]) -> None:
    rows = [[one_line(cell) for cell in row] for row in rows]
    first, *others = ([len(cell) for cell in column] for column in zip(*rows, strict=True))
    for name, *cells in rows:
        columns = (cell.rjust(max(width)) for cell, width in zip(cells, others, strict=True))
        note("  ".join(["", name.ljust(max(first)), *columns]))

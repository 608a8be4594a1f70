"""Tables of results on the pages of models: what lists of jobs measured, beside the scores of manifests."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from zoo.errors import DataError
from zoo.results import comparison, files
from zoo.results.rows import Row
from zoo_gallery.facts import Page, Recheck, Trained


def add(pages: Sequence[Page], tables: Iterable[Path]) -> list[Page]:
    """``pages`` with the rows of ``tables`` that are about their weights.

    Raises :class:`DataError` for a file that is not a table of results, and for one row twice.
    """
    rows: dict[str, dict[object, Row]] = {}
    for file in tables:
        for row in files.read(file):
            own = rows.setdefault(row.weights, {})
            if row.subject in own:
                raise DataError(
                    f"{file} has a second row of {row.task}, {row.weights} on {row.data}; expected one.",
                    hint="Leave out one of the tables.",
                )
            own[row.subject] = row
    found = []
    for page in pages:
        trained = tuple(_with(one, rows.get(one.name, {}).values()) for one in page.trained)
        found.append(msgspec.structs.replace(page, trained=trained))
    return found


def _with(trained: Trained, rows: Iterable[Row]) -> Trained:
    found = sorted((row for row in rows if row.status != "skipped"), key=lambda row: row.place)
    return msgspec.structs.replace(trained, rechecks=tuple(Recheck(row, _verdict(trained, row)) for row in found))


def _verdict(trained: Trained, row: Row) -> str:
    """Beside the score of the manifest on the same images: better, worse or same; nothing if there is none."""
    for claim in trained.claims:
        if row.task == "evaluate" and claim.split == row.data and claim.interval and claim.score.fingerprint:
            low, high = claim.interval
            before = msgspec.structs.replace(
                row, status="done", low=low, high=high, top1=claim.score.top1, fingerprint=claim.score.fingerprint
            )
            [change] = comparison.compare([row], [before])
            return change.verdict
    return ""

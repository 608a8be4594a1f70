"""Two tables of results compared: what is better, worse or the same, by the intervals."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import msgspec

from zoo.errors import DataError
from zoo.results.rows import Row

Verdict = Literal["better", "worse", "same", "failed", "new", "other images"]


class Change(msgspec.Struct, frozen=True):
    """A row beside the earlier one of the same subject, if there is one.

    ``worse`` and ``better`` mean that the 95% intervals of top-1 do not overlap; ``failed`` that there was a result
    and now there is none; ``other images`` that the fingerprints differ, so that the scores cannot be compared.
    """

    verdict: Verdict
    row: Row
    before: Row | None

    @property
    def is_regression(self) -> bool:
        return self.verdict in ("worse", "failed")


def compare(rows: Sequence[Row], old: Sequence[Row]) -> list[Change]:
    """A change for each of ``rows``; rows of ``old`` alone are left out, since the list of jobs does not name them.

    Raises :class:`DataError` if ``old`` has two rows of one subject.
    """
    counts = Counter(row.subject for row in old)
    if twice := [row for row in old if counts[row.subject] > 1]:
        about = " ".join(filter(None, (twice[0].task, twice[0].weights, twice[0].data, twice[0].setting)))
        raise DataError(f"The earlier table has {counts[twice[0].subject]} rows of {about}.", hint="Leave one of them.")
    before = {row.subject: row for row in old if row.status == "done"}
    return [Change(_verdict(row, before.get(row.subject)), row, before.get(row.subject)) for row in rows]


def _verdict(row: Row, before: Row | None) -> Verdict:
    if before is None:
        return "new"
    if row.status != "done":
        return "failed"
    if row.fingerprint != before.fingerprint:
        return "other images"
    if None in (row.low, row.high, before.low, before.high):
        return "same"  # a task without a score that has an interval
    assert row.low is not None
    assert row.high is not None
    assert before.low is not None
    assert before.high is not None
    return "worse" if row.high < before.low else "better" if row.low > before.high else "same"

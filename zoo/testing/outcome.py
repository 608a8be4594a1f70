"""Runs checks without pytest, and reports each."""

import contextlib
import logging
import time
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from zoo.errors import MissingExtraError
from zoo.registry import PluginRow
from zoo.testing import source
from zoo.testing.checks import Check
from zoo.testing.subject import CheckError

Status = Literal["passed", "failed", "advice", "skipped", "inapplicable"]
"""``advice`` if a later contract than the plugin's asks for what is broken; ``skipped`` if a library is missing;
``inapplicable`` if the network does not have what the promise is about."""


class Outcome(msgspec.Struct, frozen=True):
    """The finding of a check.

    ``of`` is the model, the weights or the plugin, ``field`` what to change there. ``place`` is the line of the
    plugin's own code that raised, and ``error`` the exception; checks with one ``error`` fail for one reason.
    """

    check: str
    of: str
    field: str
    status: Status
    reason: str = ""
    hint: str = ""
    place: str = ""
    error: str = ""
    traceback: str = ""
    seconds: float = 0.0


def run(checks: Iterable[Check], row: PluginRow | None) -> Iterator[Outcome]:
    """Yields the outcome of each check, in order; ``row`` is the plugin, if it is installed."""
    files = source.files_of(row) if row is not None else []
    folder = files[0].parent if files else None
    for check in checks:
        started = time.perf_counter()
        try:
            with _without_advice():
                inapplicable = check.verify()
        except MissingExtraError as error:
            yield Outcome(check.name, check.of, check.field, "skipped", f"{check.of}: {error.message}", error.hint)
        except CheckError as error:
            cause = error.__cause__ or error
            yield Outcome(
                check.name,
                error.of,
                error.field,
                "advice" if check.is_advice else "failed",
                f"{error.of}: {error.reason}",
                f"New in contract {check.since}. {error.hint}" if check.is_advice else error.hint,
                _place(cause, folder),
                f"{type(cause).__name__}: {cause}",
                "".join(traceback.format_exception(cause)).rstrip(),
                time.perf_counter() - started,
            )
        else:
            seconds = time.perf_counter() - started
            status: Status = "inapplicable" if inapplicable else "passed"
            yield Outcome(check.name, check.of, check.field, status, inapplicable, seconds=seconds)


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Lets Zoo log errors alone: the warnings of ``zoo look`` are advice, not faults."""
    log = logging.getLogger("zoo")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _place(error: BaseException | None, folder: Path | None) -> str:
    """Returns the last line of the plugin's own code, ``zoo_hello/model.py:23``, in an exception or in what caused
    it.
    """
    place = ""
    while error is not None and folder is not None:
        for frame in traceback.extract_tb(error.__traceback__):
            if folder in Path(frame.filename).parents:
                place = f"{Path(frame.filename).relative_to(folder.parent)}:{frame.lineno}"
        error = error.__cause__
    return place

"""Outcomes of jobs, by their keys: a JSON file each, in a folder that several machines may share."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import msgspec

from zoo.system import storage
from zoo_bulk.job import Job, Outcome


class Stored(msgspec.Struct, frozen=True):
    """An outcome as it is stored. ``seconds`` and ``memory`` are of the run that produced it."""

    name: str
    status: Literal["done", "failed"]
    result: Any
    reason: str
    seconds: float
    memory: int


class Store:
    """The outcomes in ``folder``. A file appears there as a whole, so a job counts as done once or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()  # another process may look from elsewhere

    def find(self, job: Job) -> Outcome | None:
        """The outcome of ``job``; None if it has none yet."""
        with suppress(OSError, msgspec.MsgspecError):
            found = msgspec.json.decode(self._file(job).read_bytes(), type=Stored)
            return Outcome(job, found.status, found.result, found.reason, found.seconds, found.memory)
        return None

    def put(self, outcome: Outcome) -> None:
        """Stores an outcome. A job that was stopped has none: it runs again."""
        job, status, result, reason, seconds, memory = outcome
        if status != "stopped":
            stored = Stored(job.name, status, result, reason, round(seconds, 3), memory)
            storage.replace(self._file(job), msgspec.json.encode(stored) + b"\n")

    def forget(self, jobs: Iterable[Job]) -> None:
        """Removes the outcomes of ``jobs``, which are to run again."""
        for job in jobs:
            self._file(job).unlink(missing_ok=True)

    def _file(self, job: Job) -> Path:
        return self.folder / f"{job.key}.json"

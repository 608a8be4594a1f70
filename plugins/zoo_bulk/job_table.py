"""What is shown while a list of jobs runs."""

import time
from typing import TYPE_CHECKING, Any

from zoo.cli.output import drawn_table, note, one_line
from zoo.system.amounts import clock, duration
from zoo_bulk.outcomes import left

if TYPE_CHECKING:
    from rich.live import Live

    from zoo_bulk.job import Job, Outcome
    from zoo_bulk.plans import Plan
    from zoo_bulk.store import Store

_MOST_SHOWN = 12
"""Running jobs in the table."""

_REFRESH = 2.0
"""Seconds between two drawings."""


class JobTable:
    """Shows what happens: in a table on a terminal, else as lines."""

    def __init__(self, plan: "Plan", store: "Store", live: "Live | None") -> None:
        self._live = live
        self._all = len(plan.jobs)
        self._waiting = len(left(plan, store))
        self._counts = {"done": self._all - self._waiting, "failed": 0, "left out": len(plan.left_out)}
        self._ended = 0
        self._running: dict[str, float] = {}
        self._begun = self._drawn = time.monotonic()

    def started(self, job: "Job") -> None:
        self._running[job.name] = time.monotonic()

    def ended(self, outcome: "Outcome") -> None:
        self._running.pop(outcome.job.name, None)
        self._waiting -= 1
        self._ended += 1
        self._counts["done" if outcome.status == "done" else "failed"] += 1
        if outcome.status == "failed":
            self._say(f"{outcome.job.name}: failed: {outcome.reason}; {outcome.job.log} has its output")
        elif self._live is None:
            self._say(f"{outcome.job.name}: {outcome.status} in {duration(outcome.seconds)}")
        self.tick()

    def tick(self) -> None:
        if self._live is not None and time.monotonic() - self._drawn > _REFRESH:
            self._drawn = time.monotonic()
            self._live.update(self._table(), refresh=True)

    def summary(self) -> str:
        """``12 of 20 done, 1 failed; 4 min left, which would end at 14:05 on Friday.``"""
        parts = [f"{self._counts['done']} of {self._all} done"]
        counts = {**self._counts, "running": len(self._running)}
        parts += [f"{counts[what]} {what}" for what in ("running", "failed", "left out") if counts[what]]
        text = ", ".join(parts)
        if self._waiting and self._ended:
            seconds = (time.monotonic() - self._begun) / self._ended * self._waiting
            text += f"; {duration(seconds)} left, which would end at {clock(seconds)}"
        return f"{text}."

    def _say(self, text: str) -> None:
        if self._live is None:
            note(one_line(text))
        else:
            self._live.console.print(one_line(text))

    def _table(self) -> Any:
        from rich.console import Group

        now = time.monotonic()
        longest = sorted(self._running.items(), key=lambda item: item[1])[:_MOST_SHOWN]
        rows = [(name, duration(now - begun)) for name, begun in longest]
        return Group(drawn_table(("running", "for"), rows, ("for",)), self.summary())

"""The table of running jobs: what runs, what is done, failed and left, and when all will be."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from rich.live import Live

from zoo.results import Row
from zoo_bulk import plans
from zoo_bulk.cli import JobTable
from zoo_bulk.jobs import Job, Outcome
from zoo_bulk.plans import TASKS, Plan


def test_the_table_shows_what_runs_and_how_much_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 20.0, 30.0, 30.0, 30.0, 30.0])
    monkeypatch.setattr("zoo_bulk.cli.time.monotonic", lambda: next(clock))
    jobs = [Job(name, "a:b", {}, tmp_path / "log", key=name) for name in "abcd"]
    rows = [Row(task="evaluate", weights=job.name) for job in jobs]
    store = plans.store_in(tmp_path)
    store.put(Outcome(jobs[0], "done", {"rows": [{}], "speeds": [{}]}, "", 1.0))
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=True, width=100)
    with Live(console=console, auto_refresh=False) as live:
        table = JobTable(Plan(TASKS["evaluate"], jobs, rows, []), store, live)
        table.started(jobs[1])
        table.started(jobs[2])
        table.ended(Outcome(jobs[1], "failed", None, "a crash", 30.0))
    shown = " ".join(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn.getvalue()).split())
    assert "b: failed: a crash" in shown
    assert re.search(
        r"running for c 10 s 1 of 4 done, 1 running, 1 failed; 60 s left, which would end at \d\d:\d\d", shown
    )


def test_without_a_terminal_each_end_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [job] = [Job("a", "a:b", {}, tmp_path / "log", key="a")]
    plan = Plan(TASKS["evaluate"], [job], [Row(task="evaluate", weights="a")], [])
    table = JobTable(plan, plans.store_in(tmp_path), None)
    table.started(job)
    table.ended(Outcome(job, "done", None, "", 3.0))
    assert capsys.readouterr().err == "a: done in 3 s\n"
    assert table.summary() == "1 of 1 done."

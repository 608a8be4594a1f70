"""Memory of jobs: it is measured, and decides how many run beside each other."""

import os
import resource
from pathlib import Path

import pytest

from zoo_bulk import jobs, memory
from zoo_bulk.jobs import Job

FUNCTIONS = "support.job_functions"
SMALL = 100 << 20


def test_what_a_process_holds_is_at_most_what_the_system_says_it_held() -> None:
    """But for the pages that Linux has not counted yet."""
    assert 0 < memory.held(os.getpid()) <= 1.1 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert memory.held(1 << 30) == 0, "there is no such process"


def test_the_peak_of_a_job_is_its_own_and_not_that_of_an_earlier_one(tmp_path: Path) -> None:
    sizes = (200, 1)
    outcomes = jobs.run_here(
        [Job("one", f"{FUNCTIONS}:allocate", {"megabytes": size}, tmp_path / "log") for size in sizes]
    )
    large, small = (outcome.memory >> 20 for outcome in outcomes)
    assert 400 < large < 600, "twice: the bytes, and their copy"
    assert small < 100


def test_jobs_that_do_not_fit_into_memory_run_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda: SMALL)
    monkeypatch.setattr(memory, "is_short", lambda: False)
    events: list[str] = []
    four = [Job(str(n), f"{FUNCTIONS}:square", {"number": n}, tmp_path / "log") for n in range(4)]
    jobs.run_here(four, at_once=4, started=lambda _: events.append("started"), ended=lambda _: events.append("ended"))
    assert events == ["started", "ended"] * 4


def test_if_memory_runs_short_the_last_job_begins_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([True])
    monkeypatch.setattr(jobs, "_LOOK", 0.1)
    monkeypatch.setattr(memory, "is_short", lambda: both_began() and next(looks, False))
    arguments = {"folder": str(tmp_path), "seconds": 0.5}
    names = ("first", "second")

    def both_began() -> bool:
        return all((tmp_path / name).exists() for name in names)

    two = [Job(name, f"{FUNCTIONS}:note", {**arguments, "name": name}, tmp_path / "log") for name in names]
    outcomes = jobs.run_here(two, at_once=2)
    assert [outcome.status for outcome in outcomes] == ["done", "done"]
    calls = [len((tmp_path / name).read_text().splitlines()) for name in names]
    assert calls == [1, 2], "the first goes on"


def test_a_limit_of_the_control_group_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of version 2: what is left is the limit without what is used, of which idle pages of files can be taken."""
    for name, text in (("max", "1000"), ("current", "900"), ("stat", "anon 200\ninactive_file 300\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory._left_in(tmp_path) == 400
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._left_in(tmp_path) is None

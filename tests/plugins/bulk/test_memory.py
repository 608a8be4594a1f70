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


def test_what_is_free_is_the_least_of_the_machine_and_of_every_control_group_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    inner = groups / "outer" / "inner"
    for folder in (proc / "self", inner):
        folder.mkdir(parents=True)
    monkeypatch.setattr(memory, "PROC", proc)
    monkeypatch.setattr(memory, "GROUPS", groups)
    assert memory.available() is None, "elsewhere than on Linux nothing is known"
    assert memory.fits(1 << 60, [1])
    assert not memory.is_short()

    def limit(group: Path, size: int) -> None:
        for name, text in (("max", str(size)), ("current", "24"), ("stat", "anon 0\n")):
            (group / f"memory.{name}").write_text(text)

    (proc / "meminfo").write_text("MemTotal:  9000 kB\nMemAvailable:    4000 kB\n")
    assert memory.available() == 4000 * 1024
    (proc / "self" / "cgroup").write_text("1:name=systemd:/other\n0::/outer/inner\n")
    limit(groups / "outer", 2024)
    assert memory.available() == 2000, "of a group around"
    limit(inner, 3024)
    assert memory.available() == 2000, "the tighter one"
    limit(inner, 1024)
    assert memory.available() == 1000
    limit(tmp_path, 25)
    assert memory.available() == 1000, "what lies outside of the groups is none"


def test_a_job_fits_if_all_may_grow_as_large_and_the_reserve_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {1: 40, 2: 150}
    monkeypatch.setattr(memory, "held", held.__getitem__)
    needed = (100 - 40) + 0 + 100 + memory.RESERVE  # the first grows by 60, the second has more than expected
    for free, answer in ((needed, False), (needed + 1, True)):
        monkeypatch.setattr(memory, "available", lambda free=free: free)
        assert memory.fits(100, [1, 2]) is answer
    for free, answer in ((memory.RESERVE - 1, True), (memory.RESERVE, False), (0, True)):
        monkeypatch.setattr(memory, "available", lambda free=free: free)
        assert memory.is_short() is answer

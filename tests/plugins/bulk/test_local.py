"""Jobs in real processes: all are done, a failure stays alone, and whatever ends the parent ends the jobs cleanly."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.children import wait_for

from zoo_bulk import jobs
from zoo_bulk.jobs import Job

FUNCTIONS = "support.job_functions"


def make(name: str, function: str, folder: Path, **arguments: Any) -> Job:
    return Job(name, f"{FUNCTIONS}:{function}", arguments, folder / f"{name}.log")


def test_every_job_is_done_once_and_its_outcome_stands_in_its_place(tmp_path: Path) -> None:
    order: list[tuple[str, str]] = []
    outcomes = jobs.run_here(
        [make(f"job{number}", "square", tmp_path, number=number) for number in range(7)],
        at_once=2,
        threads=1,
        started=lambda job: order.append(("started", job.name)),
        ended=lambda outcome: order.append((outcome.status, outcome.job.name)),
    )
    assert [outcome.result["square"] for outcome in outcomes] == [0, 1, 4, 9, 16, 25, 36]
    assert {outcome.result["threads"] for outcome in outcomes} == {1}
    assert len({outcome.result["process"] for outcome in outcomes}) == 2
    assert sorted(order) == sorted([(what, f"job{n}") for n in range(7) for what in ("started", "done")])
    assert (tmp_path / "job3.log").read_text() == "squaring 3\n"


@pytest.mark.skipif(not hasattr(os, "getsid"), reason="needs POSIX sessions")
def test_a_process_is_in_the_session_of_its_parent_and_in_a_group_of_its_own(tmp_path: Path) -> None:
    """Ctrl-C goes to the parent's group. Linux compares nice values only within a session."""
    [outcome] = jobs.run_here([make("job", "place", tmp_path)])
    expected = {"session": os.getsid(0), "group": outcome.result["process"], "nice": os.nice(0)}
    assert outcome.result == {**expected, "process": outcome.result["process"]}


def test_each_process_sees_a_gpu_of_its_own(tmp_path: Path) -> None:
    two = [make(f"job{number}", "gpu", tmp_path) for number in range(2)]
    outcomes = jobs.run_here(two, at_once=2, keep=False, gpus=["3", "GPU-5"])
    assert {outcome.result for outcome in outcomes} == {"3", "GPU-5"}


def test_processes_are_not_kept_if_they_are_not_to_be(tmp_path: Path) -> None:
    three = [make(f"job{number}", "square", tmp_path, number=number) for number in range(3)]
    outcomes = jobs.run_here(three, keep=False)
    assert len({outcome.result["process"] for outcome in outcomes}) == 3


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("crash", "its process crashed: signal SIGSEGV"),
        ("exit", "its process crashed: exit code 3"),
        ("killed", "its process crashed: signal SIGKILL, for example because memory ran out"),
        ("memory", "memory ran out"),
        ("error", "no such images"),
        ("mistake", "RuntimeError: a mistake"),
    ],
)
def test_a_job_that_fails_has_a_reason_and_the_others_go_on(how: str, reason: str, tmp_path: Path) -> None:
    first, second = make("bad", "fail", tmp_path, how=how), make("good", "square", tmp_path, number=3)
    bad, good = jobs.run_here([first, second])
    assert (bad.status, bad.reason, bad.result) == ("failed", reason, None)
    assert (good.status, good.result["square"]) == ("done", 9)


PARENT = """
import sys
from pathlib import Path
from zoo_bulk import jobs
from zoo_bulk.jobs import Job
jobs.PATIENCE = 0.5
folder = Path(sys.argv[1])
arguments = {"folder": str(folder)}
jobs.run_here([Job("one", f"support.job_functions:{sys.argv[2]}", arguments, folder / "log")])
"""


def start(folder: Path, function: str) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder), function], env=environment, stderr=subprocess.DEVNULL
    )


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_running_job_keeps_what_it_has_done_however_the_parent_ends(how: signal.Signals, tmp_path: Path) -> None:
    parent = start(tmp_path, "keep_going")
    wait_for((tmp_path / "count").exists)
    parent.send_signal(how)
    assert parent.wait(30) == -(signal.SIGKILL if how == signal.SIGKILL else signal.SIGINT)  # SIGTERM is as Ctrl-C
    wait_for((tmp_path / "kept").exists)
    count = (tmp_path / "kept").read_text()
    time.sleep(0.2)
    assert (tmp_path / "count").read_text() == count  # nothing counts on


def test_a_job_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    parent = start(tmp_path, "never_stop")
    wait_for((tmp_path / "count").exists)
    parent.send_signal(signal.SIGINT)
    begun = time.monotonic()
    assert parent.wait(30) == -signal.SIGINT
    assert time.monotonic() - begun < 20

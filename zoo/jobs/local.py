"""Runs jobs on this machine: each in a process of its own, so that one that fails or crashes takes no other with it."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from zoo.jobs.worker import PATIENCE
from zoo.system.process import ending


class Job(NamedTuple):
    """A call of ``function``, "module:name", with ``arguments`` that JSON can hold; what it prints goes to ``log``."""

    name: str
    function: str
    arguments: Mapping[str, Any]
    log: Path


class Outcome(NamedTuple):
    """How a job ended. ``result`` is what its function returned, as JSON holds it; ``reason`` why it failed."""

    job: Job
    status: Literal["done", "failed", "stopped"]
    result: Any
    reason: str
    seconds: float


def run(
    jobs: Sequence[Job],
    *,
    at_once: int = 1,
    threads: int | None = None,
    keep: bool = True,
    started: Callable[[Job], None] = lambda job: None,
    ended: Callable[[Outcome], None] = lambda outcome: None,
    tick: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """Runs ``jobs`` in their order, ``at_once`` at a time.

    A job that raises or whose process crashes has failed; the others go on. Ctrl-C interrupts the running jobs, waits
    until they have kept what they have done, and raises KeyboardInterrupt; a second Ctrl-C kills them.

    Args:
        jobs: The jobs.
        at_once: How many run at a time.
        threads: Threads of each. By default the cores of this machine are shared out.
        keep: Whether a process that has done a job does the next one too, which saves its start.
        started: Called when a job begins.
        ended: Called when a job has ended.
        tick: Called about once a second meanwhile. All three are called by the calling thread.

    Returns:
        The outcomes, in the order of ``jobs``.
    """
    at_once = max(1, min(at_once, len(jobs)))
    threads = threads or max(1, (os.cpu_count() or 1) // at_once)
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    events: queue.SimpleQueue[tuple[int, Outcome | None]] = queue.SimpleQueue()
    for index in range(len(jobs)):
        waiting.put(index)
    workers = [_Worker(threads, keep) for _ in range(at_once)]
    for worker in workers:
        threading.Thread(target=worker.work, args=(jobs, waiting, events), daemon=True).start()
    outcomes: dict[int, Outcome] = {}
    try:
        while len(outcomes) < len(jobs):
            try:
                index, outcome = events.get(timeout=1)
            except queue.Empty:
                tick()
                continue
            if outcome is None:
                started(jobs[index])
            else:
                outcomes[index] = outcome
                ended(outcome)
    finally:
        _stop(workers)
    return [outcomes[index] for index in range(len(jobs))]


def _stop(workers: "Sequence[_Worker]") -> None:
    """Interrupts what still runs, and waits for it."""
    try:
        for worker in workers:
            worker.interrupt()
        for worker in workers:
            worker.wait(PATIENCE)
    finally:
        for worker in workers:
            worker.kill()


class _Worker:
    """A process, and the thread that gives it jobs. The process is replaced if it ends."""

    def __init__(self, threads: int, keep: bool) -> None:
        self.threads = threads
        self.keep = keep
        self.child: subprocess.Popen[str] | None = None
        self.is_stopping = False
        self._lock = threading.Lock()
        """Held while the process is started or told to stop."""

    def work(
        self,
        jobs: Sequence[Job],
        waiting: "queue.SimpleQueue[int]",
        events: "queue.SimpleQueue[tuple[int, Outcome | None]]",
    ) -> None:
        while not self.is_stopping:
            try:
                index = waiting.get_nowait()
            except queue.Empty:
                return
            events.put((index, None))
            start = time.monotonic()
            said = self._ask(jobs[index])
            status: Literal["done", "failed", "stopped"] = "done" if "result" in said else "failed"
            if said.get("stopped"):
                status = "stopped"
            seconds = time.monotonic() - start
            events.put((index, Outcome(jobs[index], status, said.get("result"), said.get("error", ""), seconds)))

    def _ask(self, job: Job) -> dict[str, Any]:
        """The worker's answer."""
        with self._lock:
            if self.is_stopping:
                return {"stopped": True}
            if self.child is None:
                self.child = self._start()
            child = self.child
        assert child.stdin is not None
        assert child.stdout is not None
        asked = {"function": job.function, "arguments": dict(job.arguments), "log": str(job.log)}
        with suppress(BrokenPipeError):  # it has ended already; its exit code says how
            child.stdin.write(json.dumps(asked) + "\n")
            child.stdin.flush()
        answer = child.stdout.readline()
        if answer and self.keep:
            return dict(json.loads(answer))
        with self._lock:
            self.child = None
        with suppress(OSError):
            child.stdin.close()
        code = child.wait()
        child.stdout.close()
        if answer:
            return dict(json.loads(answer))
        return {"stopped": True} if self.is_stopping else {"error": f"its process crashed: {ending(code)}"}

    def _start(self) -> "subprocess.Popen[str]":
        # It finds the plugins that this process has found, and imports nothing from the working directory.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        environment |= {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "zoo.jobs.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C reaches this process alone, which hands it on
        )

    def interrupt(self) -> None:
        with self._lock:
            self.is_stopping = True
            if self.child is not None and self.child.stdin is not None:
                with suppress(OSError):
                    self.child.stdin.close()  # the end of its standard input interrupts it

    def wait(self, seconds: float) -> None:
        if (child := self.child) is not None:
            with suppress(subprocess.TimeoutExpired):
                child.wait(seconds)

    def kill(self) -> None:
        if (child := self.child) is not None:  # the thread forgets it as soon as it has ended
            child.kill()
            child.wait()
            if child.stdout is not None:
                child.stdout.close()

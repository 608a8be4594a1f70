"""Runs jobs on this machine: each in a process of its own, so that one that fails or crashes takes no other with it."""

import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from zoo_bulk import memory
from zoo_bulk.child import Child
from zoo_bulk.job import Job, Outcome
from zoo_bulk.worker import PATIENCE

_LOOK = 1.0
"""Seconds between two looks at memory."""


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt; outside the main thread, where Python allows no handlers, nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


@_sigterm_as_ctrl_c()
def run(
    jobs: Sequence[Job],
    *,
    at_once: int | None = 1,
    threads: int | None = None,
    keep: bool = True,
    gpus: Sequence[str] = (),
    started: Callable[[Job], None] = lambda job: None,
    ended: Callable[[Outcome], None] = lambda outcome: None,
    tick: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """Runs ``jobs`` in their order, ``at_once`` at a time.

    A job that raises or whose process crashes has failed; the others go on. A job begins beside others only if as much
    memory is free as the largest job took so far. If memory runs short all the same, the job that began last is ended
    and begun again later. Ctrl-C or SIGTERM interrupts the running jobs, waits until they have kept what they have
    done, and raises KeyboardInterrupt; a second one kills them.

    Args:
        jobs: The jobs.
        at_once: How many run at a time; None for as many as there are cores.
        threads: Threads of each. By default the cores of this machine are shared out.
        keep: Whether a process that has done a job does the next one too, which saves its start.
        gpus: GPUs as ``CUDA_VISIBLE_DEVICES`` names them. Each process sees one, in turns; by default all.
        started: Called when a job begins.
        ended: Called when a job has ended.
        tick: Called about once a second meanwhile. All three are called by the calling thread.

    Returns:
        The outcomes, in the order of ``jobs``.
    """
    at_once = max(1, min(at_once or cores(), len(jobs)))
    threads = threads or max(1, cores() // at_once)
    events: queue.SimpleQueue[tuple[int, Outcome | None]] = queue.SimpleQueue()
    waiting = _Waiting(len(jobs))
    workers = [Child(threads, keep, gpus[number % len(gpus)] if gpus else None) for number in range(at_once)]
    for worker in workers:
        threading.Thread(target=_work, args=(worker, jobs, waiting, events), daemon=True).start()
    outcomes: dict[int, Outcome] = {}
    watched = time.monotonic()
    try:
        while len(outcomes) < len(jobs):
            if time.monotonic() - watched > _LOOK:
                watched = time.monotonic()
                waiting.spare_memory()
                tick()
            try:
                index, outcome = events.get(timeout=_LOOK)
            except queue.Empty:
                continue
            if outcome is None:
                started(jobs[index])
            else:
                outcomes[index] = outcome
                ended(outcome)
    finally:
        _stop(workers)
    return [outcomes[index] for index in range(len(jobs))]


def _work(
    worker: Child,
    jobs: Sequence[Job],
    waiting: "_Waiting",
    events: "queue.SimpleQueue[tuple[int, Outcome | None]]",
) -> None:
    """The thread of a worker: gives it jobs."""
    while (index := waiting.take(worker)) is not None:
        events.put((index, None))
        outcome = worker.do(jobs[index])
        waiting.end(worker, index, outcome)
        if outcome is not None:
            events.put((index, outcome))


def _stop(workers: Sequence[Child]) -> None:
    """Interrupts what still runs, and waits for it."""
    try:
        for worker in workers:
            worker.interrupt()
        for worker in workers:
            worker.wait(PATIENCE)
    finally:
        for worker in workers:
            worker.kill()


class _Waiting:
    """The jobs that have not begun, and the workers that are busy, in the order in which they began."""

    def __init__(self, count: int) -> None:
        self._left = deque(range(count))
        self._busy: list[Child] = []
        self._largest = 0
        self._changed = threading.Condition()

    def take(self, worker: Child) -> int | None:
        """The next job, as soon as it fits into memory; None if there is none, or the worker is to stop."""
        with self._changed:
            while self._left and not worker.is_stopping:
                if not self._busy or memory.fits(self._largest or memory.USUAL, [one.process for one in self._busy]):
                    self._busy.append(worker)
                    return self._left.popleft()
                self._changed.wait(1)
        return None

    def end(self, worker: Child, index: int, outcome: Outcome | None) -> None:
        """The worker's job has ended; without an outcome it is to begin again."""
        with self._changed:
            self._busy.remove(worker)
            if outcome is None:
                self._left.appendleft(index)
            else:
                self._largest = max(self._largest, outcome.memory)
            self._changed.notify_all()

    def spare_memory(self) -> None:
        """Notes what each process holds; if memory runs short, ends the job that began last."""
        with self._changed:
            for worker in self._busy:
                worker.look()
            if len(self._busy) > 1 and memory.is_short():
                self._busy[-1].give_way()

"""Parallel work, and its total progress."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")


def start_each(names: Sequence[str], work: Callable[[str], T], jobs: int) -> dict[str, Future[T]]:
    """Starts ``work`` for each of ``names``, ``jobs`` at a time; returns the futures.

    Daemon threads: Ctrl-C ends the program at once, and the next fetch resumes partial files. A thread pool
    would wait for every source's timeout.
    """
    results: dict[str, Future[T]] = {name: Future() for name in names}
    waiting: SimpleQueue[str] = SimpleQueue()
    for name in names:
        waiting.put(name)

    def run() -> None:
        while True:
            try:
                name = waiting.get_nowait()
            except Empty:
                return
            try:
                results[name].set_result(work(name))
            except BaseException as error:  # raised by result()
                results[name].set_exception(error)

    for _ in range(min(jobs, len(names))):
        threading.Thread(target=run, daemon=True).start()
    return results


class TotalProgress:
    """Adds up the progress of several downloads; ``total`` is their expected size in bytes."""

    def __init__(self, progress: Callable[[int, int], None], total: int) -> None:
        self._progress = progress
        self._total = total
        self._parts: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def of(self, name: str) -> Callable[[int, int], None]:
        """The progress callback of the download ``name``: its bytes so far, its size."""

        def report(done: int, size: int) -> None:
            with self._lock:
                self._parts[name] = (done, size)
                all_done, sizes = map(sum, zip(*self._parts.values(), strict=True))
                self._progress(all_done, max(self._total, sizes))

        return report

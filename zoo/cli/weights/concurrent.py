"""Several pieces of work at a time, and one progress for all of them."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")


def start_each(names: Sequence[str], work: Callable[[str], T], jobs: int) -> dict[str, Future[T]]:
    """Begins ``work`` for each of ``names``, ``jobs`` at a time; returns where each result will be.

    In threads that do not outlive the main one: Ctrl-C ends the program at once, as kill does, and what
    has arrived by then stays for the next fetch. A thread pool would wait for every source's time limit.
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
            except BaseException as error:  # it is raised where the result is asked for
                results[name].set_exception(error)

    for _ in range(min(jobs, len(names))):
        threading.Thread(target=run, daemon=True).start()
    return results


class Shares:
    """Adds up what several fetches tell: ``total`` is what they are known to come to at first."""

    def __init__(self, tell: Callable[[int, int], None] | None, total: int) -> None:
        self._tell = tell
        self._total = total
        self._told: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def of(self, name: str) -> Callable[[int, int], None]:
        """What the fetch of ``name`` calls with its bytes here and its bytes in all."""

        def tell(here: int, size: int) -> None:
            assert self._tell is not None
            with self._lock:
                self._told[name] = (here, size)
                told = self._told.values()
                self._tell(sum(here for here, _ in told), max(self._total, sum(size for _, size in told)))

        return tell

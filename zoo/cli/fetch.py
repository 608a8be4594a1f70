"""``zoo fetch``: downloads weights into the cache, several at a time."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TypeVar

import click

from zoo.cli import options
from zoo.cli.output import do_each, echo, outcomes, print_json, show_progress
from zoo.loading.resolve import find, weights_for
from zoo.manifest import Weights
from zoo.registry import Found
from zoo.trust import first_use

T = TypeVar("T")


def _refuse(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        raise click.UsageError("--allow-unpinned was removed: weights without a sha256 are pinned on first use.")


@click.command(epilog="Example: zoo fetch 'resnet20.*'")
@options.names
@click.option("--source", metavar="HUB", help="Ask only this hub: a directory, s3://, https://, hf.")
@click.option("--allow-unpinned", is_flag=True, hidden=True, expose_value=False, callback=_refuse, help="Removed.")
@click.option("-j", "--jobs", type=click.IntRange(1, 64), default=4, show_default=True, help="Parallel downloads.")
@options.json
@click.pass_context
def fetch(context: click.Context, names: tuple[str, ...], source: str | None, jobs: int, as_json: bool) -> None:
    """Download weights into the cache and print their paths.

    NAME is ARCH.TAG, ARCH for its default weights, or a pattern such as 'resnet20.*'. Weights without a recorded sha256
    are pinned on first use (zoo lock --user).
    """
    wanted, failed, code = do_each(names, _find)
    total = sum(entry.size for _, entry in wanted.values())
    with show_progress(next(iter(wanted)) if len(wanted) == 1 else f"{len(wanted)} files", bytes=True) as progress:
        total_progress = TotalProgress(progress, total) if progress else None

        def work(name: str) -> first_use.Fetched:
            report = total_progress.of(name) if total_progress else None
            fetched = first_use.fetch(*wanted[name], source=source, progress=report)
            if report:
                size = fetched.path.stat().st_size
                report(size, size)  # also for a cached file
            return fetched

        started = start_each(list(wanted), work, jobs)
        files, failures, worst = do_each(list(wanted), lambda name: started[name].result())
    for fetched in files.values() if not as_json else ():
        echo(fetched.path)
    if as_json:
        done = {
            name: {"weights": entry.name, "file": file, "size": file.stat().st_size, "pinned": entry.pinned}
            for name, (entry, file) in files.items()
        }
        print_json(outcomes(done, failed | failures))
    context.exit(max(code, worst) if len(names) == 1 else int(bool(code or worst)))


def _find(name: str) -> tuple[Found, Weights]:
    found = find(name)
    return found, weights_for(found)


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
        """Returns the progress callback of the download ``name``: its bytes so far, its size."""

        def report(done: int, size: int) -> None:
            with self._lock:
                self._parts[name] = (done, size)
                all_done, sizes = map(sum, zip(*self._parts.values(), strict=True))
                self._progress(all_done, max(self._total, sizes))

        return report

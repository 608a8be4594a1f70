"""Progress on standard error, and amounts as people read them.

A bar on a terminal, else nothing but one line for a download.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


_shown: "Progress | None" = None
"""The bars on the terminal: what begins while one is shown gets a line below it."""


@contextmanager
def bar(label: str, *, bytes: bool = False) -> Iterator[Callable[[int, int], None] | None]:
    """Shows a bar on standard error; yields its callback (done, total), or None if there is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    with nullcontext(_shown) if _shown is not None else _display() as display:
        assert display is not None
        task = display.add_task(label, total=None, amount="")

        def report(done: int, total: int) -> None:
            amount = f"{megabytes(done)} of {megabytes(total)}" if bytes else f"{done:,} of {total:,}"
            display.update(task, completed=done, total=total or None, amount=amount)

        try:
            yield report
        finally:
            display.remove_task(task)


@contextmanager
def of_download(name: str, source: str) -> Iterator[Callable[[int, int], None]]:
    """Shows a bar for the download of ``name``; without a terminal, one line when it begins."""
    with bar(name, bytes=True) as shown:
        is_said = False

        def report(done: int, total: int) -> None:
            nonlocal is_said
            if shown is not None:
                shown(done, total)
            elif not is_said:
                amount = f" {megabytes(total)}" if total else ""
                print(f"{name}: fetching{amount} from {source}", file=sys.stderr, flush=True)
                is_said = True

        yield report


@contextmanager
def _display() -> "Iterator[Progress]":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    global _shown
    console = Console(stderr=True, markup=False, emoji=False, highlight=False)
    columns = [TextColumn(f"{{task.{part}}}", markup=False) for part in ("description", "fields[amount]")]
    with Progress(
        columns[0], BarColumn(), columns[1], TimeRemainingColumn(), console=console, transient=True
    ) as display:
        _shown = display
        try:
            yield display
        finally:
            _shown = None


def megabytes(size: int) -> str:
    """Returns ``97.8 MB`` for 97,800,000 bytes."""
    return f"{size / 1e6:,.1f} MB"


def count(number: int) -> str:
    """Returns ``60.2 M`` for 60,192,808."""
    for unit, symbol in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        if number >= 0.9995 * unit:  # so that 999,600 is 1.00 M, not 1e+03 k
            digits = f"{number / unit:#.3g}".rstrip(".")
            return f"{digits}{symbol}"
    return str(number) if number else ""


def size(bytes: int) -> str:
    """Returns ``1.1 MB`` for 1,102,340 bytes."""
    text = count(bytes)
    return f"{text}{'' if text[-1:].isalpha() else ' '}B" if text else ""


def duration(seconds: float) -> str:
    """Returns ``2 h 05 min``, ``12 min``, or ``40 s``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def clock(seconds: float) -> str:
    """Returns the time in ``seconds``: ``14:05 on Friday``."""
    return time.strftime("%H:%M on %A", time.localtime(time.time() + seconds))

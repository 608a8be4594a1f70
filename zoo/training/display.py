"""Progress output during training."""

import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol


class Display(Protocol):
    """Progress output, called after every step; epochs and steps count from 1."""

    def announce(self, text: str) -> None: ...

    def start(self, epoch: int, epochs: int, steps: int) -> None: ...

    def step(self, epoch: int, step: int, loss: float, lr: float) -> None: ...

    def finish_epoch(self, row: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


def describe(row: Mapping[str, Any]) -> str:
    """A log row as one line."""
    text = (
        f"epoch {row['epoch']:>3}  loss {row['loss']:.4f}  train {row['train_top1']:.2f}%  "
        f"lr {row['lr']:.4g}  {row['images_per_s']:.0f} images/s"
    )
    return text + (f"  validation {row['val_top1']:.2f}%" if "val_top1" in row else "")


class Silent:
    """Shows nothing."""

    def announce(self, text: str) -> None: ...

    def start(self, epoch: int, epochs: int, steps: int) -> None: ...

    def step(self, epoch: int, step: int, loss: float, lr: float) -> None: ...

    def finish_epoch(self, row: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


EVERY = 30.0
"""Seconds between two lines within an epoch."""


class Lines(Silent):
    """One line per epoch on standard error, and one every half minute during long epochs: for logs and pipes."""

    def __init__(self) -> None:
        self._epochs = self._steps = 0
        self._said = time.monotonic()

    def announce(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def start(self, epoch: int, epochs: int, steps: int) -> None:
        self._epochs, self._steps = epochs, steps

    def step(self, epoch: int, step: int, loss: float, lr: float) -> None:
        now = time.monotonic()
        if now - self._said >= EVERY:
            self._said = now
            place = f"epoch {epoch}/{self._epochs}  step {step}/{self._steps}"
            print(f"{place}  loss {loss:.4f}  lr {lr:.4g}", file=sys.stderr, flush=True)

    def finish_epoch(self, row: Mapping[str, Any]) -> None:
        self._said = time.monotonic()
        print(describe(row), file=sys.stderr, flush=True)


class Bar(Silent):
    """A progress bar for the current epoch, and a line for each finished one, for terminals."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[state]}"),
            console=Console(stderr=True),
            auto_refresh=False,  # a thread that draws would take time from the steps
            transient=True,
        )
        self._task: Any = None
        self._drawn = 0.0

    def announce(self, text: str) -> None:
        self._progress.console.print(text, highlight=False, markup=False)

    def start(self, epoch: int, epochs: int, steps: int) -> None:
        self._progress.start()
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(f"epoch {epoch}/{epochs}", total=steps, state="")

    def step(self, epoch: int, step: int, loss: float, lr: float) -> None:
        now = time.monotonic()
        if now - self._drawn > 0.2:
            self._drawn = now
            self._progress.update(self._task, completed=step, state=f"loss {loss:.3f} lr {lr:.3g}")
            self._progress.refresh()

    def finish_epoch(self, row: Mapping[str, Any]) -> None:
        self._progress.console.print(describe(row), highlight=False)

    def close(self) -> None:
        self._progress.stop()


def choose_display() -> Display:
    """A bar if standard error is a terminal, lines otherwise."""
    return Bar() if sys.stderr.isatty() else Lines()

"""The run directory.

``config.json``             model, recipe, data, versions, command
``log.jsonl``               one row an epoch
``checkpoint.safetensors``  the state to resume from
``best.safetensors``        the network of the best epoch so far, if the recipe keeps that
``epochs/3.safetensors``    the network after epoch 3, if it was asked for
``model.safetensors``       the trained network, written at the end
``confusion.csv``           validation images by true and predicted class
``mistakes.csv``            the validation images that the network gets wrong
``events.*``                the log's numbers for TensorBoard, if that is installed
"""

import json
import os
import sys
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from importlib.util import find_spec
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from zoo.errors import TrainingError
from zoo.system import distributed, storage
from zoo.training.recipe import Recipe

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from zoo.training.pretrained import Teacher

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # asked before it is used

IDENTITY = ("model", "args", "init", "teacher", "recipe", "data", "preprocess")
"""The parts of config.json that have to be the same for a training to be resumed."""

FREE = ("recipe.name", "recipe.note", "recipe.epochs", "init.weights", "teacher.weights")
"""Values in them that may change all the same."""

PLACE = ("versions", "code", "plugin_code", "device", "threads", "processes", "cpu", "gpu")
"""The parts that say where it was computed: where they change, a bit of the numbers may."""

_SECONDS = 30.0
"""Seconds between two lines within an epoch."""


class Silent:
    """Progress output that shows nothing, called after every step; epochs and steps count from 1. Others derive."""

    def announce(self, text: str) -> None: ...

    def start(self, epoch: int, epochs: int, steps: int) -> None: ...

    def step(self, epoch: int, step: int, loss: float, lr: float) -> None: ...

    def finish_epoch(self, row: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class Lines(Silent):
    """One line per epoch on standard error, and one every half minute during long epochs: for logs and pipes."""

    def __init__(self) -> None:
        self._epochs = self._steps = 0
        self._printed = time.monotonic()

    def announce(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def start(self, epoch: int, epochs: int, steps: int) -> None:
        self._epochs, self._steps = epochs, steps

    def step(self, epoch: int, step: int, loss: float, lr: float) -> None:
        now = time.monotonic()
        if now - self._printed >= _SECONDS:
            self._printed = now
            place = f"epoch {epoch}/{self._epochs}  step {step}/{self._steps}"
            print(f"{place}  loss {loss:.4f}  lr {lr:.4g}", file=sys.stderr, flush=True)

    def finish_epoch(self, row: Mapping[str, Any]) -> None:
        self._printed = time.monotonic()
        print(describe_row(row), file=sys.stderr, flush=True)


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
        self._progress.console.print(describe_row(row), highlight=False)

    def close(self) -> None:
        self._progress.stop()


def choose_display() -> Silent:
    """Returns a bar if standard error is a terminal, lines otherwise."""
    return Bar() if sys.stderr.isatty() else Lines()


def describe_row(row: Mapping[str, Any]) -> str:
    """Formats a log row as one line."""
    text = (
        f"epoch {row['epoch']:>3}  loss {row['loss']:.4f}  train {row['train_top1']:.2f}%  "
        f"lr {row['lr']:.4g}  {row['images_per_s']:.0f} images/s"
    )
    return text + (f"  validation {row['val_top1']:.2f}%" if "val_top1" in row else "")


class RunOptions(TypedDict, total=False):
    """Arguments of :class:`Run` that a caller of training passes on."""

    checkpoint_every: int
    keep_epochs: Collection[int]
    stop_after: int | None
    command: str
    display: Silent | None


class Run:
    """A run's directory and how it is carried out.

    ``resume`` continues the run in the directory; otherwise the directory must not contain a run.
    ``checkpoint_every`` writes a checkpoint every N steps in addition to the one after each epoch.
    ``keep_epochs`` names epochs after which the network is kept, 0 for the network before the first: each in
    ``epochs/NUMBER.safetensors``, which is a name of it. ``stop_after`` pauses, ready to be resumed, when so many
    epochs are done. ``display`` shows progress; by default a bar on a terminal and lines elsewhere. ``init`` names the
    trained weights that the network starts from, ``{"weights": name, "sha256": ...}``; ``teacher`` is the network that
    it learns from, if the recipe has ``distill``. ``source`` says where ``data``, ``init`` and ``teacher`` are, so that
    a resumed run finds them. A train hook that leaves the network unfinished says so by ``is_paused``; otherwise its
    weights are kept.

    A resumed run may have other ``epochs``: the schedule is then that of the new length, from where the run
    stands. A finished run that goes on keeps its network beside, as ``model-<epochs>.safetensors``.

    Of several processes the first alone looks at the directory, writes and shows.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        resume: bool = False,
        checkpoint_every: int = 0,
        keep_epochs: Collection[int] = (),
        stop_after: int | None = None,
        command: str = "",
        display: Silent | None = None,
        init: Mapping[str, str] | None = None,
        teacher: "Teacher | None" = None,
        source: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = Path(directory)
        self.resume = resume
        self.checkpoint_every = checkpoint_every
        self.keep_epochs = frozenset(keep_epochs)
        self.stop_after = stop_after
        self.command = command
        self._is_writer = distributed.current().is_first
        self.display = (display or choose_display()) if self._is_writer else Silent()
        self.init = init
        self.teacher = teacher
        self.source = source or {}
        self.is_paused = False
        self.former_epochs: int | None = None
        """The previous number of epochs of a resumed run, if it changes the rest of the schedule."""
        self._events: SummaryWriter | None = None
        self._lock: int | None = None
        """Descriptor that holds the lock of the directory."""

    @property
    def config(self) -> Path:
        return self.directory / "config.json"

    @property
    def log(self) -> Path:
        return self.directory / "log.jsonl"

    @property
    def checkpoint(self) -> Path:
        return self.directory / "checkpoint.safetensors"

    @property
    def model(self) -> Path:
        return self.directory / "model.safetensors"

    @property
    def best(self) -> Path:
        return self.directory / "best.safetensors"

    @property
    def _files(self) -> tuple[Path, ...]:
        return self.config, self.log, self.checkpoint, self.model

    def check(self) -> None:
        """Raises :class:`TrainingError` if a run cannot be started or resumed in the directory."""
        if not self._is_writer:
            return
        present = [file.name for file in self._files if file.exists()]
        if self.directory.exists() and not self.directory.is_dir():
            raise TrainingError(f"{self.directory} is a file, expected a directory for the run.")
        if present and not self.resume:
            raise TrainingError(
                f"{self.directory} already contains a run ({', '.join(present)}).",
                hint="Resume it (--resume, resume=True) or choose another directory (-o DIR).",
            )
        if self.resume and not self.config.exists():
            raise TrainingError(
                f"{self.directory} contains no run to resume: config.json is missing.",
                hint="Remove --resume to start one.",
            )

    def open(self, config: Mapping[str, Any]) -> None:
        """Starts the run with ``config``, or checks that the existing run has the same."""
        if not self._is_writer:
            return
        self.check()
        config = json.loads(json.dumps({**config, **({"source": self.source} if self.source else {})}))
        if self.resume:
            former = self._check_same(config)
            kept = {key: former[key] for key in ("command", "source") if former.get(key)}
            config = {**config, **_earlier(former, config, self.checkpoint.exists()), **kept}
            self._change_length(former["recipe"]["epochs"], config["recipe"])
        self._acquire()
        try:
            for file in self._files:
                storage.discard_parts(file)
            storage.replace(self.config, (json.dumps(config, indent=2) + "\n").encode())
        except BaseException:
            self.close()
            raise

    def rewind(self, epoch: int) -> None:
        """Removes the log's rows of epochs later than ``epoch``, which will be written again."""
        if not self._is_writer:
            return
        if find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            with storage.explained(self.directory / "events.out.tfevents", 0):
                self._events = SummaryWriter(str(self.directory), purge_step=epoch + 1)
        if rows := self._rows():
            storage.replace(self.log, b"".join(row for row in rows if _epoch_of(row) <= epoch))

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends one row to the log, and its numbers to TensorBoard's."""
        if not self._is_writer:
            return
        storage.append(self.log, (json.dumps(row) + "\n").encode())
        if self._events is not None:
            numbers = {key: value for key, value in row.items() if isinstance(value, int | float) and key != "epoch"}
            with storage.explained(self.directory / "events.out.tfevents", 0):
                for key, value in numbers.items():
                    self._events.add_scalar(key, value, row["epoch"])
                self._events.flush()
        self.display.finish_epoch(row)

    def close(self) -> None:
        """Ends the display, and releases the directory."""
        self.display.close()
        if self._events is not None:
            with suppress(OSError):  # write() has raised it already
                self._events.close()
            self._events = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _acquire(self) -> None:
        """Locks the directory against other processes; raises :class:`TrainingError`."""
        if fcntl is None or self._lock is not None:
            return
        with storage.explained(self.config, 0):
            self.directory.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise TrainingError(
                f"{self.directory} is in use by another training process.",
                hint="Wait for it or stop it, or choose another directory (-o DIR).",
            ) from None
        except OSError:  # a file system without locks
            os.close(descriptor)
        else:
            self._lock = descriptor

    def _change_length(self, before: int, recipe: Mapping[str, Any]) -> None:
        """Changes the number of epochs of a run; raises an error if more are already done."""
        epochs = recipe["epochs"]
        done = max((_epoch_of(row) for row in self._rows() if _epoch_of(row) < inf), default=0)
        if epochs < done:
            raise TrainingError(f"{self.directory} has finished {done:g} epochs, so epochs = {epochs} is too small.")
        if epochs != before and looks_ahead(recipe):
            self.former_epochs = before
        if epochs > before and self.model.exists():
            self.model.rename(self.model.with_stem(f"model-{before}"))

    def _rows(self) -> list[bytes]:
        return self.log.read_bytes().splitlines(keepends=True) if self.log.exists() else []

    def _check_same(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Reads the existing configuration, and checks that it is that of the same run."""
        try:
            former: dict[str, Any] = json.loads(self.config.read_text(encoding="utf-8"))
            recipe = msgspec.convert(former["recipe"], Recipe)  # fields that are newer than the run get their defaults
            former["recipe"] = json.loads(msgspec.json.encode(recipe))
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise TrainingError(f"{self.config} cannot be read: {error}") from None
        differences = [
            f"{name}: the run has {before!r}, requested {now!r}" for name, before, now in _differences(former, config)
        ]
        if differences:
            raise TrainingError(
                f"{self.directory} contains a different run, so it cannot be resumed:\n  " + "\n  ".join(differences),
                hint=f"zoo train --resume -o {self.directory} resumes it unchanged; only --set epochs=N may change.",
            )
        return former


def _differences(former: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Returns (dotted name, before, now) of values that differ, except for notes, names and length."""
    left, right = ({key: config.get(key) for key in IDENTITY} for config in (former, now))
    changes: list[tuple[str, Any, Any]] = []

    def compare(name: str, before: Any, after: Any) -> None:
        if isinstance(before, dict) and isinstance(after, dict):
            for key in sorted({*before, *after}):
                compare(f"{name}.{key}" if name else key, before.get(key), after.get(key))
        elif before != after and name not in FREE and not (before is None and name.endswith(".files")):
            changes.append((name, before, after))

    compare("", left, right)
    return changes


def _earlier(former: Mapping[str, Any], now: Mapping[str, Any], has_begun: bool) -> dict[str, list[dict[str, Any]]]:
    """Returns ``earlier``: the environments in which parts of the run were computed, if not the present one."""
    before = {key: former[key] for key in PLACE if key in former}
    is_elsewhere = any(now.get(key) != before[key] for key in before)
    epochs = former["recipe"]["epochs"]
    is_longer = has_begun and epochs != now["recipe"]["epochs"] and looks_ahead(now["recipe"])
    other = (before if is_elsewhere else {}) | ({"epochs": epochs} if is_longer else {})
    places = [*former.get("earlier", ()), *([other] if other else [])]
    return {"earlier": places} if places else {}


def looks_ahead(recipe: Mapping[str, Any]) -> bool:
    """Returns whether an epoch depends on the total number of epochs."""
    return (
        recipe["schedule"] not in ("constant", "multistep", "step")
        or bool(recipe["lookahead"])
        or bool(recipe.get("progressive"))
    )


def _epoch_of(row: bytes) -> float:
    try:
        return float(json.loads(row)["epoch"])
    except (ValueError, KeyError, TypeError):
        return inf  # a row cut short by a crash

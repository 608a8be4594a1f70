"""The directory of one training: what was asked, what happened, where it stands.

``config.json``             model, recipe, data, versions, command
``log.jsonl``               one row an epoch
``checkpoint.safetensors``  the state to resume from
``model.safetensors``       the trained network, written at the end
``events.*``                the log's numbers for TensorBoard, where that is installed
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.errors import TrainingError
from zoo.training.display import Display, choose_display

IDENTITY = ("model", "args", "recipe", "data", "preprocess")
"""The parts of config.json that have to be the same for a training to be resumed."""


class Run:
    """A run's directory and how it is carried out.

    ``resume`` goes on with the run that the directory holds; otherwise it must hold none.
    ``checkpoint_every`` writes a checkpoint every so many steps besides the one after each epoch.
    ``stop_after`` pauses, ready to be resumed, when so many epochs are done. ``display`` shows
    progress; by default a bar on a terminal and a line an epoch elsewhere. A train hook that leaves
    the network unfinished says so by ``is_paused``; otherwise its weights are kept.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        resume: bool = False,
        checkpoint_every: int = 0,
        stop_after: int | None = None,
        command: str = "",
        display: Display | None = None,
    ) -> None:
        self.directory = Path(directory)
        self.resume = resume
        self.checkpoint_every = checkpoint_every
        self.stop_after = stop_after
        self.command = command
        self.display = display or choose_display()
        self.is_paused = False
        self._events: Any = None

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

    def check(self) -> None:
        """Raises :class:`TrainingError` where the directory cannot be started in, or not be resumed."""
        held = [file.name for file in (self.config, self.log, self.checkpoint, self.model) if file.exists()]
        if self.directory.exists() and not self.directory.is_dir():
            raise TrainingError(f"{self.directory} is a file, expected a directory for the run.")
        if held and not self.resume:
            raise TrainingError(
                f"{self.directory} already holds a run ({', '.join(held)}).",
                hint="Go on with it (--resume, resume=True) or choose another directory (-o DIR).",
            )
        if self.resume and not self.config.exists():
            raise TrainingError(
                f"{self.directory} holds no run to resume: config.json is missing.",
                hint="Leave --resume out to start one.",
            )

    def open(self, config: Mapping[str, Any]) -> None:
        """Starts the run with ``config`` or checks that the one held here was started with the same."""
        self.check()
        config = json.loads(json.dumps(config))
        if self.resume:
            self._check_same(config)
        else:
            self.directory.mkdir(parents=True, exist_ok=True)
        replace_text(self.config, json.dumps(config, indent=2) + "\n")

    def rewind(self, epoch: int) -> None:
        """Drops the log's rows of epochs later than ``epoch``: they will be written again."""
        self._events = _event_writer(self.directory, epoch + 1)
        if self.log.exists():
            rows = self.log.read_text(encoding="utf-8").splitlines(keepends=True)
            replace_text(self.log, "".join(row for row in rows if _epoch_of(row) <= epoch))

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends one row to the log, and its numbers to TensorBoard's."""
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        if self._events is not None:
            for key, value in row.items():
                if isinstance(value, int | float) and key != "epoch":
                    self._events.add_scalar(key, value, row["epoch"])
            self._events.flush()
        self.display.finish_epoch(row)

    def close(self) -> None:
        self.display.close()
        if self._events is not None:
            self._events.close()
            self._events = None

    def _check_same(self, config: Mapping[str, Any]) -> None:
        try:
            held = json.loads(self.config.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TrainingError(f"{self.config} cannot be read: {error}") from None
        differences = [
            f"{name}: the run has {before!r}, asked for {now!r}"
            for name, before, now in _differences(held, config)
            if not _is_harmless(name, config)
        ]
        if differences:
            raise TrainingError(
                f"{self.directory} holds another run, so it cannot be resumed:\n  " + "\n  ".join(differences),
                hint="Resume with what the run was started with (its config.json), or choose another -o DIR.",
            )


def replace_text(file: Path, text: str) -> None:
    """Writes ``text`` beside ``file`` and moves it into place once it is on the disk."""
    part = file.with_name(f"{file.name}.part")
    with part.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(file)


def _differences(held: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(dotted name, before, now) of the identity's values that differ, notes and names of recipes aside."""
    left, right = ({key: config.get(key) for key in IDENTITY} for config in (held, now))
    found: list[tuple[str, Any, Any]] = []

    def compare(name: str, before: Any, after: Any) -> None:
        if isinstance(before, dict) and isinstance(after, dict):
            for key in sorted({*before, *after}):
                compare(f"{name}.{key}" if name else key, before.get(key), after.get(key))
        elif before != after and name not in ("recipe.name", "recipe.note"):
            found.append((name, before, after))

    compare("", left, right)
    return found


def _is_harmless(name: str, config: Mapping[str, Any]) -> bool:
    """More or fewer epochs change nothing before them where the schedule does not look ahead."""
    return name == "recipe.epochs" and config["recipe"]["schedule"] in ("constant", "multistep", "step")


def _epoch_of(row: str) -> float:
    try:
        return float(json.loads(row)["epoch"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a row cut short by a crash


def _event_writer(directory: Path, first: int) -> Any:
    """TensorBoard's, which hides what an earlier one wrote from epoch ``first`` on; None without it."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(directory), purge_step=first)

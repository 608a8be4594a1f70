"""The directory of one training: what was asked, what happened, where it stands.

``config.json``             model, recipe, data, versions, command
``log.jsonl``               one row an epoch
``checkpoint.safetensors``  the state to resume from
``model.safetensors``       the trained network, written at the end
``events.*``                the log's numbers for TensorBoard, where that is installed
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo import processes, storage
from zoo.errors import TrainingError
from zoo.training import events
from zoo.training.display import Display, Silent, choose_display
from zoo.training.events import Events

IDENTITY = ("model", "args", "init", "recipe", "data", "preprocess")
"""The parts of config.json that have to be the same for a training to be resumed."""

PLACE = ("versions", "device", "threads", "processes", "cpu", "gpu")
"""The parts that say where it was computed: where they change, a bit of the numbers may."""


class Run:
    """A run's directory and how it is carried out.

    ``resume`` goes on with the run that the directory holds; otherwise it must hold none.
    ``checkpoint_every`` writes a checkpoint every so many steps besides the one after each epoch.
    ``stop_after`` pauses, ready to be resumed, when so many epochs are done. ``display`` shows
    progress; by default a bar on a terminal and a line an epoch elsewhere. ``init`` names the trained
    weights that the network starts from, ``{"weights": name, "sha256": ...}``. A train hook that leaves
    the network unfinished says so by ``is_paused``; otherwise its weights are kept.

    Of several processes the first alone looks at the directory, writes and shows.
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
        init: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = Path(directory)
        self.resume = resume
        self.checkpoint_every = checkpoint_every
        self.stop_after = stop_after
        self.command = command
        self._is_writer = processes.current().is_first
        self.display = (display or choose_display()) if self._is_writer else Silent()
        self.init = init
        self.is_paused = False
        self._events: Events | None = None

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
    def _files(self) -> tuple[Path, ...]:
        return self.config, self.log, self.checkpoint, self.model

    def check(self) -> None:
        """Raises :class:`TrainingError` where the directory cannot be started in, or not be resumed."""
        if not self._is_writer:
            return
        held = [file.name for file in self._files if file.exists()]
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
        if not self._is_writer:
            return
        self.check()
        config = json.loads(json.dumps(config))
        if self.resume:
            held = self._check_same(config)
            config = {**config, **_earlier(held, config), "command": held.get("command") or config.get("command", "")}
        for file in self._files:
            storage.discard_parts(file)
        storage.replace(self.config, (json.dumps(config, indent=2) + "\n").encode())

    def rewind(self, epoch: int) -> None:
        """Drops the log's rows of epochs later than ``epoch``: they will be written again."""
        if not self._is_writer:
            return
        self._events = events.start(self.directory, epoch + 1)
        if self.log.exists():
            rows = self.log.read_bytes().splitlines(keepends=True)
            storage.replace(self.log, b"".join(row for row in rows if _epoch_of(row) <= epoch))

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends one row to the log, and its numbers to TensorBoard's."""
        if not self._is_writer:
            return
        storage.append(self.log, (json.dumps(row) + "\n").encode())
        if self._events is not None:
            numbers = {key: value for key, value in row.items() if isinstance(value, int | float) and key != "epoch"}
            self._events.write(row["epoch"], numbers)
        self.display.finish_epoch(row)

    def close(self) -> None:
        self.display.close()

    def _check_same(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration held here, once it is seen to be that of the same run."""
        try:
            held: dict[str, Any] = json.loads(self.config.read_text(encoding="utf-8"))
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
        return held


def _differences(held: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(dotted name, before, now) of the identity's values that differ, notes and mere names aside."""
    left, right = ({key: config.get(key) for key in IDENTITY} for config in (held, now))
    found: list[tuple[str, Any, Any]] = []

    def compare(name: str, before: Any, after: Any) -> None:
        if isinstance(before, dict) and isinstance(after, dict):
            for key in sorted({*before, *after}):
                compare(f"{name}.{key}" if name else key, before.get(key), after.get(key))
        elif before != after and name not in ("recipe.name", "recipe.note", "init.weights"):
            found.append((name, before, after))

    compare("", left, right)
    return found


def _earlier(held: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """``earlier``: the places where parts of the run were computed before, if any was not as the present one."""
    before = {key: held[key] for key in PLACE if key in held}
    places = [*held.get("earlier", ()), *([before] if any(now.get(key) != before[key] for key in before) else [])]
    return {"earlier": places} if places else {}


def _is_harmless(name: str, config: Mapping[str, Any]) -> bool:
    """More or fewer epochs change nothing before them where neither schedule nor slow weights look ahead."""
    recipe = config["recipe"]
    looks_ahead = recipe["schedule"] not in ("constant", "multistep", "step") or recipe["lookahead"]
    return name == "recipe.epochs" and not looks_ahead


def _epoch_of(row: bytes) -> float:
    try:
        return float(json.loads(row)["epoch"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a row cut short by a crash

"""A list of trainings from a TOML file, run one after another or several at a time. Does not import torch.

All state is in the directories of the trainings: a queue that was killed continues from there.
"""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from zoo.errors import RecipeError, ZooError
from zoo.loading import resolve
from zoo.system import storage, toml
from zoo.training import choice
from zoo_bulk import jobs
from zoo_bulk.jobs import Job, Outcome, Store

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # None says that there is no such module

ELSEWHERE = "left to the process that is training it"
"""State of a training that another process began first."""

Text = Annotated[str, msgspec.Meta(min_length=1)]


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One training: the arguments of :func:`zoo.train`, and the name of its directory.

    With ``seeds``, it is so many trainings with the seeds 0, 1, ..., in ``NAME/seed0``, ``NAME/seed1``, ...
    """

    name: Text
    data: Text
    model: str | None = None
    recipe: str | None = None
    settings: dict[str, Any] = {}
    args: dict[str, Any] = {}
    init: str | None = None
    teacher: str | None = None
    device: str | None = None
    checkpoint_every: Annotated[int, msgspec.Meta(ge=0)] = 0
    keep_epochs: tuple[Annotated[int, msgspec.Meta(ge=0)], ...] = ()
    seeds: Annotated[int, msgspec.Meta(ge=2)] | None = None

    def of_seeds(self) -> "list[Training]":
        """Returns a training for each seed, or this one if it has a single one."""
        if self.seeds is None:
            return [self]
        return [
            msgspec.structs.replace(
                self, name=f"{self.name}/seed{seed}", settings={**self.settings, "seed": seed}, seeds=None
            )
            for seed in range(self.seeds)
        ]

    def __post_init__(self) -> None:
        if self.seeds is not None and "seed" in self.settings:
            raise ValueError(f"{self.name}: seeds and settings.seed exclude each other")
        if re.fullmatch(r"[\w][\w.-]*(/seed\d+)?", self.name) is None:
            raise ValueError(f"name = {self.name!r}: expected a directory's name of letters, digits, _, - and .")
        if self.model is None and self.init is None:
            raise ValueError(f"{self.name}: expected a model, or init with the weights to start from")


class State(msgspec.Struct, frozen=True):
    """The progress of a training. ``seconds_left`` is None if it is not known."""

    name: str
    status: Literal["done", "running", "paused", "failed", "waiting"]
    epoch: float = 0
    epochs: int | None = None
    val_top1: float | None = None
    train_top1: float | None = None
    seconds_left: float | None = None
    reason: str = ""


def read(file: Path) -> list[Training]:
    """Reads the trainings of the file, tables ``[[train]]``; raises :class:`RecipeError` if it is not valid."""
    try:
        table = toml.loads(storage.read_bounded(file, toml.LARGEST).decode())
        unknown = table.keys() - {"train"}
        if unknown or not table:
            raise ValueError(f"expected tables [[train]], got {', '.join(sorted(unknown)) or 'none'}")
        listed = msgspec.convert(table["train"], list[Training])
        trainings = [
            of_seed
            for training in listed
            for of_seed in msgspec.structs.replace(training, settings=_dotted(training.settings)).of_seeds()
        ]
    except (OSError, ValueError) as error:
        raise RecipeError(f"{file} is not a queue of trainings: {error}") from None
    names = [training.name for training in trainings]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RecipeError(f"{file} has two trainings of one name: {', '.join(twice)}.")
    return trainings


def _dotted(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings as ``--set`` has them: TOML makes a table of ``augment.flip = true``, which would replace all of it."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        inside = isinstance(value, Mapping) and value
        found |= _dotted(value, f"{prefix}{key}.") if inside else {prefix + key: value}
    return found


def states(trainings: Sequence[Training], folder: Path) -> list[State]:
    """Returns how far each is."""
    return [_state(training, folder / training.name) for training in trainings]


def run(
    trainings: Sequence[Training],
    folder: Path,
    *,
    at_once: int = 1,
    threads: int | None = None,
    engine: str = "local",
    settings: Mapping[str, Any] | None = None,
    started: Callable[[str], None] = lambda name: None,
    ended: Callable[[str, Outcome], None] = lambda name, outcome: None,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Trains all that is not done, in the order given; what was interrupted is resumed.

    A training that fails does not stop the others, and is tried again by the next call. One that another process runs
    is left to it, and resumed after the others if it has been interrupted by then. ``engine`` and its ``settings`` are
    those of :func:`zoo_bulk.jobs.run`. Raises KeyboardInterrupt after Ctrl-C, when the checkpoints are written.
    """
    with storage.explained(folder, 0):
        folder.mkdir(parents=True, exist_ok=True)

    tried: set[str] = set()

    def begin(job: Job) -> None:
        _note_failure(folder / job.name, "")
        started(job.name)

    def end(outcome: Outcome) -> None:
        name = outcome.job.name
        if outcome.result == ELSEWHERE:
            tried.discard(name)
            outcome = outcome._replace(status="stopped", reason=ELSEWHERE)
        if outcome.status == "failed":
            _note_failure(folder / name, outcome.reason)
        ended(name, outcome)

    while todo := [training for training in _left(trainings, folder) if training.name not in tried]:
        tried |= {training.name for training in todo}
        jobs.run(
            [_job(training, folder.absolute()) for training in todo],
            Store(folder / ".jobs"),
            engine=engine,
            settings=settings,
            at_once=at_once,
            threads=threads,
            keep=False,
            started=begin,
            ended=end,
            tick=tick,
        )


def _left(trainings: Sequence[Training], folder: Path) -> list[Training]:
    """Returns those that are neither done nor run by another process."""
    left = {state.name for state in states(trainings, folder) if state.status not in ("done", "running")}
    return [training for training in trainings if training.name in left]


def train(training: dict[str, Any], output: str) -> str:
    """Begins the training, or resumes it, as a job; returns ``ELSEWHERE`` if another process has begun it."""
    from zoo.training import by_name, pretrained

    if _is_held(Path(output)):
        return ELSEWHERE
    asked = msgspec.convert(training, Training)
    model = asked.model or pretrained.architecture(asked.init or "")
    arguments: dict[str, Any] = {
        "args": asked.args,
        "init": asked.init,
        "teacher": asked.teacher,
        "recipe": asked.recipe,
        "settings": asked.settings,
        "device": asked.device,
        "output": output,
    }
    command = by_name.command_of(model, asked.data, **arguments)
    is_begun = Path(output, "config.json").exists()
    arguments |= {"command": command, "resume": is_begun}
    arguments |= {"checkpoint_every": asked.checkpoint_every, "keep_epochs": asked.keep_epochs}
    by_name.train(model, asked.data, **arguments)
    return "trained"


def _job(training: Training, folder: Path) -> Job:
    arguments = {"training": msgspec.to_builtins(training), "output": str(folder / training.name)}
    log = folder / f"{training.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)  # of several seeds
    return Job(training.name, f"{__name__}:train", arguments, log, key=training.name.replace("/", "%"))


def _state(training: Training, run: Path) -> State:
    epochs = training.settings.get("epochs") or _recorded(run).get("epochs") or _usual_epochs(training)
    row = _last_row(run)
    facts = {
        "epoch": row.get("epoch", 0),
        "epochs": epochs,
        "val_top1": row.get("val_top1"),
        "train_top1": row.get("train_top1"),
    }
    reason = _failure(run)
    if (run / "model.safetensors").exists() and facts["epoch"] >= (epochs or 0):
        return State(training.name, "done", **facts)
    left = (epochs - facts["epoch"]) * row["seconds"] if epochs and "seconds" in row else _expected(training, epochs)
    status: Literal["running", "paused", "failed", "waiting"] = (
        "running" if _is_held(run) else "failed" if reason else "paused" if row else "waiting"
    )
    return State(training.name, status, **facts, seconds_left=left, reason=reason if status == "failed" else "")


def _recorded(run: Path) -> dict[str, Any]:
    """Returns the recipe of the run's record; {} if it has not begun."""
    try:
        return dict(json.loads((run / "config.json").read_text(encoding="utf-8"))["recipe"])
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _usual_epochs(training: Training) -> int | None:
    """Returns the epochs of its recipe; None if there is none, which its training will report."""
    try:
        found = resolve.find(training.model or training.init or "")
        return choice.choose(found.plugin, found.model, training.data, training.recipe).epochs
    except ZooError:
        return None


def _expected(training: Training, epochs: int | None) -> float | None:
    """Returns the seconds that the recipe took where it was measured, for ``epochs``; None if it was not."""
    from zoo.training import choice

    try:
        match = resolve.find(training.model or training.init or "")
        rows = choice.rows(match.plugin, match.model)
    except ZooError:
        return None
    for row in rows:
        is_it = row.recipe == training.recipe or (training.recipe is None and row.is_default)
        if is_it and row.data == training.data and row.expected and row.expected.seconds:
            return row.expected.seconds * (epochs or row.settings.epochs) / row.settings.epochs
    return None


def _last_row(run: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((run / "log.jsonl").read_bytes().splitlines()[-1]))
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _is_held(run: Path) -> bool:
    """Returns whether a process trains in the directory: it holds the directory's lock."""
    if fcntl is None:
        return False
    try:
        handle = os.open(run, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(handle)
    return False


def _failure(run: Path) -> str:
    try:
        return run.with_name(f"{run.name}.failed").read_text(encoding="utf-8")
    except OSError:
        return ""


def _note_failure(run: Path, reason: str) -> None:
    """Keeps the reason beside the directory, or removes it."""
    file = run.with_name(f"{run.name}.failed")
    if reason:
        storage.replace(file, reason.encode())
    else:
        file.unlink(missing_ok=True)


def seconds_left(found: Sequence[State], at_once: int = 1) -> float | None:
    """Returns the seconds until all are done, if each goes on as so far; None if that is not known of one."""
    left = [state.seconds_left for state in found if state.status != "done"]
    known = [seconds for seconds in left if seconds is not None]
    return None if len(known) < len(left) else max(sum(known) / at_once, max(known, default=0.0))


def counts(found: Sequence[State]) -> Mapping[str, int]:
    """Returns how many have each status."""
    return {status: sum(state.status == status for state in found) for status in ("done", "running", "failed")}

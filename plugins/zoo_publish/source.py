"""Sources of a release: a run directory, or a weights file with metadata."""

import json
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec

from zoo.errors import TrainingError, WeightsError
from zoo.loading import safetensors_file
from zoo.manifest import History, Score
from zoo.spec import Model
from zoo_publish.privacy import without_paths

WEIGHTS = "model.safetensors"
HELD_OUT = "held out from training, measured by zoo train after its last epoch, in bfloat16 if it trained in bfloat16"


class Images(msgspec.Struct, frozen=True):
    name: str
    split: str
    n: int
    fingerprint: str


class Run(msgspec.Struct, frozen=True):
    """The published part of a run record; ``whole`` is the complete record."""

    data: dict[str, Images] = {}
    init: dict[str, str] = {}
    recipe: dict[str, Any] = {}
    versions: dict[str, str] = {}
    command: str = ""
    whole: dict[str, Any] = {}


class _Row(msgspec.Struct, frozen=True):
    """A row of a run's log, with the score on held-out images, if any."""

    epoch: int = 0
    loss: float | None = None
    train_top1: float | None = None
    val_top1: float | None = None
    val_loss: float | None = None


_MOST = 50
"""Epochs in a history; of a longer training, so many at equal distances."""


class Source(msgspec.Struct, frozen=True):
    """``about`` is the file's own metadata, without local paths; ``log`` that of a run's directory."""

    file: Path
    about: dict[str, Any]
    run: Run | None
    log: bytes | None

    @property
    def classes(self) -> str:
        return str(self.about.get("classes", ""))


def read(path: Path, model: Model) -> Source:
    """Returns the source at ``path``. Raises :class:`TrainingError`, :class:`WeightsError`,
    :class:`FileFormatError`.
    """
    file, log = path, None
    if path.is_dir():
        file, logged = path / WEIGHTS, path / "log.jsonl"
        if not file.exists():
            raise TrainingError(
                f"{path} is not a finished run: {WEIGHTS} is missing.",
                hint=f"zoo train ... --resume -o {path} finishes it.",
            )
        log = logged.read_bytes() if logged.exists() else None
    elif not path.exists():
        raise WeightsError(f"{path}: no such file or run.")
    about = safetensors_file.metadata(file)
    if not isinstance(about.get("model"), str):
        raise WeightsError(
            f"{file} has no metadata about its network: it was not written by zoo train or zoo convert.",
            hint=f"zoo convert {file} {model.name} -o OUT.safetensors adds the metadata.",
        )
    about = without_paths(about)
    return Source(file, about, _run(file, about), log)


def held_out(source: Source) -> dict[str, Score]:
    """Returns the run's score on its held-out images; {} if there are none."""
    images = source.run.data.get("validation") if source.run else None
    if source.run is None or images is None or not source.log:
        return {}
    row = _rows(source)[-1]
    if row.val_top1 is None:
        return {}
    score = Score(
        n=images.n,
        source=HELD_OUT,
        top1=round(row.val_top1, 4),
        loss=None if row.val_loss is None else float(f"{row.val_loss:.6g}"),
        correct=round(row.val_top1 * images.n / 100),
        command=source.run.command,
        fingerprint=images.fingerprint,
    )
    return {f"{images.name}/validation": score}


def history(source: Source) -> History | None:
    """Returns how the run went; None for a network that was not trained in epochs."""
    rows = [row for row in _rows(source) if row.loss is not None and isfinite(row.loss)]
    if len(rows) < 2:
        return None
    count = min(len(rows), _MOST)
    chosen = [rows[round((len(rows) - 1) * place / (count - 1))] for place in range(count)]
    parts = {
        name: tuple(round(value, 2) for row in chosen if (value := getattr(row, name)) is not None)
        for name in ("train_top1", "val_top1")
    }
    whole = {name: values for name, values in parts.items() if len(values) == count}
    return History(
        epoch=tuple(row.epoch for row in chosen),
        loss=tuple(float(f"{row.loss:.4g}") for row in chosen),
        **whole,
    )


def _rows(source: Source) -> list[_Row]:
    try:
        return msgspec.json.Decoder(_Row).decode_lines(source.log or b"")
    except msgspec.DecodeError as error:
        raise TrainingError(f"{source.file.parent / 'log.jsonl'} is not a training log: {error}.") from None


def _run(file: Path, about: dict[str, Any]) -> Run | None:
    if "run" not in about:
        return None
    try:
        return msgspec.structs.replace(msgspec.convert(about["run"], Run), whole=json.loads(json.dumps(about["run"])))
    except msgspec.ValidationError as error:
        raise WeightsError(f"{file}: its run record is invalid: {error}.") from None

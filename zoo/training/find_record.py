"""Finds weights with their run record."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from zoo import names, registry, resolve
from zoo.errors import TrainingError, UnknownNameError, ZooError
from zoo.hub import cache
from zoo.hub.address import Embedded
from zoo.manifest import Weights
from zoo.spec import Model
from zoo.system import storage
from zoo.training import by_name

_MAX_HEADER = 25_000_000


class Original(NamedTuple):
    """Their file, its metadata, and their manifest entry if there is one."""

    name: str
    model: Model
    file: Path
    sha256: str
    about: dict[str, Any]
    entry: Weights | None


def find(name: str | Path) -> Original:
    """The weights ``name`` with their run record; a model's name means its default ones.

    Raises :class:`TrainingError` if they have none, without fetching them if their entry shows that.
    """
    from zoo.loading import safetensors_file

    if (path := _path(name)) is not None:
        file = path / "model.safetensors" if path.is_dir() else path
        if not file.exists():
            raise TrainingError(
                f"{path} is not a finished run: model.safetensors is missing.",
                hint=f"zoo train ... --resume -o {path} finishes it.",
            )
        about = safetensors_file.metadata(file)
        _check_has_record(str(name), about)
        of = names.requirement(about.get("distribution", ""), about.get("distribution_version", ""))
        found = registry.current().find(about["model"], distribution=of)
        return Original(str(name), found.model, file, storage.sha256_of(file), about, None)
    found = resolve.find(str(name))
    entry = resolve.weights_for(found)
    if cache.find(entry) is None and not entry.origin.startswith(by_name.TRAINED):
        raise _no_record(entry.name)
    entry, file = resolve.use(found)
    about = safetensors_file.metadata(file)
    _check_has_record(entry.name, about)
    return Original(entry.name, found.model, file, storage.sha256_of(file), about, entry)


def training_of(weights: Weights) -> dict[str, str]:
    """A readable summary of the training of ``weights``, if their file is cached. Does not import torch."""
    try:
        file = cache.find(weights)
        kind, _, package = weights.hub.partition(":")
        if file is None and kind != "embedded":
            return {}
        with file.open("rb") if file is not None else Embedded(package).open(weights, 0) as stream:
            length = min(int.from_bytes(stream.read(8), "little"), _MAX_HEADER)
            header = json.loads(b"".join(_parts(stream, length)))
        run = json.loads(header["__metadata__"]["zoo"])["run"]
        recipe, images = run["recipe"], run["data"]["train"]
        facts = {
            "recipe": f"{recipe['name']}, {recipe['epochs']} epochs, seed {recipe['seed']}",
            "trained on": f"{images['n']:,} images of {images['name']}/{images['split']}, {images['fingerprint']}",
            "trained with": ", ".join(f"{name} {version}" for name, version in run.get("versions", {}).items()),
            "code": run.get("code", ""),
            "command": run.get("command", ""),
        }
    except (ZooError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}  # of another origin
    return {name: str(fact) for name, fact in facts.items() if fact}


def _parts(stream: Any, count: int) -> Iterator[bytes]:
    """The next ``count`` bytes of ``stream``, which may return fewer at a time or end earlier."""
    while count and (part := stream.read(min(count, 1 << 20))):
        yield part
        count -= len(part)


def _path(name: str | Path) -> Path | None:
    """``name`` as a path, unless it is a name of the registry."""
    if not isinstance(name, Path):
        try:
            resolve.find(name)
        except UnknownNameError:
            if not Path(name).exists():
                raise
        else:
            return None
    return Path(name)


def _check_has_record(name: str, about: dict[str, Any]) -> None:
    if not isinstance(about.get("run"), dict) or not isinstance(about.get("model"), str):
        raise _no_record(name)


def _no_record(name: str) -> TrainingError:
    own = [
        f"{entry.name}.{weights.tag}"
        for entry in registry.current().models()
        for weights in entry.weights
        if weights.origin.startswith(by_name.TRAINED)
    ]
    return TrainingError(
        f"{name} has no run record, because it was not trained by zoo train.",
        hint=f"These can be reproduced: {', '.join(own)}." if own else "Files written by zoo train have one.",
    )

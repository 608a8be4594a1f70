"""Weights of other formats as safetensors: converted once, stored in the cache, and loaded from there ever after.

::

    $ZOO_CACHE/converted/<sha256 of the source>-<key>.safetensors
                         <sha256 of the source>-<key>.safetensors.record    its own sha256, and how it was made

The key is a hash of all else that decides the tensors (:class:`Job`). A conversion is used only if its bytes have the
sha256 of its record; otherwise it is made again. It needs its source no more. Finding one imports no torch; making one
runs :func:`zoo.loading.resolve.convert_here` in a sandbox (:mod:`zoo.system.sandbox`).
"""

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from zoo.hub import cache
from zoo.manifest import Weights
from zoo.spec import KeyMap, Preprocess
from zoo.system import storage

VERSION = 1
"""The version of Zoo's own converters. Raise it if they write other tensors for the same file than before: every
conversion is then made again, and ``zoo cache prune`` removes the old ones."""

FOLDER = "converted"

TIMEOUT = 600.0
"""Seconds that one conversion may take."""


class Job(msgspec.Struct, frozen=True):
    """The facts that decide the tensors of a conversion: the ``source`` by its sha256, the model, and how the file is
    read.

    ``maps`` are the family's key maps: if a later version of the plugin changes one, the file is converted again.
    ``converter`` is set for one of a third party, by its address and its distribution with the version.
    """

    source: str
    model: str
    key_map: str
    args: Mapping[str, Any]
    is_trunk: bool
    maps: tuple[KeyMap, ...]
    converter: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def key(self) -> str:
        """The name of the conversion by this version of the converter, and of its lock, without a suffix."""
        text = msgspec.json.encode((VERSION, self), order="deterministic", enc_hook=_plain)
        return f"{self.source}-{hashlib.sha256(text).hexdigest()[:16]}"


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """The record of how a conversion was made, and what its network needs: the key map may state what the manifest does
    not.

    ``preprocess`` is None if it is the model's.
    """

    version: int
    source: str
    file: str
    model: str
    sha256: str
    key_map: str
    args: dict[str, Any] = {}
    preprocess: Preprocess | None = None
    classes: str = ""

    def describe(self, weights: Weights) -> Weights:
        """Returns ``weights`` with what the manifest leaves open and the key map states."""
        return msgspec.structs.replace(
            weights,
            args={**self.args, **weights.args},
            preprocess=weights.preprocess or self.preprocess,
            classes=weights.classes or self.classes,
        )


class Converted(NamedTuple):
    """A conversion in the cache."""

    path: Path
    record: Record


def place_of(job: Job) -> Path:
    return cache.root() / FOLDER / f"{job.key}.safetensors"


def of_source(sha256: str) -> list[Path]:
    """Returns all conversions of the file with this sha256."""
    return sorted((cache.root() / FOLDER).glob(f"{sha256}-*.safetensors"))


def record_of(file: Path) -> Path:
    return file.with_name(file.name + ".record")


def read_record(file: Path) -> Record | None:
    """Returns the record of the conversion ``file``; None if there is none, or none that can be read."""
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(cache.read_small(record_of(file)), type=Record)
    return None


def find(job: Job) -> Converted | None:
    """Returns the conversion if it is in the cache with the sha256 of its record; read only if its stat has changed."""
    file = place_of(job)
    record = read_record(file)
    with suppress(OSError):
        if record is not None and cache.sha256_of(file) == record.sha256:
            return Converted(file, record)
    return None


def use(job: Job, weights: Weights, bring: Callable[[], Path]) -> Converted:
    """Returns the conversion; ``bring`` fetches the source if it has to be made.

    Raises as :func:`zoo.system.process.ask`, with the reason why the file cannot be converted; HubError if the cache
    cannot be used.
    """
    conversion = find(job) or _make(job, weights, bring())
    cache.touch(conversion.path)
    return conversion


def make(job: Job, weights: Weights, source: Path, out: Path) -> Record:
    """Converts the file ``source`` of ``weights`` to ``out``; raises as :func:`zoo.system.process.ask`."""
    from zoo.system import process, sandbox

    arguments = {
        "name": weights.name,
        "model": job.model,
        "source": str(source),
        "file": weights.file,
        "sha256": job.source,
        "key_map": job.key_map,
        "args": job.args,
        "is_trunk": job.is_trunk,
        "out": str(out),
    }
    answer = process.ask(
        "zoo.loading.resolve:convert_here",
        arguments,
        what=f"{weights.name}: conversion of {weights.file}",
        timeout=TIMEOUT,
        hint=f"zoo convert {source} {job.model} -o OUT.safetensors converts it without a limit on time.",
        sandbox=sandbox.around(source, writable=out.parent),
    )
    return msgspec.convert({**answer, "version": VERSION, "source": job.source, "model": job.model}, Record)


def _make(job: Job, weights: Weights, source: Path) -> Converted:
    file = place_of(job)
    with cache.explained(), cache.lock(job.key):
        if file_there := find(job):  # another process was faster
            return file_there
        start = time.monotonic()
        storage.make_folder(file.parent)
        for unfinished in storage.parts_of(file):  # of a process that was killed
            if cache.is_abandoned(unfinished):
                unfinished.unlink(missing_ok=True)
        made = storage.part_of(file)
        record = make(job, weights, source, made)
        cache.put(made, file, cache.stamp_for(record.sha256, made.stat()))
        cache.write_small(record_of(file), msgspec.json.encode(record))
    seconds = time.monotonic() - start
    logging.getLogger("zoo").info("%s: converted %s to safetensors (%.1f s)", weights.name, weights.file, seconds)
    return Converted(file, record)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else repr(value)

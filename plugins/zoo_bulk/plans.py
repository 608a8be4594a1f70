"""A command, names and data sets as a list of jobs. Does not import torch.

The key of a job is the sha256 of all that decides its result: the task, the name and the sha256 of the weights, the
fingerprint of the data, the options given, and the versions of Zoo, torch, Python and the model's plugin.
"""

import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from zoo import resolve
from zoo.errors import DataError, UnknownNameError, ZooError
from zoo.hub import cache
from zoo.manifest import Weights
from zoo.registry import listing
from zoo.registry.listing import Selected
from zoo.results.rows import Row
from zoo.trust import first_use
from zoo_bulk.described import Data, describe
from zoo_bulk.job import Job
from zoo_bulk.tasks import TASKS, Task


class Plan(NamedTuple):
    """Jobs, each with the row that its result completes, and the rows of the skipped ones."""

    task: Task
    jobs: list[Job]
    rows: list[Row]
    left_out: list[Row]
    gpus: tuple[str, ...] = ()
    """Those of this machine, unless the options name a device."""


def plan(
    command: str,
    patterns: Sequence[str],
    folder: Path,
    *,
    data: Sequence[str] = (),
    split: str = "",
    options: Mapping[str, Any] | None = None,
    given: Sequence[str] = (),
) -> Plan:
    """The jobs of ``command`` for all weights that ``patterns`` match.

    Args:
        command: A key of :data:`zoo_bulk.tasks.TASKS`.
        patterns: Patterns of names, as ``zoo list`` takes them.
        folder: The folder of the results, where jobs keep their files and what they print.
        data: Names or paths of data sets. By default those on which the weights have a published score.
        split: The split of each of ``data``. By default the command's.
        options: Arguments of the task's function in :mod:`zoo_bulk.work`.
        given: The options of the command line that say the same, for the tables: ``["--limit", "100"]``.

    Returns:
        The jobs, sorted by data set and name, so that a process that does one after another loads the data once.

    Raises:
        UnknownNameError: There is no such command, or a pattern matches nothing.
        DataError: One of ``data`` cannot be loaded.
    """
    if command not in TASKS:
        raise UnknownNameError.of("command", command, TASKS, hint=f"Commands are {', '.join(TASKS)}.")
    task, options = TASKS[command], dict(options or {})
    chosen = _chosen(patterns, takes_architectures=task.takes_architectures)
    about: dict[str, Any] = {"task": task.command, "setting": shlex.join(given)}
    left_out: list[Row] = []
    pairs: list[tuple[Selected, tuple[str, str]]] = []
    for line in chosen:
        places = _places(line.weights, data, split or task.split) if task.data else [("", "")]
        if not places:
            reason = "It has no published score, and names no data set. Name one with --data."
            left_out.append(Row(weights=line.name, reason=reason, status="skipped", **about))
        pairs += [(line, place) for place in places]
    asked = [*dict.fromkeys(place for _, place in pairs)] if task.data else []
    known = describe(asked, options.get("limit"))
    described = dict(zip(asked, known.data, strict=True))
    _require([described[place] for place in asked], data)
    jobs: dict[str, tuple[Row, Job]] = {}
    pinned: dict[str, str | ZooError] = {}
    for line, place in pairs:
        images = described.get(place)
        where = "/".join(filter(None, place))
        if images is not None and (reason := _unsuited(task, line.weights, images)):
            left_out.append(Row(weights=line.name, data=where, reason=reason, status="skipped", **about))
            continue
        if line.name not in pinned:
            pinned[line.name] = _sha256(line)
        if isinstance(sha256 := pinned[line.name], ZooError):
            left_out.append(Row(weights=line.name, data=where, reason=sha256.message, status="failed", **about))
            continue
        row = _row(task, line, sha256, place[0], images, given, known.versions)
        row = msgspec.structs.replace(row, key=_key(row, line, options))
        arguments = {
            "name": line.name,
            "options": options,
            "folder": str(folder.absolute()),
            "expected": {"sha256": sha256, "fingerprint": row.fingerprint, "versions": known.versions},
        }
        if images is not None:
            arguments |= {"data": images.address, "split": place[1]}
        name = " ".join(filter(None, (line.name, row.data)))
        log = folder.absolute() / "jobs" / f"{row.key}.log"
        files = (*_cached(line, sha256), *(images.files if images is not None else ()))
        jobs[row.key] = row, Job(name, task.function, arguments, log, row.key, files)
    ordered = sorted(jobs.values(), key=lambda pair: pair[0].place)
    gpus = () if "device" in options else known.gpus
    return Plan(task, [job for _, job in ordered], [row for row, _ in ordered], left_out, gpus)


def _key(row: Row, line: Selected, options: Mapping[str, Any]) -> str:
    plugin = [line.entry.row.distribution, line.entry.row.version]
    named = [row.task, row.weights, row.sha256, row.data, row.fingerprint, row.zoo, row.torch, row.python, plugin]
    return hashlib.sha256(json.dumps([*named, options], sort_keys=True).encode()).hexdigest()


def _chosen(patterns: Iterable[str], *, takes_architectures: bool) -> list[Selected]:
    chosen: dict[str, Selected] = {}
    for pattern in patterns:
        found = listing.select(
            pattern, family=None, dataset=None, license=None, max_params=None, pretrained=not takes_architectures
        )
        if not found:
            what = "model" if takes_architectures else "weights"
            raise UnknownNameError(
                f"No {what} match{'es' * takes_architectures} {pattern!r}.", hint="zoo list --weights lists all."
            )
        chosen |= {line.name: line for line in found}
    return [*chosen.values()]


def _places(weights: Weights | None, data: Sequence[str], split: str) -> list[tuple[str, str]]:
    """The data sets, with their splits, that are asked for; by default those of the scores in the manifest."""
    if data:
        return [(name, split) for name in data]
    if weights is None:
        return []
    claimed = [key.rpartition("/") for key in weights.scores]
    return [(name, part) for name, _, part in claimed] or ([(weights.classes, split)] if weights.classes else [])


def _require(described: Iterable[Data], data: Sequence[str]) -> None:
    """Raises :class:`DataError` for a data set that was asked for; one of a published score may be elsewhere."""
    for one in described if data else ():
        if one.error:
            raise DataError(one.error, hint=one.hint)


def _unsuited(task: Task, weights: Weights | None, images: Data) -> str:
    """Why the weights are not scored on ``images``; nothing if they are."""
    if images.error:
        return images.error
    if task.data == "any" or weights is None:
        return ""
    if images.name in {weights.classes, *(key.rpartition("/")[0] for key in weights.scores)}:
        return ""
    if not images.is_named and weights.class_names == images.classes:
        return ""  # another copy of such images
    knows = f"knows the classes of {weights.classes}" if weights.classes else "names no data set"
    return f"It {knows}, and has no published score on {images.name}."


def _sha256(line: Selected) -> str | ZooError:
    """That of the weights; those that nobody has pinned are fetched for it. Empty for an architecture.

    An error if a policy or a lock does not accept the weights, or if they cannot be fetched.
    """
    if line.weights is None:
        return ""
    try:
        found = resolve.find(line.name)
        weights = resolve.weights_for(found)
        return weights.sha256 or first_use.fetch(found, weights).weights.sha256
    except ZooError as error:
        return error


def _cached(line: Selected, sha256: str) -> list[str]:
    """The file of the weights in the cache, if it is there: another machine may not reach the hub."""
    file = cache.file_of(line.weights, sha256) if line.weights is not None and sha256 else None
    return [str(file)] if file is not None and file.exists() else []


def _row(
    task: Task,
    line: Selected,
    sha256: str,
    data: str,
    images: Data | None,
    given: Sequence[str],
    versions: Mapping[str, Any],
) -> Row:
    on = [] if images is None else ["--data", data, "--split", images.split]
    return Row(
        task=task.command,
        weights=line.name,
        data=f"{images.name}/{images.split}" if images is not None else "",
        setting=shlex.join(given),
        params=listing.params_of(line.entry.model, line.weights) or None,
        macs=listing.macs_of(line.entry.model, line.weights) or None,
        family=line.entry.row.name,
        sha256=sha256,
        fingerprint=images.fingerprint if images is not None else "",
        command=shlex.join(["zoo", "bulk", task.name, line.name, *on, *given, "-o", "again"]),
        **versions,
    )

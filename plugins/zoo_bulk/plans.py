"""A command, names and data sets as a list of jobs, which is run, and makes tables. Does not import torch.

The key of a job is the sha256 of all that decides its result: the task, the name and the sha256 of the weights, the
fingerprint of the data, the options given, and the versions of Zoo, torch, Python and the model's plugin.
"""

import hashlib
import json
import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from zoo.errors import DataError, UnknownNameError, ZooError
from zoo.hub import cache
from zoo.loading import resolve
from zoo.manifest import Weights
from zoo.registry import listing
from zoo.registry.listing import Selected
from zoo.results import Row, Speed
from zoo.system import process
from zoo.trust import first_use
from zoo_bulk import jobs
from zoo_bulk.jobs import Job, Outcome, Store


class Task(NamedTuple):
    """A command, and the function that does it for one of the weights.

    ``command`` is the name below ``zoo``, ``name`` that below ``zoo bulk``. ``options`` are those parameters of the
    command that a job takes, ``required`` those that must be given. ``data`` says what it needs: ``own`` is a data set
    with the classes of the weights, ``any`` one with any classes. ``at_once`` is the default of the local engine.
    """

    command: str
    function: str
    note: str
    example: str
    options: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    data: str = ""
    split: str = ""
    takes_architectures: bool = False
    at_once: int | None = None

    @property
    def name(self) -> str:
        return self.command.replace(" ", "-")


_WORK = "zoo_bulk.work"

TASKS = {
    task.command: task
    for task in (
        Task(
            "evaluate",
            f"{_WORK}:evaluate",
            "Score the weights that PATTERN matches on data sets, by default on those of their manifests.",
            "zoo bulk evaluate 'resnet20.d*' --data digits -o results",
            ("batch_size", "dtype", "compile", "device"),
            data="own",
            split="test",
        ),
        Task(
            "features",
            f"{_WORK}:features",
            "Write the features of data sets, a file for each of the weights.",
            "zoo bulk features 'resnet20.*' --data digits -o features",
            ("layer", "batch_size", "device"),
            ("data",),
            data="any",
            split="train",
        ),
        Task(
            "attack curve",
            f"{_WORK}:attack_curve",
            "Measure accuracy over epsilon, a row for each of the weights and each epsilon.",
            "zoo bulk attack-curve 'resnet20.d*' --data digits -o curves",
            ("kinds", "epsilons", "steps", "step_size", "no_random_start", "seed", "batch_size", "device"),
            data="own",
            split="test",
        ),
        Task(
            "benchmark",
            f"{_WORK}:benchmark",
            "Measure latency and throughput of models or weights, one at a time, into DIR/speed.csv.",
            "zoo bulk benchmark 'resnet*' --batch-size 1 -o speed",
            ("sizes", "mode", "precisions", "compile", "channels_last", "warmup", "steps", "seconds", "device"),
            takes_architectures=True,
            at_once=1,  # others would slow it down
        ),
        Task(
            "verify",
            f"{_WORK}:verify",
            "Check the bytes, tensors and outputs of the weights that PATTERN matches.",
            "zoo bulk verify 'resnet20.*' -o checked",
            ("deep",),
        ),
        Task(
            "export",
            f"{_WORK}:export",
            "Export the weights that PATTERN matches, a file for each.",
            "zoo bulk export 'resnet20.d*' --format onnx -o exported",
            ("format", "precision", "preprocess", "input", "calibrate", "passes"),
            ("format",),
        ),
    )
}


_DAY = 86400.0
_MOST_FILES, _MOST_BYTES = 1000, 4 << 30
"""The largest data set, in files and in bytes, that is brought to another machine."""


class Data(msgspec.Struct, frozen=True):
    """A split of a data set. ``address`` is what loads it from any folder; ``error`` says why it cannot be loaded.

    ``files`` are those that it was read from, unless they are too large to be brought to another machine.
    """

    address: str
    split: str
    name: str = ""
    n: int = 0
    fingerprint: str = ""
    classes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    is_named: bool = False
    error: str = ""
    hint: str = ""


class Described(msgspec.Struct, frozen=True):
    """The data sets in the order asked for, the versions of what decides the results, and the GPUs of this machine."""

    data: tuple[Data, ...]
    versions: dict[str, str]
    gpus: tuple[str, ...] = ()


def describe(asked: Sequence[tuple[str, str]], limit: int | None) -> Described:
    """Loads the data sets ``asked``, each a name or path with a split."""
    arguments = {"asked": list(asked), "limit": limit}
    hint = "Choose smaller data sets."
    answer = process.ask(
        f"{__name__}:describe_here", arguments, what="The fingerprints of the data", timeout=_DAY, hint=hint
    )
    return msgspec.convert(answer, Described)


def describe_here(asked: Sequence[tuple[str, str]], limit: int | None) -> Described:
    """Loads the data sets like :func:`describe`, in this process."""
    from zoo.evaluation import versions

    return Described(tuple(_one(data, split, limit) for data, split in asked), versions(), _gpus())


def _gpus() -> tuple[str, ...]:
    """Returns the GPUs that torch can use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    chosen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return tuple(chosen or map(str, range(torch.cuda.device_count()))) if torch.cuda.is_available() else ()


def _one(data: str, split: str, limit: int | None) -> Data:
    from zoo import data as datasets
    from zoo.data.image_set import thin
    from zoo.evaluation.score import fingerprint_of

    try:
        address = datasets.address(data)
        images = thin(datasets.load(data, split), limit)
    except (DataError, UnknownNameError) as error:
        return Data(data, split, error=error.message, hint=error.hint)
    except (OSError, ImportError) as error:
        return Data(data, split, error=str(error))
    is_named = address == data
    return Data(
        address,
        images.split,
        images.name,
        len(images),
        fingerprint_of(images),
        images.classes,
        _files(Path(images.origin)),
        is_named,
    )


def _files(origin: Path) -> tuple[str, ...]:
    """Returns the files at ``origin``; within ``ZOO_DATA``, all those of the file or folder directly in it."""
    folder = Path(os.environ.get("ZOO_DATA") or os.devnull).expanduser().absolute()
    if origin.is_relative_to(folder) and origin != folder:
        origin = folder / origin.relative_to(folder).parts[0]
    if not origin.is_absolute() or not origin.exists():
        return ()
    paths = sorted(origin.rglob("*")) if origin.is_dir() else [origin]
    files = [file for file in paths if file.is_file()]
    is_small = len(files) <= _MOST_FILES and sum(file.stat().st_size for file in files) <= _MOST_BYTES
    return tuple(map(str, files)) if is_small else ()


class Plan(NamedTuple):
    """Jobs, each with the row that its result completes, and the rows of the skipped ones."""

    task: Task
    jobs: list[Job]
    rows: list[Row]
    left_out: list[Row]
    gpus: tuple[str, ...] = ()
    """The GPUs of this machine, unless the options name a device."""


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
    """Returns the jobs of ``command`` for all weights that ``patterns`` match.

    Args:
        command: A key of :data:`zoo_bulk.plans.TASKS`.
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
    described = describe(asked, options.get("limit"))
    data_of = dict(zip(asked, described.data, strict=True))
    if data and (broken := next((images for images in described.data if images.error), None)):
        raise DataError(broken.error, hint=broken.hint)  # data of a published score may be elsewhere
    jobs: dict[str, tuple[Row, Job]] = {}
    pinned: dict[str, str | ZooError] = {}
    for line, place in pairs:
        images = data_of.get(place)
        where = "/".join(filter(None, place))
        if images is not None and (reason := _unsuited(task, line.weights, images)):
            status: Literal["failed", "skipped"] = "failed" if images.error else "skipped"  # missing is no choice
            left_out.append(Row(weights=line.name, data=where, reason=reason, status=status, **about))
            continue
        if line.name not in pinned:
            pinned[line.name] = _sha256(line)
        if isinstance(sha256 := pinned[line.name], ZooError):
            left_out.append(Row(weights=line.name, data=where, reason=sha256.message, status="failed", **about))
            continue
        row = _row(task, line, sha256, place[0], images, given, described.versions)
        row = msgspec.structs.replace(row, key=_key(row, line, options))
        arguments = {
            "name": line.name,
            "options": options,
            "folder": str(folder.absolute()),
            "expected": {"sha256": sha256, "fingerprint": row.fingerprint, "versions": described.versions},
        }
        if images is not None:
            arguments |= {"data": images.address, "split": place[1]}
        name = " ".join(filter(None, (line.name, row.data)))
        log = folder.absolute() / "jobs" / f"{row.key}.log"
        files = (*_cached(line, sha256), *(images.files if images is not None else ()))
        jobs[row.key] = row, Job(name, task.function, arguments, log, row.key, files)
    ordered = sorted(jobs.values(), key=lambda pair: pair[0].place)
    gpus = () if "device" in options else described.gpus
    return Plan(task, [job for _, job in ordered], [row for row, _ in ordered], left_out, gpus)


def _key(row: Row, line: Selected, options: Mapping[str, Any]) -> str:
    plugin = [line.entry.row.distribution, line.entry.row.version]
    named = [row.task, row.weights, row.sha256, row.data, row.fingerprint, row.zoo, row.torch, row.python, plugin]
    return hashlib.sha256(json.dumps([*named, options], sort_keys=True).encode()).hexdigest()


def _chosen(patterns: Iterable[str], *, takes_architectures: bool) -> list[Selected]:
    chosen: dict[str, Selected] = {}
    for pattern in patterns:
        lines = listing.select(
            pattern, family=None, dataset=None, license=None, max_params=None, pretrained=not takes_architectures
        )
        if not lines:
            what = "model" if takes_architectures else "weights"
            raise UnknownNameError(
                f"No {what} match{'es' * takes_architectures} {pattern!r}.", hint="zoo list --weights lists all."
            )
        chosen |= {line.name: line for line in lines}
    return [*chosen.values()]


def _places(weights: Weights | None, data: Sequence[str], split: str) -> list[tuple[str, str]]:
    """Returns the data sets, with their splits, that are asked for; by default those of the scores in the manifest."""
    if data:
        return [(name, split) for name in data]
    if weights is None:
        return []
    claimed = [key.rpartition("/") for key in weights.scores]
    return [(name, part) for name, _, part in claimed] or ([(weights.classes, split)] if weights.classes else [])


def _unsuited(task: Task, weights: Weights | None, images: Data) -> str:
    """Returns why the weights are not scored on ``images``; nothing if they are."""
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
    """Returns that of the weights; those that nobody has pinned are fetched for it. Empty for an architecture.

    An error if a policy or a lock does not accept the weights, or if they cannot be fetched.
    """
    if line.weights is None:
        return ""
    try:
        match = resolve.find(line.name)
        weights = resolve.weights_for(match)
        return weights.sha256 or first_use.fetch(match, weights).weights.sha256
    except ZooError as error:
        return error


def _cached(line: Selected, sha256: str) -> list[str]:
    """Returns the file of the weights in the cache, if it is there: another machine may not reach the hub."""
    file = cache.file_of(line.weights, sha256) if line.weights is not None and sha256 else None
    return [str(file)] if file is not None and file.exists() else []


def _row(
    task: Task,
    line: Selected,
    sha256: str,
    data: str,
    images: Data | None,
    words: Sequence[str],
    versions: Mapping[str, Any],
) -> Row:
    on = [] if images is None else ["--data", data, "--split", images.split]
    return Row(
        task=task.command,
        weights=line.name,
        data=f"{images.name}/{images.split}" if images is not None else "",
        setting=shlex.join(words),
        params=listing.params_of(line.entry.model, line.weights) or None,
        macs=listing.macs_of(line.entry.model, line.weights) or None,
        family=line.entry.row.name,
        sha256=sha256,
        fingerprint=images.fingerprint if images is not None else "",
        command=shlex.join(["zoo", "bulk", task.name, line.name, *on, *words, "-o", "again"]),
        **versions,
    )


def store_in(folder: Path) -> Store:
    """Returns the outcomes of the jobs of a folder of results."""
    return Store(folder / "jobs")


def left(plan: Plan, store: Store) -> list[Job]:
    """Returns the jobs that are not done: those that have not ended, that failed, or whose file is gone."""
    return [job for job in plan.jobs if not _is_done(store.find(job), store.folder.parent)]


def _is_done(outcome: Outcome | None, folder: Path) -> bool:
    if outcome is None or outcome.status != "done":
        return False
    return all((folder / row["file"]).exists() for row in outcome.result["rows"] if "file" in row)


def run_left(
    plan: Plan,
    store: Store,
    *,
    engine: str = "local",
    settings: dict[str, Any] | None = None,
    at_once: int | None = None,
    threads: int | None = None,
    started: Callable[[Job], None] = lambda job: None,
    ended: Callable[[Outcome], None] = lambda outcome: None,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Runs the jobs of ``plan`` that are not done; see :func:`zoo_bulk.jobs.run`.

    By default, the local engine runs as many at a time as there are GPUs, or else cores.
    """
    is_local = engine == jobs.NAMES[0]
    jobs.run(
        left(plan, store),
        store,
        engine=engine,
        settings=settings,
        at_once=at_once or (plan.task.at_once or len(plan.gpus) or None if is_local else None),
        gpus=plan.gpus,
        threads=threads,
        started=started,
        ended=ended,
        tick=tick,
    )


def tables(plan: Plan, store: Store) -> tuple[list[Row], list[Speed]]:
    """Returns the sorted rows of ``plan`` and the speeds, of jobs that have ended and of those that were skipped."""
    rows, speeds = [*plan.left_out], []
    for job, row in zip(plan.jobs, plan.rows, strict=True):
        outcome = store.find(job)
        if outcome is None:
            continue
        if outcome.status != "done":
            rows.append(msgspec.structs.replace(row, status="failed", reason=outcome.reason))
            continue
        rows += [msgspec.structs.replace(row, **measured) for measured in outcome.result["rows"]]
        speeds += [_speed(row, outcome, measured) for measured in outcome.result["speeds"]]
    return sorted(rows, key=lambda row: row.place), speeds


def _speed(row: Row, outcome: Outcome, measured: dict[str, Any]) -> Speed:
    return Speed(
        key=row.key,
        task=row.task,
        weights=row.weights,
        data=row.data,
        setting=row.setting,
        seconds=round(outcome.seconds, 3),
        memory_mb=round(outcome.memory / 1e6, 1),
        **measured,
    )

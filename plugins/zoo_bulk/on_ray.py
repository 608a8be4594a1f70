"""Runs jobs as tasks of a Ray cluster: one that exists, or else one of this machine alone.

Ray starts a task again if its worker or its node ends. A job runs in a process below its worker, as it does on one
machine. What it prints comes back with its outcome. Files that a node lacks are brought to the same path there, once.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from zoo.errors import MissingExtraError, SpecError
from zoo.system import storage
from zoo_bulk.child import Child
from zoo_bulk.engines import storing
from zoo_bulk.job import Job, Outcome
from zoo_bulk.store import Store
from zoo_bulk.worker import PATIENCE

_OF_TASKS = ("num_gpus", "memory", "resources")
"""Settings that each job gets; the others are those of ``ray.init``."""

_RETRIES = 3
_ENVIRONMENT = ("ZOO_", "HF_")
_SECRET = "TOKEN"
"""Ray shows the environment of tasks to all users of the cluster, so tokens stay here."""


def run(
    jobs: Sequence[Job],
    store: Store,
    settings: dict[str, Any],
    *,
    at_once: int | None,
    threads: int | None,
    keep: bool,
    started: Callable[[Job], None],
    ended: Callable[[Outcome], None],
    tick: Callable[[], None],
) -> None:
    """Hands the jobs to Ray, and stores what comes back; see :func:`zoo_bulk.engines.run`. Ctrl-C cancels."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise MissingExtraError.of("The engine ray", "ray", "zoo-vision[ray]") from None
    own = {name: settings.pop(name) for name in _OF_TASKS if name in settings}
    is_ours = not ray.is_initialized()
    if is_ours:
        _connect(ray, settings)
    sizes = {"num_cpus": threads or 1, **own}
    task = ray.remote(max_retries=_RETRIES, runtime_env={"env_vars": _environment()}, **sizes)(_work)
    store.forget(jobs)
    end = storing(store, ended)
    held: dict[str, Any] = {}
    waiting = [*reversed(jobs)]
    running: dict[Any, Job] = {}
    try:
        while waiting or running:
            while waiting and len(running) < (at_once or len(jobs)):
                job = waiting.pop()
                files = {file: held[file] for file in job.files if file in held}
                running[task.remote(job, files, threads or 1, keep)] = job
                started(job)
            ready, _ = ray.wait([*running], timeout=1)
            for reference in ready:
                job = running.pop(reference)
                found = _outcome(ray, reference, job)
                if isinstance(found, Outcome):
                    end(found)
                else:
                    held |= {file: ray.put(Path(file).read_bytes()) for file in found if file not in held}
                    waiting.append(job)
            tick()
    finally:
        for reference in running:
            with suppress(Exception):  # the cluster may be gone
                ray.cancel(reference)
        if is_ours:
            ray.shutdown()


def _connect(ray: Any, settings: Mapping[str, Any]) -> None:
    asked = {"log_to_driver": False, "logging_level": "warning", "include_dashboard": False, **settings}
    try:
        ray.init(**asked)
    except (TypeError, ValueError, RuntimeError, ConnectionError) as error:
        raise SpecError(f"Ray does not start with the settings: {error}") from None


def _environment() -> dict[str, str]:
    """What a task finds in its environment: the plugins and the data that this process finds."""
    found = {name: value for name, value in os.environ.items() if name.startswith(_ENVIRONMENT) and _SECRET not in name}
    found["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    return found


_child: Child | None = None
"""The process that does the jobs of this process, a worker of Ray: one that crashes does not end the worker."""


def _work(job: Job, files: Mapping[str, Any], threads: int, keep: bool) -> tuple[Outcome, bytes] | list[str]:
    """The task, on a node: how the job ended, and what it printed; or the files that this node lacks.

    ``files`` refer to contents in Ray's store, of which each node gets one copy.
    """
    global _child
    lacking = [file for file in job.files if not Path(file).exists()]
    if not files.keys() >= {*lacking}:
        return lacking
    for file in lacking:
        import ray

        storage.replace(Path(file), ray.get(files[file]))
    if _child is None:
        _child = Child(threads, keep)
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        try:
            outcome = _child.do(job._replace(log=Path(log.name)))
        except BaseException:  # cancelled
            child, _child = _child, None
            child.interrupt()
            child.wait(PATIENCE)
            child.kill()
            raise
        assert outcome is not None  # Ray watches the memory
        return outcome._replace(job=job), Path(log.name).read_bytes()


def _outcome(ray: Any, reference: Any, job: Job) -> Outcome | list[str]:
    """How the job ended, or the files that its node lacks."""
    try:
        said = ray.get(reference)
    except ray.exceptions.RayError as error:
        [reason, *_] = str(error).strip().splitlines() or [""]
        return Outcome(job, "failed", None, f"its node ended: {type(error).__name__}: {reason}", 0.0)
    if isinstance(said, list):
        return said
    outcome, printed = said
    storage.append(job.log, printed)
    return Outcome(*outcome)

"""Runs jobs as a Slurm array through submitit; with the setting ``cluster=local`` as processes of this machine.

Each task of the array runs its share of the jobs with the local engine, and stores their outcomes in the shared folder.
So a task that Slurm preempts and requeues continues with the rest, and the next run finds tasks whose submitter was
killed.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from zoo.errors import MissingExtraError, SpecError
from zoo.system import storage
from zoo_bulk import local
from zoo_bulk.job import Job, Outcome
from zoo_bulk.store import Store

_MOST = 200
"""Tasks of an array, unless ``at_once`` says otherwise. Slurm's usual limit is 1001."""

_MINUTES = 60
_POLL = 0.5


class Share(NamedTuple):
    """A task of the array: some of the jobs, one after another. submitit pickles it, and calls it on the node."""

    jobs: Sequence[Job]
    store: Store
    threads: int
    keep: bool
    path: Sequence[str]
    """Where the submitting process finds its plugins."""

    def __call__(self) -> None:
        sys.path += [place for place in self.path if place not in sys.path]
        left = [job for job in self.jobs if self.store.find(job) is None]
        local.run(left, threads=self.threads, keep=self.keep, ended=self.store.put)

    def checkpoint(self) -> Any:
        """The task after preemption or a timeout, when Slurm has requeued it: the same share."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Submitted(NamedTuple):
    """A task that was submitted, and the keys of its jobs."""

    handle: Any
    keys: frozenset[str]


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
    """Submits what is not submitted yet, and waits for all; see :func:`zoo_bulk.engines.run`. Ctrl-C cancels."""
    try:
        import submitit
    except ImportError:
        raise MissingExtraError.of("The engine submitit", "submitit", "zoo-vision[submitit]") from None
    folder = store.folder.with_name("submitit")
    threads = threads or 1
    try:
        executor = submitit.AutoExecutor(folder, cluster=settings.pop("cluster", None))
        asked = {"name": "zoo", "cpus_per_task": threads, "timeout_min": _MINUTES, **settings}
        executor.update_parameters(**asked)
    except (TypeError, ValueError, NameError, RuntimeError) as error:
        raise SpecError(f"submitit does not accept the settings: {error}.") from None
    is_local = executor.cluster == "local"
    known = [task for task in _recorded(executor, folder) if _is_running(task.handle, is_local)]
    adopted = frozenset[str]().union(*(task.keys for task in known))
    left = [job for job in jobs if job.key not in adopted]
    store.forget(left)
    count = min(len(left), at_once or (local.cores() if is_local else _MOST))
    shares = [Share(left[number::count], store, threads, keep, sys.path) for number in range(count)]
    handles = executor.submit_array(shares) if shares else []
    tasks = [*known, *(Submitted(handle, _keys(share)) for handle, share in zip(handles, shares, strict=True))]
    _record(folder, tasks)
    for job in jobs:
        started(job)
    try:
        _wait(jobs, store, tasks, is_local, ended, tick)
    except BaseException:
        for task in tasks:
            _cancel(task.handle, is_local)
        raise
    finally:
        for task in tasks if is_local else ():
            if task.handle._process is not None:  # a child of this process
                task.handle._process.wait()


def _wait(
    jobs: Sequence[Job],
    store: Store,
    tasks: Sequence[Submitted],
    is_local: bool,
    ended: Callable[[Outcome], None],
    tick: Callable[[], None],
) -> None:
    """Reports outcomes as they appear in the store; jobs whose task has ended without one have failed."""
    left = {job.key: job for job in jobs}
    while left:
        over = [task for task in tasks if not _is_running(task.handle, is_local)]  # before the store is read
        for job in [*left.values()]:
            if (outcome := store.find(job)) is not None:
                del left[job.key]
                ended(outcome)
        for task in over:
            for job in [left.pop(key) for key in task.keys & left.keys()]:
                outcome = Outcome(job, "failed", None, f"its task {_ending(task.handle)}", 0.0)
                store.put(outcome)
                ended(outcome)
        tick()
        time.sleep(_POLL)


def _ending(handle: Any) -> str:
    with suppress(Exception):  # of whatever the cluster's commands say
        return f"{handle.job_id} ended in the state {handle.state}; its output is in {handle.paths.stderr}"
    return f"{handle.job_id} ended"


def _is_running(handle: Any, is_local: bool) -> bool:
    if not is_local or handle._process is not None:
        return not handle.done()
    try:  # submitit knows no process that another one started
        os.kill(int(handle.job_id), 0)
    except (OSError, ValueError):
        return False
    return not handle.paths.result_pickle.exists()


def _cancel(handle: Any, is_local: bool) -> None:
    with suppress(Exception):  # it may have ended
        if is_local and handle._process is None:
            os.kill(int(handle.job_id), 2)
        else:
            handle.cancel()


def _keys(share: Share) -> frozenset[str]:
    return frozenset(job.key for job in share.jobs)


def _record(folder: Path, tasks: Sequence[Submitted]) -> None:
    """Notes which tasks were submitted, for a run after this one was killed."""
    known = {str(task.handle.job_id): sorted(task.keys) for task in tasks}
    storage.replace(folder / "submitted.json", msgspec.json.encode(known))


def _recorded(executor: Any, folder: Path) -> list[Submitted]:
    with suppress(OSError, msgspec.MsgspecError):
        known = msgspec.json.decode((folder / "submitted.json").read_bytes(), type=dict[str, list[str]])
        return [Submitted(executor._executor.job_class(folder, job), frozenset(keys)) for job, keys in known.items()]
    return []

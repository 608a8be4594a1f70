"""Runs jobs on clusters: as a Slurm array through submitit, or as tasks of Ray.

With submitit, each task of the array runs its share of the jobs on its node, and stores their outcomes in the shared
folder. So a task that Slurm preempts and requeues continues with the rest, and the next run finds tasks whose submitter
was killed. With the setting ``cluster=local`` the tasks are processes of this machine.

The Ray cluster is one that exists, or else one of this machine alone. Ray starts a task again if its worker or its node
ends. A job runs in a process below its worker. What it prints comes back with its outcome. Files that a node lacks are
brought to the same path there, once.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from zoo.errors import MissingExtraError, SpecError
from zoo.system import storage
from zoo_bulk.jobs import PATIENCE, Child, Job, Outcome, Store, cores, run_here, storing

_MOST = 200
"""Tasks of an array, unless ``at_once`` says otherwise. Slurm's usual limit is 1001."""

_MINUTES = 60
_POLL = 0.5

_ASK = 10.0
"""Seconds between two questions to Slurm, whose controller serves everybody."""

_OVER = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"}
_OVER |= {"LAUNCH_FAILED", "RECONFIG_FAIL", "REVOKED", "TIMEOUT"}
"""Slurm's words for a task that does not go on. One that is suspended, held or requeued does."""


class Share(NamedTuple):
    """A task of the array: some of the jobs, one after another. submitit pickles it, and calls it on the node."""

    jobs: Sequence[Job]
    store: Store
    threads: int
    keep: bool
    path: Sequence[str]
    """The path on which the submitting process finds its plugins."""

    def __call__(self) -> None:
        sys.path += [place for place in self.path if place not in sys.path]
        left = [job for job in self.jobs if self.store.find(job) is None]
        run_here(left, threads=self.threads, keep=self.keep, ended=self.store.put)

    def checkpoint(self) -> Any:
        """Returns the task after preemption or a timeout, when Slurm has requeued it: the same share."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Submitted(NamedTuple):
    """A task that was submitted, and the keys of its jobs."""

    handle: Any
    keys: frozenset[str]


class LocalTasks:
    """The tasks of this machine, also those that another process of Zoo submitted."""

    def state(self, handle: Any) -> str:
        """Returns Slurm's word for the task."""
        if handle._process is not None:
            return "COMPLETED" if handle.done() else "RUNNING"
        try:  # submitit knows no process that another one started
            os.kill(int(handle.job_id), 0)
        except (OSError, ValueError):
            return "COMPLETED"
        return "COMPLETED" if handle.paths.result_pickle.exists() else "RUNNING"

    def cancel(self, handle: Any) -> None:
        if handle._process is None:
            os.kill(int(handle.job_id), 2)
        else:
            handle.cancel()


class SlurmTasks:
    """The tasks of this user as squeue shows them: submitit asks sacct, which needs accounting that many clusters lack.

    squeue forgets a task some minutes after its end. While it does not answer, nothing has ended.
    """

    def __init__(self) -> None:
        self._states: dict[str, str] | None = None
        self._asked = -_ASK

    def state(self, handle: Any) -> str:
        """Returns Slurm's word for the task."""
        now = time.monotonic()
        if now - self._asked >= _ASK:
            self._asked = now
            command = ["squeue", f"--user={os.getuid()}", "--array", "--noheader", "--states=all", "--format=%i %T"]
            with suppress(OSError, subprocess.SubprocessError, ValueError):
                answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
                self._states = dict(line.split(maxsplit=1) for line in answer.stdout.splitlines())
        return "UNKNOWN" if self._states is None else self._states.get(handle.job_id, "COMPLETED")

    def cancel(self, handle: Any) -> None:
        handle.cancel()


def run_on_submitit(
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
    """Submits what is not submitted yet, and waits for all; see :func:`zoo_bulk.jobs.run`. Ctrl-C cancels."""
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
    cluster = LocalTasks() if is_local else SlurmTasks()
    running = [task for task in _recorded(executor, folder) if cluster.state(task.handle) not in _OVER]
    adopted = frozenset[str]().union(*(task.keys for task in running))
    left = [job for job in jobs if job.key not in adopted]
    store.forget(left)
    count = min(len(left), at_once or (cores() if is_local else _MOST))
    shares = [Share(left[number::count], store, threads, keep, sys.path) for number in range(count)]
    handles = executor.submit_array(shares) if shares else []
    cluster = cluster if is_local else SlurmTasks()  # which asks again, now that they are submitted
    tasks = [
        *running,
        *(
            Submitted(handle, frozenset(job.key for job in share.jobs))
            for handle, share in zip(handles, shares, strict=True)
        ),
    ]
    _record(folder, tasks)
    for job in jobs:
        started(job)
    try:
        _wait(jobs, store, tasks, cluster, ended, tick)
    except BaseException:
        for task in tasks:
            with suppress(Exception):  # it may have ended
                cluster.cancel(task.handle)
        raise
    finally:
        for task in tasks if is_local else ():
            if task.handle._process is not None:  # a child of this process
                task.handle._process.wait()


def _wait(
    jobs: Sequence[Job],
    store: Store,
    tasks: Sequence[Submitted],
    cluster: LocalTasks | SlurmTasks,
    ended: Callable[[Outcome], None],
    tick: Callable[[], None],
) -> None:
    """Reports outcomes as they appear in the store; jobs whose task has ended without one have failed."""
    left = {job.key: job for job in jobs}
    while left:
        states = {task.handle.job_id: cluster.state(task.handle) for task in tasks}  # before the store is read
        for key in store.keys() & left.keys():
            if (outcome := store.find(left[key])) is not None:
                del left[key]
                ended(outcome)
        for task in (task for task in tasks if states[task.handle.job_id] in _OVER):
            name, output = task.handle.job_id, task.handle.paths.stderr
            for job in [left.pop(key) for key in task.keys & left.keys()]:
                reason = f"its task {name} ended in the state {states[name]}; its output is in {output}"
                outcome = Outcome(job, "failed", None, reason, 0.0)
                store.put(outcome)
                ended(outcome)
        tick()
        time.sleep(_POLL)


def _record(folder: Path, tasks: Sequence[Submitted]) -> None:
    """Notes which tasks were submitted, for a run after this one was killed."""
    known = {str(task.handle.job_id): sorted(task.keys) for task in tasks}
    storage.replace(folder / "submitted.json", msgspec.json.encode(known))


def _recorded(executor: Any, folder: Path) -> list[Submitted]:
    with suppress(OSError, msgspec.MsgspecError):
        known = msgspec.json.decode((folder / "submitted.json").read_bytes(), type=dict[str, list[str]])
        return [Submitted(executor._executor.job_class(folder, job), frozenset(keys)) for job, keys in known.items()]
    return []


_OF_TASKS = ("num_gpus", "memory", "resources")
"""Settings that each job gets; the others are those of ``ray.init``."""

_RETRIES = 3
_ENVIRONMENT = ("ZOO_", "HF_")
_SECRET = "TOKEN"
"""Ray shows the environment of tasks to all users of the cluster, so tokens stay here."""


def run_on_ray(
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
    """Hands the jobs to Ray, and stores what comes back; see :func:`zoo_bulk.jobs.run`. Ctrl-C cancels."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise MissingExtraError.of("The engine ray", "ray", "zoo-vision[ray]") from None
    of_tasks = {name: settings.pop(name) for name in _OF_TASKS if name in settings}
    is_ours = not ray.is_initialized()
    if is_ours:
        _connect(ray, settings)
    sizes = {"num_cpus": threads or 1, **of_tasks}
    task = ray.remote(max_retries=_RETRIES, runtime_env={"env_vars": _environment()}, **sizes)(_work)
    store.forget(jobs)
    end = storing(store, ended)
    objects: dict[str, Any] = {}
    waiting = [*reversed(jobs)]
    running: dict[Any, Job] = {}
    try:
        while waiting or running:
            while waiting and len(running) < (at_once or len(jobs)):
                job = waiting.pop()
                files = {file: objects[file] for file in job.files if file in objects}
                running[task.remote(job, files, threads or 1, keep)] = job
                started(job)
            ready, _ = ray.wait([*running], timeout=1)
            for reference in ready:
                job = running.pop(reference)
                answer = _ray_outcome(ray, reference, job)
                if isinstance(answer, Outcome):
                    end(answer)
                else:
                    objects |= {file: ray.put(Path(file).read_bytes()) for file in answer if file not in objects}
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
    """Returns what a task finds in its environment: the plugins and the data that this process finds."""
    found = {name: value for name, value in os.environ.items() if name.startswith(_ENVIRONMENT) and _SECRET not in name}
    found["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    return found


_child: Child | None = None
"""The process that does the jobs of this process, a worker of Ray: one that crashes does not end the worker."""


def _work(job: Job, files: Mapping[str, Any], threads: int, keep: bool) -> tuple[Outcome, bytes] | list[str]:
    """Does a task on a node; returns how the job ended, and what it printed, or the files that this node lacks.

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


def _ray_outcome(ray: Any, reference: Any, job: Job) -> Outcome | list[str]:
    """Returns how the job ended, or the files that its node lacks."""
    try:
        answer = ray.get(reference)
    except ray.exceptions.RayError as error:
        [reason, *_] = str(error).strip().splitlines() or [""]
        return Outcome(job, "failed", None, f"its node ended: {type(error).__name__}: {reason}", 0.0)
    if isinstance(answer, list):
        return answer
    outcome, printed = answer
    storage.append(job.log, printed)
    return Outcome(*outcome)

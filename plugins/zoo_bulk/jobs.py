"""Runs independent jobs, each in a process of its own, so that one that fails or crashes takes no other with it.

They run on this machine, on a Slurm cluster or on a Ray cluster (:mod:`zoo_bulk.clusters`). Their outcomes are kept by
their keys, a JSON file each, in a folder that several machines may share.
"""

import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from zoo.errors import SpecError, UnknownNameError
from zoo.system import storage
from zoo.system.process import Worker, ending
from zoo_bulk import memory

PATIENCE = 60.0
"""Seconds that an interrupted job has to keep what it has done."""

NAMES = ("local", "submitit", "ray")
"""The first is the default."""


class Job(NamedTuple):
    """A call of ``function``, "module:name", with ``arguments`` that JSON can hold; what it prints goes to ``log``.

    ``key`` is a hash of all that decides the result, by which a store knows the outcome; empty if none is stored.
    ``files`` are paths of files that the job reads, which another machine may lack.
    """

    name: str
    function: str
    arguments: Mapping[str, Any]
    log: Path
    key: str = ""
    files: tuple[str, ...] = ()


class Outcome(NamedTuple):
    """The end of a job. ``result`` is what its function returned, as JSON holds it; ``reason`` why it failed.

    ``memory`` is the most that its process held, in bytes; 0 if it is not known.
    """

    job: Job
    status: Literal["done", "failed", "stopped"]
    result: Any
    reason: str
    seconds: float
    memory: int = 0


class Stored(msgspec.Struct, frozen=True):
    """An outcome as it is stored. ``seconds`` and ``memory`` are of the run that produced it."""

    name: str
    status: Literal["done", "failed"]
    result: Any
    reason: str
    seconds: float
    memory: int


class Store:
    """The outcomes in ``folder``. A file appears there as a whole, so a job counts as done once or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()  # another process may look from elsewhere

    def keys(self) -> frozenset[str]:
        """Returns the keys of the jobs that have an outcome, from one look at the folder."""
        with suppress(FileNotFoundError):  # nothing has ended
            return frozenset(name.removesuffix(".json") for name in os.listdir(self.folder) if name.endswith(".json"))
        return frozenset()

    def find(self, job: Job) -> Outcome | None:
        """Returns the outcome of ``job``; None if it has none yet."""
        with suppress(OSError, msgspec.MsgspecError):
            found = msgspec.json.decode(self._file(job).read_bytes(), type=Stored)
            return Outcome(job, found.status, found.result, found.reason, found.seconds, found.memory)
        return None

    def put(self, outcome: Outcome) -> None:
        """Stores an outcome. A job that was stopped has none: it runs again."""
        job, status, result, reason, seconds, memory = outcome
        if status != "stopped":
            stored = Stored(job.name, status, result, reason, round(seconds, 3), memory)
            storage.replace(self._file(job), msgspec.json.encode(stored) + b"\n")

    def forget(self, jobs: Iterable[Job]) -> None:
        """Removes the outcomes of ``jobs``, which are to run again."""
        for job in jobs:
            self._file(job).unlink(missing_ok=True)

    def _file(self, job: Job) -> Path:
        return self.folder / f"{job.key}.json"


def run(
    jobs: Sequence[Job],
    store: Store,
    *,
    engine: str = NAMES[0],
    settings: Mapping[str, Any] | None = None,
    at_once: int | None = None,
    threads: int | None = None,
    keep: bool = True,
    gpus: Sequence[str] = (),
    started: Callable[[Job], None] = lambda job: None,
    ended: Callable[[Outcome], None] = lambda outcome: None,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Runs ``jobs``, each of which has a key, and stores how they ended.

    Which engine runs them, and in which order they end, changes no result. A job that is killed with this process has
    no outcome, and runs again when it is given again.

    Args:
        jobs: The jobs.
        store: Gets each outcome before ``ended`` is called. What it has of ``jobs`` is forgotten first.
        engine: ``local``, ``submitit`` or ``ray``.
        settings: The engine's own: the parameters of submitit's ``AutoExecutor``, or of ``ray.init``.
        at_once: How many run at a time; None for as many as there are cores, on a cluster as it has.
        threads: Threads of each.
        keep: Whether a process that has done a job does the next one too.
        gpus: For the local engine: GPUs, of which each process sees one. Clusters assign them by their settings.
        started: Called when a job begins, or is handed to the cluster.
        ended: Called when a job has ended.
        tick: Called about once a second meanwhile.

    Raises:
        UnknownNameError: There is no such engine.
        MissingExtraError: Its library is not installed.
        SpecError: It has no such setting.
        KeyboardInterrupt: After Ctrl-C, when the jobs are stopped.
    """
    if engine not in NAMES:
        raise UnknownNameError.of("engine", engine, NAMES, hint=f"Engines are {', '.join(NAMES)}.")
    store.folder.mkdir(parents=True, exist_ok=True)
    watching = {"started": started, "ended": ended, "tick": tick}
    sizes: dict[str, Any] = {"at_once": at_once, "threads": threads, "keep": keep}
    if engine == "local":
        if settings:
            raise SpecError(f"The local engine has no setting {', '.join(settings)}.", hint="Remove it.")
        store.forget(jobs)
        run_here(jobs, gpus=gpus, **sizes, **watching | {"ended": storing(store, ended)})  # type: ignore[arg-type]  # by name
        return
    getattr(import_module("zoo_bulk.clusters"), f"run_on_{engine}")(
        jobs, store, dict(settings or {}), **sizes, **watching
    )


def storing(store: Store, ended: Callable[[Outcome], None]) -> Callable[[Outcome], None]:
    """Stores an outcome, then passes it on."""

    def end(outcome: Outcome) -> None:
        store.put(outcome)
        ended(outcome)

    return end


class Child:
    """A process that does jobs, one after another. It starts with the first, and is replaced if it ends."""

    def __init__(self, threads: int, keep: bool, gpu: str | None = None) -> None:
        self._environment = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        if gpu is not None:
            self._environment["CUDA_VISIBLE_DEVICES"] = gpu
        self._keep = keep
        self._worker: Worker | None = None
        self._largest = 0
        """The most that was seen of the memory of the process in this job."""
        self._lock = threading.Lock()
        """Held while the process is started or told to stop."""
        self.is_stopping = False
        self._is_giving_way = False

    @property
    def process(self) -> int:
        return worker.pid if (worker := self._worker) is not None else 0

    def do(self, job: Job) -> Outcome | None:
        """Returns how ``job`` ended; None if it was ended by :meth:`give_way`."""
        start, self._largest = time.monotonic(), 0
        answer = self._ask(job)
        if not answer:
            self._is_giving_way = False
            return None
        status: Literal["done", "failed", "stopped"] = "done" if "result" in answer else "failed"
        if "stopped" in answer:
            status = "stopped"
        seconds = time.monotonic() - start
        return Outcome(job, status, answer.get("result"), answer.get("message", ""), seconds, self._largest)

    def look(self) -> None:
        """Notes what the process holds now."""
        self._largest = max(self._largest, memory.held(self.process))

    def _ask(self, job: Job) -> dict[str, Any]:
        """Returns the answer of the process; nothing if it was ended to spare memory."""
        with self._lock:
            if self.is_stopping:
                return {"stopped": True}
            if self._worker is None:
                self._worker = Worker(patience=PATIENCE, environment=self._environment)
            worker = self._worker
        memory.forget_peak(worker.pid)
        answer = worker.call(job.function, job.arguments, job.log)
        self._largest = max(self._largest, memory.peak(worker.pid))
        if answer is not None and self._keep and "stopped" not in answer:
            return answer
        with self._lock:
            self._worker = None
        worker.interrupt()
        code = worker.wait()
        worker.close()
        if answer is not None:
            return answer
        if self.is_stopping:
            return {"stopped": True}
        return {} if self._is_giving_way else {"message": f"its process crashed: {ending(code or 0)}"}

    def give_way(self) -> None:
        """Ends the job, which is to run again."""
        with self._lock:
            if self._worker is not None:
                self._is_giving_way = True
                self._worker.kill()

    def interrupt(self) -> None:
        """Interrupts the job, which can save its work. The process gets no other job."""
        with self._lock:
            self.is_stopping = True
            if self._worker is not None:
                self._worker.interrupt()

    def wait(self, seconds: float) -> None:
        if (worker := self._worker) is not None:
            worker.wait(seconds)

    def kill(self) -> None:
        if (worker := self._worker) is not None:  # the thread forgets it as soon as it has ended
            worker.close()


_LOOK = 1.0
"""Seconds between two looks at memory."""


def cores() -> int:
    """Returns the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Lets SIGTERM raise KeyboardInterrupt, but outside the main thread, where Python allows no handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


@_sigterm_as_ctrl_c()
def run_here(
    jobs: Sequence[Job],
    *,
    at_once: int | None = 1,
    threads: int | None = None,
    keep: bool = True,
    gpus: Sequence[str] = (),
    started: Callable[[Job], None] = lambda job: None,
    ended: Callable[[Outcome], None] = lambda outcome: None,
    tick: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """Runs ``jobs`` in their order, ``at_once`` at a time.

    A job that raises or whose process crashes has failed; the others go on. A job begins beside others only if as much
    memory is free as the largest job took so far. If memory runs short all the same, the job that began last is ended
    and begun again later. Ctrl-C or SIGTERM interrupts the running jobs, waits until they have kept what they have
    done, and raises KeyboardInterrupt; a second one kills them.

    Args:
        jobs: The jobs.
        at_once: How many run at a time; None for as many as there are cores.
        threads: Threads of each. By default the cores of this machine are shared out.
        keep: Whether a process that has done a job does the next one too, which saves its start.
        gpus: GPUs as ``CUDA_VISIBLE_DEVICES`` names them. Each process sees one, in turns; by default all.
        started: Called when a job begins.
        ended: Called when a job has ended.
        tick: Called about once a second meanwhile. All three are called by the calling thread.

    Returns:
        The outcomes, in the order of ``jobs``.
    """
    at_once = max(1, min(at_once or cores(), len(jobs)))
    threads = threads or max(1, cores() // at_once)
    events: queue.SimpleQueue[tuple[int, Outcome | None]] = queue.SimpleQueue()
    waiting = _Waiting(len(jobs))
    workers = [Child(threads, keep, gpus[number % len(gpus)] if gpus else None) for number in range(at_once)]
    for worker in workers:
        threading.Thread(target=_work, args=(worker, jobs, waiting, events), daemon=True).start()
    outcomes: dict[int, Outcome] = {}
    watched = time.monotonic()
    try:
        while len(outcomes) < len(jobs):
            if time.monotonic() - watched > _LOOK:
                watched = time.monotonic()
                waiting.spare_memory()
                tick()
            try:
                index, outcome = events.get(timeout=_LOOK)
            except queue.Empty:
                continue
            if outcome is None:
                started(jobs[index])
            else:
                outcomes[index] = outcome
                ended(outcome)
    finally:
        _stop(workers)
    return [outcomes[index] for index in range(len(jobs))]


def _work(
    worker: Child,
    jobs: Sequence[Job],
    waiting: "_Waiting",
    events: "queue.SimpleQueue[tuple[int, Outcome | None]]",
) -> None:
    """Gives jobs to a worker, as its thread."""
    while (index := waiting.take(worker)) is not None:
        events.put((index, None))
        outcome = worker.do(jobs[index])
        waiting.end(worker, index, outcome)
        if outcome is not None:
            events.put((index, outcome))


def _stop(workers: Sequence[Child]) -> None:
    """Interrupts what still runs, and waits for it."""
    try:
        for worker in workers:
            worker.interrupt()
        for worker in workers:
            worker.wait(PATIENCE)
    finally:
        for worker in workers:
            worker.kill()


class _Waiting:
    """The jobs that have not begun, and the workers that are busy, in the order in which they began."""

    def __init__(self, count: int) -> None:
        self._left = deque(range(count))
        self._busy: list[Child] = []
        self._largest = 0
        self._changed = threading.Condition()

    def take(self, worker: Child) -> int | None:
        """Returns the next job, as soon as it fits into memory; None if there is none, or the worker is to stop."""
        with self._changed:
            while self._left and not worker.is_stopping:
                if not self._busy or memory.fits(self._largest or memory.USUAL, [one.process for one in self._busy]):
                    self._busy.append(worker)
                    return self._left.popleft()
                self._changed.wait(1)
        return None

    def end(self, worker: Child, index: int, outcome: Outcome | None) -> None:
        """Takes the end of the worker's job, which without an outcome is to begin again."""
        with self._changed:
            self._busy.remove(worker)
            if outcome is None:
                self._left.appendleft(index)
            else:
                self._largest = max(self._largest, outcome.memory)
            self._changed.notify_all()

    def spare_memory(self) -> None:
        """Notes what each process holds; if memory runs short, ends the job that began last."""
        with self._changed:
            for worker in self._busy:
                worker.look()
            if len(self._busy) > 1 and memory.is_short():
                self._busy[-1].give_way()

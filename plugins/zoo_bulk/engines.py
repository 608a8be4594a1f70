"""The engines that run jobs: on this machine, on a Slurm cluster, on a Ray cluster."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from zoo.errors import SpecError, UnknownNameError
from zoo_bulk import local
from zoo_bulk.job import Job, Outcome
from zoo_bulk.store import Store

NAMES = ("local", "submitit", "ray")
"""The first is the default."""


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
        local.run(jobs, gpus=gpus, **sizes, **watching | {"ended": storing(store, ended)})  # type: ignore[arg-type]  # by name
        return
    import_module(f"zoo_bulk.on_{engine}").run(jobs, store, dict(settings or {}), **sizes, **watching)


def storing(store: Store, ended: Callable[[Outcome], None]) -> Callable[[Outcome], None]:
    """Stores an outcome, then passes it on."""

    def end(outcome: Outcome) -> None:
        store.put(outcome)
        ended(outcome)

    return end

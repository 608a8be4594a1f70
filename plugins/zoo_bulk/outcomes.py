"""Runs a plan, and makes the tables of its results."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from zoo.results.rows import Row, Speed
from zoo_bulk import engines
from zoo_bulk.job import Job, Outcome
from zoo_bulk.plans import Plan
from zoo_bulk.store import Store


def store_in(folder: Path) -> Store:
    """The outcomes of the jobs of a folder of results."""
    return Store(folder / "jobs")


def left(plan: Plan, store: Store) -> list[Job]:
    """The jobs that are not done: those that have not ended, that failed, or whose file is gone."""
    return [job for job in plan.jobs if not _is_done(store.find(job), store.folder.parent)]


def _is_done(outcome: Outcome | None, folder: Path) -> bool:
    if outcome is None or outcome.status != "done":
        return False
    return all((folder / row["file"]).exists() for row in outcome.result["rows"] if "file" in row)


def run(
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
    """Runs the jobs of ``plan`` that are not done; see :func:`zoo_bulk.engines.run`.

    By default, the local engine runs as many at a time as there are GPUs, or else cores.
    """
    is_local = engine == engines.NAMES[0]
    engines.run(
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
    """The rows of ``plan``, sorted, and the speeds: of all jobs that have ended, and of those that were skipped."""
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

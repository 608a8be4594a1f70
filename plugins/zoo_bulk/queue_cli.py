"""``zoo train --queue``: several trainings, with a table of their states."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from zoo.cli import options
from zoo.cli.output import drawn_table, live_table, note, one_line, print_json, print_table
from zoo.system.amounts import clock, duration
from zoo_bulk import queue
from zoo_bulk.engine_options import engine_options, engine_settings

if TYPE_CHECKING:
    from rich.live import Live

    from zoo_bulk.job import Outcome
    from zoo_bulk.queue import State, Training

_TITLES = ("training", "state", "epochs", "validation", "train", "left", "reason")
_RIGHT = ("epochs", "validation", "train", "left")
_REFRESH = 5.0
"""Seconds between two looks at the directories, for the table on a terminal."""


def _refuse(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value:
        raise click.UsageError("MODEL and --queue exclude each other: write it into the file.", context)


@click.command(epilog="Example: zoo train --queue queue.toml -o runs --at-once 2 --threads 1")
@click.argument("model", required=False, expose_value=False, metavar="", callback=_refuse)
@click.option(
    "--queue", "file", type=options.FILE, required=True, metavar="FILE", help="List of trainings, tables [[train]]."
)
@options.output("Write the runs to directories below DIR.", options.NEW_FOLDER)
@click.option("--at-once", default=1, show_default=True, type=options.POSITIVE, help="Trainings at a time.")
@click.option("--threads", type=options.POSITIVE, help="Threads of each.  [default: the cores, shared out]")
@engine_options
@click.option("--status", "only_show", is_flag=True, help="Show how far the list is, and train nothing.")
@options.json
@click.pass_context
def train_queue(
    context: click.Context,
    /,
    file: Path,
    output: Path,
    at_once: int,
    threads: int | None,
    engine: str,
    engine_args: dict[str, str],
    only_show: bool,
    as_json: bool,
) -> None:
    """Train the models of a list.

    Ctrl-C writes the checkpoints, and the same command continues. A training that fails stops no other, and is tried
    again by the next call. Exits 1 if one failed.
    """
    folder = output
    trainings = queue.read(file)
    is_interrupted = False
    if not only_show:
        for state in queue.states(trainings, folder):
            if state.status == "running":
                note(f"{state.name}: {queue.ELSEWHERE}")
        with live_table() as live:
            watch = _Watch(trainings, folder, at_once, live)
            try:
                queue.run(
                    trainings,
                    folder,
                    at_once=at_once,
                    threads=threads,
                    **engine_settings(context),
                    started=watch.started,
                    ended=watch.ended,
                    tick=watch.tick,
                )
            except KeyboardInterrupt:
                is_interrupted = True
    found = queue.states(trainings, folder)
    if as_json:
        print_json(
            {
                **queue.counts(found),
                "seconds_left": queue.seconds_left(found, at_once),
                "trainings": [msgspec.to_builtins(state) for state in found],
            }
        )
    else:
        print_table(_TITLES, [_row(state) for state in found], right=_RIGHT)
        note(_summary(found, at_once))
    if is_interrupted:
        note("Interrupted. The same command continues from the checkpoints.")
        context.exit(130)
    context.exit(int(any(state.status == "failed" for state in found)))


class _Watch:
    """Shows what happens: in the table on a terminal, else as lines."""

    def __init__(self, trainings: "Sequence[Training]", folder: Path, at_once: int, live: "Live | None") -> None:
        self.trainings, self.folder, self.at_once, self.live = trainings, folder, at_once, live
        self._last = time.monotonic()

    def started(self, name: str) -> None:
        self._say(f"{name}: started; its output is in {self.folder / name}.log")

    def ended(self, name: str, outcome: "Outcome") -> None:
        words = (outcome.status, outcome.reason) if outcome.status == "failed" else (outcome.reason or outcome.status,)
        self._say(": ".join((name, *words)))

    def tick(self) -> None:
        if self.live is not None and time.monotonic() - self._last > _REFRESH:
            self._refresh()

    def _say(self, text: str) -> None:
        if self.live is None:
            note(one_line(text))
        else:
            self._refresh()

    def _refresh(self) -> None:
        assert self.live is not None
        self._last = time.monotonic()
        self.live.update(_drawn(queue.states(self.trainings, self.folder), self.at_once), refresh=True)


def _drawn(found: "Sequence[State]", at_once: int) -> Any:
    from rich.console import Group

    return Group(drawn_table(_TITLES, [_row(state) for state in found], _RIGHT), _summary(found, at_once))


def _row(state: "State") -> tuple[str, ...]:
    epochs = f"{state.epoch:g} of {state.epochs}" if state.epochs else f"{state.epoch:g}" if state.epoch else ""
    left = "" if state.status == "done" or state.seconds_left is None else duration(state.seconds_left)
    return state.name, state.status, epochs, _per_cent(state.val_top1), _per_cent(state.train_top1), left, state.reason


def _per_cent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}%"


def _summary(found: "Sequence[State]", at_once: int) -> str:
    """``2 of 5 done, 1 running, 1 failed; expected to end at 14:05 on Friday``."""
    counted = queue.counts(found)
    parts = [f"{counted['done']} of {len(found)} done"]
    parts += [f"{counted[status]} {status}" for status in ("running", "failed") if counted[status]]
    text = ", ".join(parts)
    left = queue.seconds_left(found, at_once)
    if left:
        text += f"; {duration(left)} left, which would end at {clock(left)}"
    return f"{text}."

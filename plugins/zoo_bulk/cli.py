"""``zoo bulk COMMAND PATTERN...``, a command for many weights; ``zoo train --queue``, ``--seeds``: many trainings."""

import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from zoo.cli import cli, options
from zoo.cli.group import Commands
from zoo.cli.output import (
    drawn_table,
    live_table,
    note,
    one_line,
    print_json,
    print_table,
    stdout_to_stderr,
)
from zoo.system.progress import clock, duration
from zoo_bulk import plans, queue
from zoo_bulk.jobs import NAMES, Job, Outcome, Store
from zoo_bulk.plans import TASKS, Plan, Task
from zoo_bulk.queue import State, Training

if TYPE_CHECKING:
    from rich.live import Live

engine_options = options.several(
    click.option("--engine", type=click.Choice(NAMES), default=NAMES[0], show_default=True, help="What runs the jobs."),
    options.pairs("--engine-arg", "engine_args", help="Setting of the engine. Repeatable."),
)


def engine_settings(context: click.Context) -> dict[str, Any]:
    """Returns the engine that was asked for and its settings, as :func:`zoo_bulk.jobs.run` takes them."""
    from zoo.system.toml import read_value

    pairs = context.params["engine_args"]
    return {
        "engine": context.params["engine"],
        "settings": {key: read_value(value) for key, value in pairs.items()},
    }


_OF_BULK = {"patterns", "data", "split", "output", "against", "at_once", "threads", "engine", "engine_args", "as_json"}
"""Parameters that say which jobs there are and how they run, not what a job computes."""


class Bulk(Commands):
    """The commands that have a task."""

    def brought(self) -> dict[str, Callable[[], click.Command]]:
        return {task.name: partial(command_of, task) for task in TASKS.values()}

    def more_sections(self) -> dict[str, list[str]]:
        return {"Commands:": [task.name for task in TASKS.values()]}


@click.group(cls=Bulk, sections={}, epilog="Example: zoo bulk evaluate 'resnet20.d*' --data digits -o results")
def bulk() -> None:
    """Run a command for all weights that patterns match.

    The results go into tables in DIR. The jobs run on this machine, a Slurm cluster or a Ray cluster; the same command
    continues after an interruption, and tries what failed again.
    """


def command_of(task: Task) -> click.Command:
    """Returns ``zoo bulk NAME``: the options of the command that the task does, and those of a list of jobs."""
    single = _single(task)
    computing = [parameter for parameter in single.params if parameter.name in task.options]

    @click.pass_context
    def run(context: click.Context, /, **keywords: Any) -> None:
        _run(context, task)

    command = click.Command(task.name, params=[], callback=run, help=task.note, epilog=f"Example: {task.example}")
    complete = options.complete_name
    shown: list[options.Option] = [
        click.argument("patterns", nargs=-1, required=True, metavar="PATTERN...", shell_complete=complete)
    ]
    if task.data:
        split = click.option("--split", default=task.split, show_default=True, help="Split of the data sets.")
        shown += [options.data_sets, split, options.limit]
    shown += [
        options.output("Write the results to DIR.", kind=options.NEW_FOLDER),
        click.option("--against", type=options.FILE, metavar="TABLE", help="Compare with TABLE; exit 1 if worse."),
        click.option(
            "--at-once", type=options.POSITIVE, help="Jobs to run at once.  [default: as cores and memory allow]"
        ),
        options.threads,
        engine_options,
        options.json,
    ]
    for option in shown:
        option(command)
    command.params[1:1] = computing
    command.params = [_required(parameter, task) for parameter in command.params]
    return command


def _required(parameter: click.Parameter, task: Task) -> click.Parameter:
    """Returns the option as the task has it: one that a job cannot do without is required, and has no default."""
    if not isinstance(parameter, click.Option) or parameter.name not in task.required:
        return parameter
    option = copy(parameter)
    option.required, option.help = True, (option.help or "").partition("  [default: ")[0]
    return option


def _single(task: Task) -> click.Command:
    """Returns the command that does the task for one of the weights: ``zoo attack curve``."""
    command: click.Command | None = cli
    context = click.Context(cli)
    for word in task.command.split():
        command = command.get_command(context, word) if isinstance(command, click.Group) else None
    if command is None:
        raise click.UsageError(f"zoo {task.command} is not there: the plugin that brings it cannot be used.")
    return command


def _run(context: click.Context, task: Task) -> None:
    """Runs the jobs and prints the table. Exits 1 if a job failed or a result is worse, 130 after Ctrl-C."""
    from zoo import results
    from zoo.cli.results import print_changes, print_rows, print_speeds

    parameters = context.params
    folder: Path = parameters["output"]
    values, words = _options(context)
    before = results.read(parameters["against"]) if parameters["against"] else None
    with stdout_to_stderr():
        planned = plans.plan(
            task.command,
            parameters["patterns"],
            folder,
            data=parameters.get("data", ()),
            split=parameters["split"] if _is_given(context, "split") else "",
            options=values,
            given=words,
        )
    store = plans.store_in(folder)
    is_interrupted = False
    with live_table() as live:
        watch = JobTable(planned, store, live)
        try:
            plans.run_left(
                planned,
                store,
                **engine_settings(context),
                at_once=parameters["at_once"],
                threads=parameters["threads"],
                started=watch.started,
                ended=watch.ended,
                tick=watch.tick,
            )
        except KeyboardInterrupt:
            is_interrupted = True
    rows, speeds = plans.tables(planned, store)
    written = results.write(folder, rows, speeds)
    changes = results.compare(rows, before) if before is not None else []
    if parameters["as_json"]:
        print_json({"files": written, "rows": rows, "changes": changes})
    else:
        print_rows(rows)
        print_speeds(speeds)
        print_changes(changes)
        note(f"{written[0]}: {watch.summary()}")
    if is_interrupted:
        note("Interrupted. The same command continues.")
        context.exit(130)
    is_bad = any(row.status == "failed" for row in rows) or any(change.is_regression for change in changes)
    context.exit(int(is_bad))


def _options(context: click.Context) -> tuple[dict[str, Any], list[str]]:
    """Returns the values that a job computes with, and those of them that were given, as words of the command line.

    The device counts only if it was given: by default it is that of the node.
    """
    values: dict[str, Any] = {}
    words: list[str] = []
    for parameter in context.command.params:
        name = parameter.name or ""
        value, is_given = context.params.get(name), _is_given(context, name)
        if name in _OF_BULK or value is None or (name == "device" and not is_given):
            continue
        values[name] = value
        words += _words(parameter, value) if is_given else []
    return values, words


def _words(parameter: click.Parameter, value: Any) -> list[str]:
    option = parameter.opts[0]
    if isinstance(value, bool):
        return [option if value else parameter.secondary_opts[0]]
    if not isinstance(value, Sequence) or isinstance(value, str):
        return [option, str(value)]
    if parameter.multiple:
        return [word for part in value for word in (option, str(part))]
    return [option, ",".join(map(str, value))]


def _is_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


_MOST_SHOWN = 12
"""Running jobs in the table."""

_BULK_REFRESH = 2.0
"""Seconds between two drawings."""


class JobTable:
    """Shows what happens: in a table on a terminal, else as lines."""

    def __init__(self, plan: "Plan", store: "Store", live: "Live | None") -> None:
        self._live = live
        self._all = len(plan.jobs)
        self._waiting = len(plans.left(plan, store))
        self._counts = {"done": self._all - self._waiting, "failed": 0, "left out": len(plan.left_out)}
        self._ended = 0
        self._running: dict[str, float] = {}
        self._begun = self._drawn = time.monotonic()

    def started(self, job: "Job") -> None:
        self._running[job.name] = time.monotonic()

    def ended(self, outcome: "Outcome") -> None:
        self._running.pop(outcome.job.name, None)
        self._waiting -= 1
        self._ended += 1
        self._counts["done" if outcome.status == "done" else "failed"] += 1
        if outcome.status == "failed":
            self._say(f"{outcome.job.name}: failed: {outcome.reason}; {outcome.job.log} has its output")
        elif self._live is None:
            self._say(f"{outcome.job.name}: {outcome.status} in {duration(outcome.seconds)}")
        self.tick()

    def tick(self) -> None:
        if self._live is not None and time.monotonic() - self._drawn > _BULK_REFRESH:
            self._drawn = time.monotonic()
            self._live.update(self._table(), refresh=True)

    def summary(self) -> str:
        """Returns the state in words: ``12 of 20 done, 1 failed; 4 min left, which would end at 14:05 on Friday``."""
        counts = {**self._counts, "running": len(self._running)}
        others = {status: counts[status] for status in ("running", "failed", "left out")}
        seconds = (time.monotonic() - self._begun) / self._ended * self._waiting if self._ended else 0
        return _summary(counts["done"], self._all, others, seconds)

    def _say(self, text: str) -> None:
        if self._live is None:
            note(one_line(text))
        else:
            self._live.console.print(one_line(text))

    def _table(self) -> Any:
        from rich.console import Group

        now = time.monotonic()
        longest = sorted(self._running.items(), key=lambda item: item[1])[:_MOST_SHOWN]
        rows = [(name, duration(now - begun)) for name, begun in longest]
        return Group(drawn_table(("running", "for"), rows, ("for",)), self.summary())


def _summary(done: int, total: int, others: Mapping[str, int], seconds: float | None) -> str:
    parts = [f"{done} of {total} done", *(f"{number} {status}" for status, number in others.items() if number)]
    left = f"; {duration(seconds)} left, which would end at {clock(seconds)}" if seconds else ""
    return f"{', '.join(parts)}{left}."


_TITLES = ("training", "state", "epochs", "validation", "train", "left", "reason")
_RIGHT = ("epochs", "validation", "train", "left")
_QUEUE_REFRESH = 5.0
"""Seconds between two looks at the directories, for the table on a terminal."""


queue_options = options.several(
    options.output("Write the runs to directories below DIR.", options.NEW_FOLDER),
    click.option("--at-once", default=1, show_default=True, type=options.POSITIVE, help="Trainings to run at once."),
    options.threads,
    engine_options,
    click.option("--status", "only_show", is_flag=True, help="Show how far the list is, and train nothing."),
    options.json,
)


def _refuse(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value:
        raise click.UsageError("MODEL and --queue exclude each other: write it into the file.", context)


@click.command(epilog="Example: zoo train --queue queue.toml -o runs --at-once 2 --threads 1")
@click.argument("model", required=False, expose_value=False, metavar="", callback=_refuse)
@click.option(
    "--queue",
    "file",
    type=options.FILE,
    required=True,
    metavar="FILE",
    help="TOML file with a table [[train]] for each training.",
)
@queue_options
@click.pass_context
def train_queue(context: click.Context, /, file: Path, **keywords: Any) -> None:
    """Train the models of a list.

    Ctrl-C writes the checkpoints, and the same command continues. A training that fails stops no other, and is tried
    again by the next call. Exits 1 if one failed.
    """
    _train(context, queue.read(file))


@click.command(epilog="Example: zoo train resnet8 --data digits --seeds 5 -o runs/resnet8")
@click.argument("model", required=False, shell_complete=options.complete_name, callback=options.refuse_pattern)
@click.option("--seeds", required=True, type=click.IntRange(min=2), help="Number of trainings.")
@queue_options
@click.pass_context
def train_seeds(
    context: click.Context,
    /,
    model: str | None,
    seeds: int,
    data: str,
    recipe: str | None,
    settings: dict[str, Any],
    args: dict[str, str],
    init: str | None,
    teacher: str | None,
    freeze: tuple[str, ...],
    adversarial: str | None,
    checkpoint_every: int,
    keep_epochs: tuple[int, ...],
    device: str | None,
    **keywords: Any,
) -> None:
    """Train a model several times, with the seeds 0, 1, ...

    The runs are DIR/seed0, DIR/seed1, ... Ctrl-C writes the checkpoints, and the same command continues. zoo publish
    DIR publishes the median of them, with the spread of their scores. Exits 1 if one failed.
    """
    from zoo.system.toml import read_value

    settings = {key: read_value(value) for key, value in settings.items()}
    if freeze:
        settings = {**settings, "freeze": freeze}
    if adversarial:
        settings = {"adversarial.attack": adversarial, **settings}
    if "seed" in settings:
        raise click.UsageError("--seeds and --set seed=... exclude each other.")
    if model is None and init is None:
        raise click.MissingParameter(ctx=context, param_type="argument", param_hint="'MODEL'")
    training = Training(
        "seeds",
        data,
        model,
        recipe,
        settings,
        options.read_args(args),
        init,
        teacher,
        device,
        checkpoint_every,
        keep_epochs,
        seeds,
    )
    _train(context, [msgspec.structs.replace(each, name=Path(each.name).name) for each in training.of_seeds()])


def _as_in_train() -> list[click.Parameter]:
    """Returns the options of ``zoo train`` that say what is trained."""
    from zoo.cli.train import train

    names = (
        "data",
        "recipe",
        "settings",
        "args",
        "init",
        "teacher",
        "freeze",
        "adversarial",
        "checkpoint_every",
        "keep_epochs",
        "device",
    )
    chosen = [copy(parameter) for parameter in train.params if parameter.name in names]
    for parameter in chosen:
        if parameter.name == "data":
            parameter.required = True
            parameter.help = "Name or path of a data set."
    return chosen


train_seeds.params[2:2] = _as_in_train()


def _train(context: click.Context, trainings: "Sequence[Training]") -> None:
    """Trains what is left of the list, unless only its state is asked for, and shows the state."""
    folder: Path = context.params["output"]
    at_once: int = context.params["at_once"]
    only_show: bool = context.params["only_show"]
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
                    threads=context.params["threads"],
                    **engine_settings(context),
                    started=watch.started,
                    ended=watch.ended,
                    tick=watch.tick,
                )
            except KeyboardInterrupt:
                is_interrupted = True
    states = queue.states(trainings, folder)
    if context.params["as_json"]:
        print_json(
            {
                **queue.counts(states),
                "seconds_left": queue.seconds_left(states, at_once),
                "trainings": [msgspec.to_builtins(state) for state in states],
            }
        )
    else:
        print_table(_TITLES, [_state_row(state) for state in states], right=_RIGHT)
        note(_queue_summary(states, at_once))
    if is_interrupted:
        note("Interrupted. The same command continues from the checkpoints.")
        context.exit(130)
    context.exit(int(any(state.status == "failed" for state in states)))


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
        if self.live is not None and time.monotonic() - self._last > _QUEUE_REFRESH:
            self._refresh()

    def _say(self, text: str) -> None:
        if self.live is None:
            note(one_line(text))
        else:
            self._refresh()

    def _refresh(self) -> None:
        assert self.live is not None
        self._last = time.monotonic()
        self.live.update(_drawn_states(queue.states(self.trainings, self.folder), self.at_once), refresh=True)


def _drawn_states(states: "Sequence[State]", at_once: int) -> Any:
    from rich.console import Group

    return Group(drawn_table(_TITLES, [_state_row(state) for state in states], _RIGHT), _queue_summary(states, at_once))


def _state_row(state: "State") -> tuple[str, ...]:
    epochs = f"{state.epoch:g} of {state.epochs}" if state.epochs else f"{state.epoch:g}" if state.epoch else ""
    left = "" if state.status == "done" or state.seconds_left is None else duration(state.seconds_left)
    return state.name, state.status, epochs, _per_cent(state.val_top1), _per_cent(state.train_top1), left, state.reason


def _per_cent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}%"


def _queue_summary(states: "Sequence[State]", at_once: int) -> str:
    """Returns ``2 of 5 done, 1 running, 1 failed; expected to end at 14:05 on Friday``."""
    counted = queue.counts(states)
    others = {status: counted[status] for status in ("running", "failed")}
    return _summary(counted["done"], len(states), others, queue.seconds_left(states, at_once))

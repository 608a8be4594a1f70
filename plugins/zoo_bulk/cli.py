"""``zoo bulk COMMAND PATTERN...``: a command for many weights, as a list of jobs with a table of results."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from zoo.cli import cli, options
from zoo.cli.group import Commands
from zoo.cli.output import live_table, note, print_json, stdout_to_stderr
from zoo_bulk.engine_options import engine_options, engine_settings
from zoo_bulk.tasks import TASKS, Task

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
    taken = [parameter for parameter in single.params if parameter.name in task.options]

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
        click.option("--at-once", type=options.POSITIVE, help="Jobs at a time.  [default: as cores and memory allow]"),
        options.threads,
        engine_options,
        options.json,
    ]
    for option in shown:
        option(command)
    command.params[1:1] = taken
    return command


def _single(task: Task) -> click.Command:
    """The command that does the task for one of the weights: ``zoo attack curve``."""
    command: click.Command | None = cli
    context = click.Context(cli)
    for word in task.command.split():
        command = command.get_command(context, word) if isinstance(command, click.Group) else None
    if command is None:
        raise click.UsageError(f"zoo {task.command} is not there: the plugin that brings it cannot be used.")
    return command


def _run(context: click.Context, task: Task) -> None:
    """Runs the jobs and prints the table. Exits 1 if a job failed or a result is worse, 130 after Ctrl-C."""
    from zoo.cli.results.show import print_changes, print_rows, print_speeds
    from zoo.results import comparison, files
    from zoo_bulk import outcomes
    from zoo_bulk.job_table import JobTable
    from zoo_bulk.plans import plan

    parameters = context.params
    folder: Path = parameters["output"]
    values, words = _options(context, task)
    before = files.read(parameters["against"]) if parameters["against"] else None
    with stdout_to_stderr():
        planned = plan(
            task.command,
            parameters["patterns"],
            folder,
            data=parameters.get("data", ()),
            split=parameters["split"] if _is_given(context, "split") else "",
            options=values,
            given=words,
        )
    store = outcomes.store_in(folder)
    is_interrupted = False
    with live_table() as live:
        watch = JobTable(planned, store, live)
        try:
            outcomes.run(
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
    rows, speeds = outcomes.tables(planned, store)
    written = files.write(folder, rows, speeds)
    changes = comparison.compare(rows, before) if before is not None else []
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


def _options(context: click.Context, task: Task) -> tuple[dict[str, Any], list[str]]:
    """The values that a job computes with, and those of them that were given, as words of the command line.

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
    if missing := [name for name in task.required if not context.params[name]]:
        raise click.UsageError(f"zoo bulk {task.name} needs --{missing[0]}.")
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

"""``--all``: a command for many weights, as a list of jobs with a table of results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from zoo.cli import options
from zoo.cli.output import live_table, note, print_json, stdout_to_stderr
from zoo.jobs import NAMES

_HERE = "zoo.bulk"


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Stores the value for :func:`run`, so that the command's own function need not take it."""
    if parameter.name == "engine_args":
        value = options.check_pairs(context, parameter, value)
    context.meta.setdefault(_HERE, {})[parameter.name] = value


def _option(*names: str, **settings: Any) -> options.Option:
    return click.option(*names, expose_value=False, callback=_remember, **settings)


all_option = _option("--all", "is_all", is_flag=True, help="Do it for all weights that the patterns NAME match.")
folder_option = _option(
    "-o", "--output", type=options.NEW_FOLDER, metavar="DIR", help="With --all: write results to DIR."
)
limit_option = _option(
    "--limit", type=options.POSITIVE, metavar="N", help="With --all: use N evenly spaced images.  [default: all]"
)
against_option = _option(
    "--against", type=options.FILE, metavar="TABLE", help="With --all: compare with TABLE; exit 1 if worse."
)
engine_options = options.several(
    _option("--engine", type=click.Choice(NAMES), default=NAMES[0], show_default=True, help="What runs the jobs."),
    _option(
        "--engine-arg", "engine_args", multiple=True, metavar="KEY=VALUE", help="Setting of the engine. Repeatable."
    ),
)
_sizes = options.several(
    _option("--at-once", type=options.POSITIVE, help="Jobs at a time.  [default: as cores and memory allow]"),
    _option("--threads", type=options.POSITIVE, help="Threads of each job.  [default: the cores, shared out]"),
)
list_options = options.several(all_option, against_option, engine_options, _sizes)
"""For a command that writes a file, whose ``-o`` is DIR with ``--all``."""

list_options_with_folder = options.several(all_option, folder_option, against_option, engine_options, _sizes)


def engine() -> dict[str, Any]:
    """The engine that was asked for and its settings, as :func:`zoo.jobs.engines.run` takes them."""
    from zoo.training.choice import read_value

    asked = click.get_current_context().meta[_HERE]
    return {
        "engine": asked["engine"],
        "settings": {key: read_value(value) for key, value in asked["engine_args"].items()},
    }


def is_asked(context: click.Context) -> bool:
    return bool(context.meta[_HERE]["is_all"])


def has_folder(context: click.Context) -> bool:
    return context.meta[_HERE]["output"] is not None


def one(context: click.Context, names: Sequence[str]) -> str:
    """The only name of a command without ``--all``; refuses what needs that."""
    without_all(context)
    if len(names) != 1:
        raise click.UsageError(f"Got {len(names)} names, expected one. --all -o DIR takes several, and patterns.")
    if set("*?[") & set(names[0]) and not Path(names[0]).exists():
        raise click.UsageError(f"{names[0]!r} is a pattern, expected a name. --all -o DIR takes patterns.")
    output = context.params.get("output")
    if isinstance(output, Path) and output.is_dir():
        raise click.UsageError(f"{output} is a directory, expected a file. --all takes a directory.")
    return names[0]


def without_all(context: click.Context) -> None:
    """Refuses options that need ``--all``, and ``-o`` too."""
    for parameter in context.command.params:
        if parameter.name in context.meta[_HERE] and parameter.name != "is_all" and _is_given(context, parameter):
            raise click.UsageError(f"{parameter.opts[0]} needs --all -o DIR.")


def run(context: click.Context, command: str, names: Sequence[str], taken: Sequence[str]) -> NoReturn:
    """Runs ``command`` for all weights that ``names`` match, with those of its parameters that are ``taken``.

    Prints the table of results. Exits 1 if a job failed or a result is worse than before, 130 after Ctrl-C.
    """
    from zoo.bulk import outcomes
    from zoo.bulk.plans import plan
    from zoo.cli.job_table import JobTable
    from zoo.cli.results.show import print_changes, print_rows, print_speeds
    from zoo.results import comparison, files

    asked, parameters = context.meta[_HERE], context.params
    folder = asked.get("output") or parameters.get("output")
    if folder is None:
        raise click.UsageError("--all needs -o DIR, the folder for the results.")
    chosen, given = _options(context, taken)
    old = files.read(asked["against"]) if asked["against"] else None
    data = parameters.get("data") or ()
    with stdout_to_stderr():
        made = plan(
            command,
            names,
            folder,
            data=[data] if isinstance(data, str) else data,
            split=parameters["split"] if _was_given(context, "split") else "",
            options=chosen,
            given=given,
        )
    store = outcomes.store_in(folder)
    is_interrupted = False
    with live_table() as live:
        watch = JobTable(made, store, live)
        try:
            sizes = {"at_once": asked["at_once"], "threads": asked["threads"]}
            outcomes.run(made, store, **engine(), **sizes, started=watch.started, ended=watch.ended, tick=watch.tick)
        except KeyboardInterrupt:
            is_interrupted = True
    rows, speeds = outcomes.tables(made, store)
    written = files.write(folder, rows, speeds)
    changes = comparison.compare(rows, old) if old is not None else []
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


def _options(context: click.Context, taken: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The values of the parameters ``taken``, and those of them that were given, as words of the command line.

    The device counts only if it was given: by default it is that of the node. Refuses other options that were given.
    """
    asked = context.meta[_HERE]
    chosen: dict[str, Any] = {}
    words: list[str] = []
    for parameter in context.command.params:
        name = parameter.name or ""
        value = asked[name] if name in asked else context.params.get(name)
        is_given = _is_given(context, parameter)
        if name in (*taken, "limit"):
            if value is not None and (name != "device" or is_given):
                chosen[name] = value
            words += _words(parameter, value) if is_given else []
        elif is_given and name not in (*asked, "names", "data", "split", "output", "as_json"):
            raise click.UsageError(f"{parameter.opts[0]} cannot be used with --all.")
    return chosen, words


def _words(parameter: click.Parameter, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [parameter.opts[0] if value else parameter.secondary_opts[0]]
    if isinstance(value, list | tuple):
        values = [str(one) for one in value]
        return [word for one in values for word in (parameter.opts[0], one)] if parameter.multiple else [
            parameter.opts[0], ",".join(values)
        ]  # fmt: skip
    return [parameter.opts[0], str(value)]


def _is_given(context: click.Context, parameter: click.Parameter) -> bool:
    return _was_given(context, parameter.name or "")


def _was_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE

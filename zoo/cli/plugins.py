"""``zoo plugins``: what is installed and why it cannot be used; new plugins; their checks. Nothing imports torch."""

import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo import registry
from zoo.cli import options
from zoo.cli.group import Commands
from zoo.cli.output import echo, note, print_json, print_table, stdout_to_stderr
from zoo.errors import PluginError, UnknownNameError
from zoo.registry import PluginRow, discovery

if TYPE_CHECKING:
    from zoo.testing.outcome import Outcome
    from zoo.testing.source import Change


_SECTIONS = {
    "Installed plugins:": {
        "show": "zoo.cli.plugins:show",
        "disable": "zoo.cli.plugins:disable",
        "enable": "zoo.cli.plugins:enable",
    },
    "Your own plugin:": {
        "new": "zoo.cli.plugins:new",
        "check": "zoo.cli.plugins:check",
    },
}


@click.group(cls=Commands, sections=_SECTIONS, invoke_without_command=True, epilog="Example: zoo plugins show resnet")
@options.json
@click.pass_context
def plugins(context: click.Context, as_json: bool) -> None:
    """List the installed plugins and their state.

    Exits 1 if a plugin is broken or set aside.
    """
    if context.invoked_subcommand is None:
        _print_rows(context, list(registry.current().plugins), as_json=as_json)
    elif as_json:
        context.fail(f"--json belongs after '{context.invoked_subcommand}'.")


@click.command(epilog="Example: zoo plugins show resnet")
@click.argument("name", shell_complete=options.complete_family)
@options.json
@click.pass_context
def show(context: click.Context, name: str, as_json: bool) -> None:
    """Show the state of one plugin.

    If it is broken, zoo --debug shows the traceback of its error. Exits 1 if it is broken or set aside.
    """
    options.check_family(context, context.command.params[0], name)
    _print_rows(context, [row for row in registry.current().plugins if row.name == name], as_json=as_json)


def _print_rows(context: click.Context, chosen: list[PluginRow], *, as_json: bool) -> None:
    """Prints the state of plugins and exits with 1 if one cannot be used."""
    registered = registry.current()
    models, weights = Counter[PluginRow](), Counter[PluginRow]()
    for named in registered.named(registered.collections):
        if named.bringer is None:
            models[named.row] += 1
            weights[named.row] += len(registered.own_tags(named.row, named.arch))
    for row in chosen:
        weights[row] += sum(map(len, row.brought_tags.values()))
    reasons = {row: row.reason or _missing(registered.missing(row)) for row in chosen}
    if as_json:
        print_json(
            [
                {
                    "name": row.name,
                    "distribution": row.distribution,
                    "version": row.version,
                    "status": row.status,
                    "reason": reasons[row],
                    "models": models[row],
                    "weights": weights[row],
                    "builtin": row.is_builtin,
                }
                for row in chosen
            ]
        )
    else:
        rows = [
            (row.name, row.distribution, row.version, row.status, str(models[row]), str(weights[row]), reasons[row])
            for row in chosen
        ]
        titles = ("plugin", "distribution", "version", "status", "models", "weights", "reason")
        print_table(titles, rows, right=("models", "weights"))
    failed = [row for row in chosen if row.status in ("broken", "set aside")]
    for row in failed if context.find_root().params.get("debug") else ():
        echo(row.traceback.rstrip(), err=True)
    context.exit(int(bool(failed)))


def _missing(archs: list[str]) -> str:
    """Returns the remark on a plugin that brings weights for models that cannot be found."""
    named = ", ".join(archs[:5]) + (f" and {len(archs) - 5} more" if len(archs) > 5 else "")
    return f"it brings weights of models that cannot be found: {named}" if archs else ""


@click.command(epilog="Example: zoo plugins disable hello")
@click.argument("name", shell_complete=options.complete_family)
@options.json
def disable(name: str, as_json: bool) -> None:
    """Stop importing and using a plugin.

    The choice is this user's and holds in all environments, until zoo plugins enable undoes it.
    """
    _require_plugin(name, discovery.installed_names())
    discovery.change_disabled(lambda before: before | {name})
    _print_choice(name, as_json=as_json)


@click.command(epilog="Example: zoo plugins enable hello")
@click.argument("name", shell_complete=options.complete_family)
@options.json
def enable(name: str, as_json: bool) -> None:
    """Use a disabled plugin again."""
    _require_plugin(name, {*discovery.installed_names(), *discovery.disabled()})
    discovery.change_disabled(lambda before: before - {name})
    _print_choice(name, as_json=as_json)


def _require_plugin(name: str, known: set[str]) -> None:
    if name not in known:
        raise UnknownNameError.of("plugin", name, sorted(known), hint="zoo plugins shows all plugins.")


def _print_choice(name: str, *, as_json: bool) -> None:
    reason = discovery.choice().why_disabled(name)
    if as_json:
        return print_json(
            {"name": name, "disabled": bool(reason), "reason": reason, "file": str(discovery.place_of_choice())}
        )
    return note(f"{name} is disabled: {reason}." if reason else f"{name} is enabled.")


@click.command(epilog="Example: zoo plugins new hello --fit")
@click.argument("name")
@click.option("--fit", "is_fitted", is_flag=True, help="A model that is fitted in closed form, without gradients.")
@click.option("--command", "is_command", is_flag=True, help="A command and a module in place of a model.")
@click.option("--weights", "is_weights", is_flag=True, help="Weights and key maps for models of others, and no code.")
@options.output("Folder of the new distribution.  [default: zoo_NAME]", kind=options.NEW_FOLDER, required=False)
@options.json
def new(name: str, is_fitted: bool, is_command: bool, is_weights: bool, output: Path | None, as_json: bool) -> None:
    """Write a complete plugin, ready to be changed.

    A distribution zoo-NAME with a small network, a recipe and an empty manifest, with --command a command zoo NAME,
    or with --weights an empty manifest alone, for weights of models that other distributions have;
    with conformance tests, a README, a licence and a CI workflow. It passes all checks as it is.
    """
    from zoo import scaffold

    if is_fitted + is_command + is_weights > 1:
        raise click.UsageError("Give one of --fit, --command and --weights: a command and weights have no model.")
    kind: scaffold.Kind = "trained"
    if is_fitted or is_command or is_weights:
        kind = "fitted" if is_fitted else "command" if is_command else "weights"
    folder = output or Path(f"zoo_{name}")
    files = scaffold.write(name, folder, kind=kind)
    words = scaffold.words_of(name, kind=kind)
    if as_json:
        return print_json(
            {
                "folder": folder,
                "files": files,
                "plugin": name,
                "model": "" if is_command or is_weights else words["model"],
            }
        )
    note(f"{folder}: {len(files)} files. Next:")
    check, manifest = f"zoo plugins check {name}", folder / words["package"] / "manifest.toml"
    to = f"--to embedded:{words['package']}/weights --manifest '{manifest}'"
    steps = {
        "trained": (check, f"zoo train {words['model']} --data digits -o runs/{name}"),
        "command": (check, f"zoo {words['command']} resnet20.digits IMAGE"),
        "weights": (f"zoo publish FILE --as resnet20.{name} {to}", check),
    }
    for command in (f"pip install -e '{folder}[test]'", *steps.get(kind, steps["trained"])):
        echo(f"  {command}")
    return None


@click.command(epilog="Example: zoo plugins check resnet")
@click.argument("name", required=False, metavar="[NAME|WHEEL]", shell_complete=options.complete_family)
@click.option("--slow", "has_slow", is_flag=True, help="Also run the costly checks.")
@click.option("--fix", is_flag=True, help="First count parameters and multiply-adds and write them into the rows.")
@click.option("--traceback", "has_traceback", is_flag=True, help="Show the traceback of each error.")
@options.json
@click.pass_context
def check(
    context: click.Context, name: str | None, has_slow: bool, fix: bool, has_traceback: bool, as_json: bool
) -> None:
    """Check that a plugin keeps the promises of the conformance kit.

    NAME is an installed plugin, by default the one in this folder's pyproject.toml. A wheel (FILE.whl) is tried in a
    temporary environment: it is installed and listed, its models are loaded, its weights verified, an image is
    predicted. Exits 1 if a check fails. What a later contract than the plugin's asks for is advice.
    """
    plugin = name or _plugin_of_this_folder(context)
    is_wheel = plugin.endswith(".whl")
    if name and not is_wheel:
        options.check_family(context, context.command.params[0], name)
    if is_wheel and (fix or has_slow):
        raise click.UsageError("--fix and --slow are for an installed plugin, not for a wheel.")
    changes: list[Change] = []
    done: list[Outcome] = []
    left_out = 0
    with stdout_to_stderr():
        if is_wheel:
            from zoo.testing.wheel import attempt

            if not Path(plugin).is_file():
                raise click.UsageError(f"{plugin} does not exist.")
            outcomes = attempt(Path(plugin))
        else:
            changes = _fixed(plugin, as_json=as_json) if fix else []
            outcomes, left_out = _of_plugin(plugin, has_slow=has_slow)
    has_traceback |= context.find_root().params["debug"]
    for outcome in _apart(outcomes):
        is_first = not outcome.error or outcome.error not in {other.error for other in done}
        done.append(outcome)
        if not as_json and is_first and (is_wheel or outcome.status not in ("passed", "inapplicable")):
            _print_outcome(outcome, has_traceback=has_traceback)
    counts = {
        status: sum(other.status == status for other in done)
        for status in ("passed", "failed", "advice", "skipped", "inapplicable")
    }
    if as_json:
        print_json({"plugin": plugin, **counts, "left_out": left_out, "changes": changes, "checks": done})
    else:
        for error, number in Counter(other.error for other in done if other.status == "failed").items():
            if number > 1:
                first = next(other.check for other in done if other.error == error)
                echo(f"As {first}, {number - 1} more checks fail.")
        more = f" ({left_out} costly ones were left out: --slow)" if left_out else ""
        parts = [f"{number} {status}" for status, number in counts.items() if number or status == "passed"]
        echo(f"{plugin}: {', '.join(parts)}{more}")
    context.exit(int(counts["failed"] > 0))


def _plugin_of_this_folder(context: click.Context) -> str:
    """Returns the plugin of the distribution in the working directory."""
    try:
        project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
        points = project["project"]["entry-points"]
        (name,) = {**points.get(registry.GROUP, {}), **points.get(registry.DATA_GROUP, {})}
    except FileNotFoundError:
        context.fail("There is no pyproject.toml in this folder: give the NAME of a plugin, or a wheel.")
    except (OSError, ValueError, LookupError, TypeError):
        groups = f"{registry.GROUP!r} and {registry.DATA_GROUP!r}"
        context.fail(f"pyproject.toml has not exactly one entry point in {groups}: give NAME.")
    return str(name)


def _of_plugin(plugin: str, *, has_slow: bool) -> tuple["Iterator[Outcome]", int]:
    """Returns the outcomes of the checks, and how many costly ones are left out."""
    from zoo.testing import checks_of, outcome

    checks = checks_of(plugin)
    chosen = [one for one in checks if has_slow or not one.is_slow]
    row = next((row for row in registry.current().plugins if row.name == plugin), None)
    return outcome.run(chosen, row), len(checks) - len(chosen)


def _apart(outcomes: "Iterator[Outcome]") -> "Iterator[Outcome]":
    """Returns the same outcomes; what the plugin prints meanwhile goes to standard error."""
    while True:
        with stdout_to_stderr():
            outcome = next(outcomes, None)
        if outcome is None:
            return
        yield outcome


def _fixed(plugin: str, *, as_json: bool) -> "list[Change]":
    from zoo.testing import source

    try:
        changes = source.fix(plugin)
    except PluginError as error:
        note(f"{error}")
        return []
    for change in changes if not as_json else ():
        note(f"{change.file}:{change.line}: {change.model}: {change.field} = {change.new:_}, was {change.old:_}")
    return changes


def _print_outcome(outcome: "Outcome", *, has_traceback: bool) -> None:
    label = {"passed": "ok     ", "failed": "FAILED ", "advice": "advice ", "skipped": "skipped"}[outcome.status]
    if outcome.status == "passed":
        return echo(f"{label} {outcome.check} {outcome.of}")
    lines = [f"{label} {outcome.check}", *outcome.reason.splitlines()]
    lines += [f"at {outcome.place}"] if outcome.place else []
    lines += [outcome.hint] if outcome.hint else []
    lines += outcome.traceback.splitlines() if has_traceback else []
    return echo("\n    ".join(lines))

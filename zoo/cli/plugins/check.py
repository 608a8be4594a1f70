"""``zoo plugins check``: the conformance kit on a plugin that is installed, or a wheel in an environment of its own."""

import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo import registry
from zoo.cli import options
from zoo.cli.output import echo, note, print_json, stdout_to_stderr
from zoo.errors import PluginError

if TYPE_CHECKING:
    from zoo.testing.outcome import Outcome
    from zoo.testing.source import Change


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
    plugin = name or _own(context)
    is_wheel = plugin.endswith(".whl")
    if name and not is_wheel:
        options.check_family(context, context.command.params[0], name)
    if is_wheel and (fix or has_slow):
        raise click.UsageError("--fix and --slow are for an installed plugin, not for a wheel.")
    changes: list[Change] = []
    found: list[Outcome] = []
    left_out = 0
    with stdout_to_stderr():
        if is_wheel:
            outcomes = _of_wheel(Path(plugin))
        else:
            changes = _fixed(plugin, as_json=as_json) if fix else []
            outcomes, left_out = _of_plugin(plugin, has_slow=has_slow)
    has_traceback |= context.find_root().params["debug"]
    for outcome in _apart(outcomes):
        is_first = not outcome.error or outcome.error not in {one.error for one in found}
        found.append(outcome)
        if not as_json and is_first and (is_wheel or outcome.status not in ("passed", "inapplicable")):
            _print(outcome, has_traceback=has_traceback)
    counts = {
        status: sum(one.status == status for one in found)
        for status in ("passed", "failed", "advice", "skipped", "inapplicable")
    }
    if as_json:
        print_json({"plugin": plugin, **counts, "left_out": left_out, "changes": changes, "checks": found})
    else:
        for error, number in Counter(one.error for one in found if one.status == "failed").items():
            if number > 1:
                first = next(one.check for one in found if one.error == error)
                echo(f"As {first}, {number - 1} more checks fail.")
        more = f" ({left_out} costly ones were left out: --slow)" if left_out else ""
        parts = [f"{number} {status}" for status, number in counts.items() if number or status == "passed"]
        echo(f"{plugin}: {', '.join(parts)}{more}")
    context.exit(int(counts["failed"] > 0))


def _own(context: click.Context) -> str:
    """The plugin of the distribution in the working directory."""
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
    """The outcomes of the checks, and how many costly ones are left out."""
    from zoo.testing import checks_of, outcome

    checks = checks_of(plugin)
    chosen = [one for one in checks if has_slow or not one.is_slow]
    row = next((row for row in registry.current().plugins if row.name == plugin), None)
    return outcome.run(chosen, row), len(checks) - len(chosen)


def _of_wheel(wheel: Path) -> "Iterator[Outcome]":
    from zoo.testing.wheel import attempt

    if not wheel.is_file():
        raise click.UsageError(f"{wheel} does not exist.")
    return attempt(wheel)


def _apart(outcomes: "Iterator[Outcome]") -> "Iterator[Outcome]":
    """The same outcomes; what the plugin prints meanwhile goes to standard error."""
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


def _print(outcome: "Outcome", *, has_traceback: bool) -> None:
    label = {"passed": "ok     ", "failed": "FAILED ", "advice": "advice ", "skipped": "skipped"}[outcome.status]
    if outcome.status == "passed":
        return echo(f"{label} {outcome.check} {outcome.of}")
    lines = [f"{label} {outcome.check}", *outcome.reason.splitlines()]
    lines += [f"at {outcome.place}"] if outcome.place else []
    lines += [outcome.hint] if outcome.hint else []
    lines += outcome.traceback.splitlines() if has_traceback else []
    return echo("\n    ".join(lines))

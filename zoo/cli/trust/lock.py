"""``zoo lock``: which bytes names mean here, written down."""

from pathlib import Path
from typing import Any

import click

from zoo import registry
from zoo.cli.options import complete_name, json_option
from zoo.cli.output import echo, note, print_json
from zoo.resolve import default_weights
from zoo.manifest import Weights
from zoo.registry import Found
from zoo.system import storage
from zoo.trust import lock as locks
from zoo.trust import policy


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_name)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 where the lock is not what is installed.")
@json_option
@click.pass_context
def lock(context: click.Context, names: tuple[str, ...], check: bool, as_json: bool) -> None:
    """Write into zoo.lock which bytes names mean here.

    Without NAME, those that it already holds. NAME without a tag also locks which weights are its
    default. Where a lock is, fetch and create follow it.
    """
    file = locks.place()
    old = locks.read(file) if file.exists() or check else locks.EMPTY
    if check:
        if names:
            raise click.UsageError("--check compares the whole lock; leave the names out.")
        return _report(context, file, old, as_json)
    if not names and not old.weights:
        raise click.UsageError(f"{file} holds no names yet: zoo lock NAME...")
    new = locks.make(map(_chosen, names or locks.names_in(old)), old)
    storage.replace(file, locks.render(new).encode())
    changed = [name for name, held in new.weights.items() if old.weights.get(name) != held]
    if as_json:
        return print_json({"lock": file, "changed": changed, **_rows(new)})
    for name in changed:
        held, before = new.weights[name], old.weights.get(name)
        was = f" (was {before.sha256[:8]} of {before.distribution} {before.version})" if before else ""
        echo(f"{name}: {held.sha256[:8]} of {held.distribution} {held.version}{was}")
    note(f"{file}: names: {len(new.weights)}, changed: {len(changed)}")
    return None


def _report(context: click.Context, file: Path, held: locks.Lock, as_json: bool) -> None:
    found = locks.differences(held)
    if as_json:
        print_json({"lock": file, "ok": not found, "differences": [line._asdict() for line in found]})
    else:
        for line in found:
            echo(str(line))
        note(f"{file}: names: {len(held.weights)}, differences: {len(found)}")
    context.exit(1 if found else 0)


def _rows(held: locks.Lock) -> dict[str, Any]:
    return {"weights": held.weights, "defaults": held.defaults}


def _chosen(name: str) -> tuple[Found, Weights]:
    found = registry.current().find(name)
    chosen = found.weights or default_weights(found)
    policy.check(found, chosen)
    return found, chosen

"""``zoo lock``: records which bytes names mean in a project."""

from pathlib import Path
from typing import Any

import click

from zoo import registry
from zoo.cli import options
from zoo.cli.output import echo, note, print_json
from zoo.manifest import Weights
from zoo.registry import Found
from zoo.resolve import default_weights
from zoo.system import storage
from zoo.trust import lock as locks
from zoo.trust import policy


@click.command(epilog="Example: zoo lock resnet20.digits")
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=options.complete_name)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if the lock differs from what is installed.")
@options.json
@click.pass_context
def lock(context: click.Context, names: tuple[str, ...], check: bool, as_json: bool) -> None:
    """Lock names to their bytes in zoo.lock.

    Without NAME, updates the names in the lock. NAME without a tag also locks which weights are its default. In a
    folder with a lock, fetch and create follow it.
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

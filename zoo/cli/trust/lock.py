"""``zoo lock``: records which bytes names mean, in a project and for its user."""

from pathlib import Path
from typing import Any

import click

from zoo.cli import options
from zoo.cli.output import echo, note, print_json, print_table, size
from zoo.errors import UnknownNameError
from zoo.loading import resolve
from zoo.manifest import Weights
from zoo.registry import Found
from zoo.system import storage
from zoo.trust import first_use, policy
from zoo.trust import lock as locks


@click.command(epilog="Example: zoo lock resnet20.digits")
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=options.complete_name)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if the lock differs from what is installed.")
@click.option("--user", is_flag=True, help="List your own lock: the names that were pinned on first use.")
@click.option("--forget", is_flag=True, help="With --user: remove NAME, so that its next use pins it anew.")
@options.json
@click.pass_context
def lock(context: click.Context, names: tuple[str, ...], check: bool, user: bool, forget: bool, as_json: bool) -> None:
    """Lock names to their bytes in zoo.lock.

    Without NAME, updates the names in the lock. NAME without a tag also locks which weights are its default. In a
    folder with a lock, fetch and create follow it. Names that were pinned on first use are locked to those bytes.
    """
    if user or forget:
        if check or not user or bool(names) != forget:
            raise click.UsageError(
                "zoo lock --user lists your own lock; zoo lock --user --forget NAME... removes names."
            )
        return _forget(names, as_json) if forget else _list(as_json)
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
    found = locks.differences(held, resolve.find)
    if as_json:
        print_json({"lock": file, "ok": not found, "differences": [line._asdict() for line in found]})
    else:
        for line in found:
            echo(str(line))
        note(f"{file}: names: {len(held.weights)}, differences: {len(found)}")
    context.exit(1 if found else 0)


def _list(as_json: bool) -> None:
    pins = first_use.pins()
    if as_json:
        return print_json({"lock": first_use.place(), "weights": pins})
    rows = [
        (name, held.sha256[:8], held.revision[:7], size(held.size), str(held.date or ""), held.source)
        for name, held in pins.items()
    ]
    if rows:
        print_table(("weights", "sha256", "commit", "size", "pinned", "source"), rows, right=("size",))
    return note(f"{first_use.place()}: names: {len(pins)}")


def _forget(names: tuple[str, ...], as_json: bool) -> None:
    pins = first_use.pins()
    forgotten = [name if name in pins else _full_name(name) for name in names]
    first_use.forget(forgotten)
    if as_json:
        return print_json({"lock": first_use.place(), "forgotten": forgotten})
    for name in forgotten:
        echo(f"{name}: forgotten, was sha256 {pins[name].sha256[:8]}")
    return None


def _full_name(name: str) -> str:
    """The name that a lock has for ``name``; unchanged if no installed plugin has it any more."""
    try:
        found = resolve.find(name)
    except UnknownNameError:
        return name
    return locks.full_name(found, found.weights.tag if found.weights else "")


def _rows(held: locks.Lock) -> dict[str, Any]:
    return {"weights": held.weights, "defaults": held.defaults}


def _chosen(name: str) -> tuple[Found, Weights]:
    found = resolve.find(name)
    chosen = found.weights or resolve.default_weights(found)
    held = first_use.follow(found, chosen)
    policy.check(found, chosen)
    return found, held

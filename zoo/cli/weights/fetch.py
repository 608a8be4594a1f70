"""``zoo fetch``: weights into the cache."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo import hub, registry
from zoo.cli.options import complete_name, json_option
from zoo.cli.output import do_each, echo, note, outcomes, print_json, show_progress
from zoo.cli.weights.concurrent import Shares, start_each
from zoo.resolve import weights_for
from zoo.errors import UnknownNameError, UnpinnedError
from zoo.manifest import Weights
from zoo.registry.listing import select

if TYPE_CHECKING:
    pass


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_name)
@click.option("--source", metavar="HUB", help="Ask this hub alone: a directory, s3://, https://, hf.")
@click.option("--allow-unpinned", is_flag=True, help="Also take weights whose sha256 nobody has written down.")
@click.option("-j", "--jobs", type=click.IntRange(1, 64), default=4, show_default=True, help="Files at a time.")
@json_option
@click.pass_context
def fetch(
    context: click.Context, names: tuple[str, ...], source: str | None, allow_unpinned: bool, jobs: int, as_json: bool
) -> None:
    """Fetch weights into the cache and print where they are.

    NAME is arch.tag, arch for its default weights, or a pattern of names: 'resnet20.*'
    """
    entries, failed, code = do_each(names, lambda name: _entries_of(name, allow_unpinned))
    wanted = {name: entry for group in entries.values() for name, entry in group.items()}
    total = sum(entry.size for entry in wanted.values())
    with show_progress(next(iter(wanted)) if len(wanted) == 1 else f"{len(wanted)} files", bytes=True) as tell:
        shares = Shares(tell, total)

        def work(name: str) -> Path:
            share = tell and shares.of(name)
            file = hub.fetch(wanted[name], source=source, allow_unpinned=allow_unpinned, progress=share)
            if share:
                share(file.stat().st_size, file.stat().st_size)  # also of what was there already
            return file

        started = start_each(list(wanted), work, jobs)
        files, failures, worst = do_each(list(wanted), lambda name: started[name].result())
    for file in files.values() if not as_json else ():
        echo(file)
    if as_json:
        done = {name: _arrival(wanted[name], file) for name, file in files.items()}
        print_json(outcomes(done, failed | failures))
    context.exit(max(code, worst) if len(names) == 1 else int(bool(code or worst)))


def _arrival(entry: Weights, file: Path) -> dict[str, Any]:
    return {"weights": entry.name, "file": file, "size": file.stat().st_size, "pinned": entry.pinned}


def _entries_of(name: str, allow_unpinned: bool) -> dict[str, Weights]:
    """The entries that ``name`` means, by their names; of a pattern, those that may be fetched."""
    if not set(name) & set("*?["):
        found = registry.current().find(name)
        return {name: weights_for(found, allow_unpinned=allow_unpinned)}
    lines = select(name, family=None, dataset=None, license=None, max_params=None, pretrained=True)
    known = {line.name: line.weights for line in lines if line.weights}
    if not known:
        raise UnknownNameError(f"No weights match {name!r}.", hint="zoo list PATTERN --pretrained shows names.")
    allowed = [name for name, entry in known.items() if entry.pinned or allow_unpinned]
    taken = {name: weights_for(registry.current().find(name), allow_unpinned=allow_unpinned) for name in allowed}
    if not taken:
        raise UnpinnedError(
            f"None of the {len(known)} weights that match {name!r} is pinned.",
            hint="--allow-unpinned takes what the hubs serve now, unverified.",
        )
    if len(taken) < len(known):
        note(f"{len(known) - len(taken)} of {len(known)} weights that match {name!r} are not pinned and left out.")
    return taken

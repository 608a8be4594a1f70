"""``zoo fetch``: downloads weights into the cache."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo import hub, registry
from zoo.cli import options
from zoo.cli.output import do_each, echo, note, outcomes, print_json, show_progress
from zoo.cli.weights.concurrent import TotalProgress, start_each
from zoo.errors import UnknownNameError, UnpinnedError
from zoo.manifest import Weights
from zoo.registry.listing import select
from zoo.resolve import weights_for

if TYPE_CHECKING:
    pass


@click.command(epilog="Example: zoo fetch 'resnet20.*'")
@options.names
@click.option("--source", metavar="HUB", help="Ask only this hub: a directory, s3://, https://, hf.")
@click.option("--allow-unpinned", is_flag=True, help="Also fetch weights that have no recorded sha256.")
@click.option("-j", "--jobs", type=click.IntRange(1, 64), default=4, show_default=True, help="Parallel downloads.")
@options.json
@click.pass_context
def fetch(
    context: click.Context, names: tuple[str, ...], source: str | None, allow_unpinned: bool, jobs: int, as_json: bool
) -> None:
    """Download weights into the cache and print their paths.

    NAME is ARCH.TAG, ARCH for its default weights, or a pattern such as 'resnet20.*'.
    """
    entries, failed, code = do_each(names, lambda name: _entries_of(name, allow_unpinned))
    wanted = {name: entry for group in entries.values() for name, entry in group.items()}
    total = sum(entry.size for entry in wanted.values())
    with show_progress(next(iter(wanted)) if len(wanted) == 1 else f"{len(wanted)} files", bytes=True) as progress:
        total_progress = TotalProgress(progress, total) if progress else None

        def work(name: str) -> Path:
            report = total_progress.of(name) if total_progress else None
            file = hub.fetch(wanted[name], source=source, allow_unpinned=allow_unpinned, progress=report)
            if report:
                report(file.stat().st_size, file.stat().st_size)  # also for a cached file
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
    """The entries that ``name`` means, by name; for a pattern, those that may be fetched."""
    if not set(name) & set("*?["):
        found = registry.current().find(name)
        return {name: weights_for(found, allow_unpinned=allow_unpinned)}
    lines = select(name, family=None, dataset=None, license=None, max_params=None, pretrained=True)
    known = {line.name: line.weights for line in lines if line.weights}
    if not known:
        raise UnknownNameError(f"No weights match {name!r}.", hint="zoo list PATTERN --pretrained shows names.")
    allowed = [name for name, entry in known.items() if entry.pinned or allow_unpinned]
    chosen = {name: weights_for(registry.current().find(name), allow_unpinned=allow_unpinned) for name in allowed}
    if not chosen:
        raise UnpinnedError(
            f"None of the {len(known)} weights that match {name!r} is pinned.",
            hint="--allow-unpinned fetches what the hubs serve now, unverified.",
        )
    if len(chosen) < len(known):
        note(f"{len(known) - len(chosen)} of {len(known)} weights that match {name!r} are left out: not pinned.")
    return chosen

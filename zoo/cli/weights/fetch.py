"""``zoo fetch``: downloads weights into the cache."""

from pathlib import Path
from typing import Any

import click

from zoo.cli import options
from zoo.cli.output import do_each, echo, outcomes, print_json, show_progress
from zoo.cli.weights.concurrent import TotalProgress, start_each
from zoo.errors import UnknownNameError
from zoo.loading.resolve import find, weights_for
from zoo.manifest import Weights
from zoo.registry import Found
from zoo.registry.listing import select
from zoo.trust import first_use


def _refuse(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        raise click.UsageError("--allow-unpinned was removed: weights without a sha256 are pinned on first use.")


@click.command(epilog="Example: zoo fetch 'resnet20.*'")
@options.names
@click.option("--source", metavar="HUB", help="Ask only this hub: a directory, s3://, https://, hf.")
@click.option("--allow-unpinned", is_flag=True, hidden=True, expose_value=False, callback=_refuse, help="Removed.")
@click.option("-j", "--jobs", type=click.IntRange(1, 64), default=4, show_default=True, help="Parallel downloads.")
@options.json
@click.pass_context
def fetch(context: click.Context, names: tuple[str, ...], source: str | None, jobs: int, as_json: bool) -> None:
    """Download weights into the cache and print their paths.

    NAME is ARCH.TAG, ARCH for its default weights, or a pattern such as 'resnet20.*'. Weights without a recorded sha256
    are pinned on first use (zoo lock --user).
    """
    entries, failed, code = do_each(names, _entries_of)
    wanted = {name: entry for group in entries.values() for name, entry in group.items()}
    total = sum(entry.size for _, entry in wanted.values())
    with show_progress(next(iter(wanted)) if len(wanted) == 1 else f"{len(wanted)} files", bytes=True) as progress:
        total_progress = TotalProgress(progress, total) if progress else None

        def work(name: str) -> first_use.Fetched:
            report = total_progress.of(name) if total_progress else None
            fetched = first_use.fetch(*wanted[name], source=source, progress=report)
            if report:
                size = fetched.path.stat().st_size
                report(size, size)  # also for a cached file
            return fetched

        started = start_each(list(wanted), work, jobs)
        files, failures, worst = do_each(list(wanted), lambda name: started[name].result())
    for fetched in files.values() if not as_json else ():
        echo(fetched.path)
    if as_json:
        done = {name: _arrival(*fetched) for name, fetched in files.items()}
        print_json(outcomes(done, failed | failures))
    context.exit(max(code, worst) if len(names) == 1 else int(bool(code or worst)))


def _arrival(entry: Weights, file: Path) -> dict[str, Any]:
    return {"weights": entry.name, "file": file, "size": file.stat().st_size, "pinned": entry.pinned}


def _entries_of(name: str) -> dict[str, tuple[Found, Weights]]:
    """The entries that ``name`` means, by name."""
    names = [name]
    if set(name) & set("*?["):
        lines = select(name, family=None, dataset=None, license=None, max_params=None, pretrained=True)
        names = [line.name for line in lines if line.weights]
    if not names:
        raise UnknownNameError(f"No weights match {name!r}.", hint="zoo list PATTERN --pretrained shows names.")
    found = {name: find(name) for name in names}
    return {name: (one, weights_for(one)) for name, one in found.items()}

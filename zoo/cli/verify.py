"""``zoo verify`` and ``zoo probe``: whether weights are what their manifests say, and what these say of them."""

from pathlib import Path
from typing import Any

import click
import msgspec

from zoo.cli.options import complete_name, json_option
from zoo.cli.output import do_each, echo, note, only_answers, outcomes, print_json, size
from zoo.verify.worker import TIMEOUT


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_name)
@click.option("--all", "is_all", is_flag=True, help="All that need no network: those that ship along or are cached.")
@click.option("--deep", is_flag=True, help="Hash the files again, not only where their stat changed.")
@click.option("--timeout", type=click.FloatRange(min=0.1), default=TIMEOUT, show_default=True, help="Seconds for each.")
@click.option(
    "--failures",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the outputs of a network that fails its probe are kept.  [default: in the cache]",
)
@json_option
@click.pass_context
def verify(
    context: click.Context,
    names: tuple[str, ...],
    is_all: bool,
    deep: bool,
    timeout: float,
    failures: Path | None,
    as_json: bool,
) -> None:
    """Check weights: their bytes, that their tensors fit, what the network computes with them.

    Each in a process of its own, so that one that crashes fails alone. Without NAME, everything that is
    in the cache.
    """
    from zoo.verify import worker

    def work(name: str) -> dict[str, Any]:
        found = worker.verify(name, deep=deep, failures=failures, timeout=timeout)
        if not as_json:
            said = f"logits within {found.difference:.2g} of its probe" if found.allowed else "it has no probe"
            known = "pinned" if found.pinned else "fetched"
            echo(f"{found.weights}: {size(found.size)} as {known}, {found.tensors} tensors fit, {said}")
        row: dict[str, Any] = msgspec.to_builtins(found)
        return row

    if names and is_all:
        raise click.UsageError("Give names or --all, not both.")
    names = names or (worker.names_in_reach() if is_all else worker.names_in_cache())
    if not names:
        note("The cache holds no weights; zoo fetch NAME fetches some.")
    done, failed, code = do_each(names, work)
    if as_json:
        print_json(outcomes(done, failed))
    elif failed:
        note(f"{len(failed)} of {len(done) + len(failed)} failed: {', '.join(failed)}")
    context.exit(code)


@click.command()
@click.argument("manifests", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
@click.pass_context
def probe(context: click.Context, manifests: tuple[Path, ...], as_json: bool) -> None:
    """Take the probes of a manifest's weights anew, and write them into it.

    For those whose file lies beside the MANIFEST. Comments, order and everything else stay as they are.
    """
    from zoo.verify import write_probes

    def work(name: str) -> dict[str, Any]:
        left: list[str] = []
        with only_answers():
            taken = write_probes.reprobe(
                Path(name), told=lambda entry, is_here: None if is_here else left.append(entry)
            )
        if not as_json:
            others = f"; {len(left)} whose file is not here keep what they have" if left else ""
            echo(f"{name}: {len(taken)} probes taken{others}")
        return {"probed": taken, "left": left}

    done, failed, code = do_each([str(manifest) for manifest in manifests], work)
    if as_json:
        print_json(outcomes(done, failed))
    context.exit(code)

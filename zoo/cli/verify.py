"""``zoo verify``, ``zoo manifest probe``: weights checked against their manifests, and the probes in these."""

from pathlib import Path
from typing import Any

import click
import msgspec

from zoo.cli import options
from zoo.cli.output import do_each, echo, note, outcomes, print_json, size, stdout_to_stderr
from zoo.verify.worker import TIMEOUT, Verified


@click.command(epilog="Example: zoo verify resnet20.digits --deep")
@options.several_names(required=False)
@click.option("--deep", is_flag=True, help="Hash all files again, not only changed ones; repeat conversions.")
@click.option(
    "--timeout", type=click.FloatRange(min=0.1), default=TIMEOUT, show_default=True, help="Seconds per network."
)
@click.option(
    "--failures",
    type=options.NEW_FOLDER,
    metavar="DIR",
    help="Write the outputs of a network that fails its probe to DIR.  [default: in the cache]",
)
@click.option("--embedded", is_flag=True, help="Without NAME: check the embedded weights, too.")
@options.several(options.moved("zoo verify --embedded", "zoo bulk verify PATTERN... -o DIR"), options.json)
@click.pass_context
def verify(
    context: click.Context,
    names: tuple[str, ...],
    deep: bool,
    timeout: float,
    failures: Path | None,
    embedded: bool,
    as_json: bool,
) -> None:
    """Check the bytes, tensors and outputs of weights.

    Each network is checked in a process of its own. NAME may be a pattern such as 'resnet20.*'; without NAME, checks
    all cached weights.
    """
    from zoo.verify import worker

    def work(name: str) -> dict[str, Any]:
        verified = worker.verify(name, deep=deep, failures=failures, timeout=timeout)
        if not as_json:
            outputs = f"logits within {verified.difference:.2g} of its probe" if verified.allowed else "no probe"
            echo(f"{verified.weights}: {_bytes(verified)}, {verified.tensors} tensors fit, {outputs}")
        row: dict[str, Any] = msgspec.to_builtins(verified)
        return row

    if names and embedded:
        raise click.UsageError("Give names or --embedded, not both.")
    names = names or (worker.names_in_reach() if embedded else worker.names_in_cache())
    if not names:
        note("The cache holds no weights; zoo fetch NAME fetches some.")
    done, failed, code = do_each(names, work)
    if as_json:
        print_json(outcomes(done, failed))
    elif failed:
        note(f"{len(failed)} of {len(done) + len(failed)} failed: {', '.join(failed)}")
    context.exit(code)


def _bytes(verified: Verified) -> str:
    """Returns the files whose bytes were checked."""
    trust = "pinned" if verified.pinned else "fetched"
    whole = f"{size(verified.size)} as {trust}"
    conversion = verified.conversion
    if conversion is None:
        return whole
    source = (
        f"{whole} (sha256 {verified.sha256[:8]})" if verified.file else f"source {verified.sha256[:8]} not in the cache"
    )
    return f"{source}, {size(conversion.size)} converted from it (sha256 {conversion.sha256[:8]})"


@click.command(epilog="Example: zoo manifest probe mine.toml")
@click.argument("manifests", nargs=-1, required=True, type=options.FILE)
@options.json
@click.pass_context
def probe(context: click.Context, manifests: tuple[Path, ...], as_json: bool) -> None:
    """Measure probes and write them into manifests.

    Probes the weights whose files are beside the manifest. Comments and order are preserved.
    """
    from zoo.verify import worker

    def work(name: str) -> dict[str, Any]:
        left: list[str] = []
        with stdout_to_stderr():
            written = worker.reprobe(
                Path(name), callback=lambda entry, is_here: None if is_here else left.append(entry)
            )
        if not as_json:
            unchanged = f", unchanged: {len(left)} without a file here" if left else ""
            echo(f"{name}: probes written: {len(written)}{unchanged}")
        return {"probed": written, "left": left}

    done, failed, code = do_each([str(manifest) for manifest in manifests], work)
    if as_json:
        print_json(outcomes(done, failed))
    context.exit(code)

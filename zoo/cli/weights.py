"""``zoo fetch``, ``zoo convert``: files of weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo import hub, registry
from zoo.cli.concurrent import Shares, start_each
from zoo.cli.options import args_option, check_pairs, complete_name, json_option, read_args
from zoo.cli.output import count, do_each, echo, note, only_answers, outcomes, print_json, show_progress, size
from zoo.creation import chosen_weights
from zoo.errors import UnknownNameError, UnpinnedError
from zoo.manifest import Weights
from zoo.registry.listing import select

if TYPE_CHECKING:
    from zoo.convert import ConversionReport
    from zoo.convert.choice import Score


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
        found = registry.load().find(name)
        return {name: chosen_weights(found, allow_unpinned=allow_unpinned)}
    lines = select(name, family=None, dataset=None, license=None, max_params=None, pretrained=True)
    known = {line.name: line.weights for line in lines if line.weights}
    if not known:
        raise UnknownNameError(f"No weights match {name!r}.", hint="zoo list PATTERN --pretrained shows names.")
    allowed = [name for name, entry in known.items() if entry.pinned or allow_unpinned]
    taken = {name: chosen_weights(registry.load().find(name), allow_unpinned=allow_unpinned) for name in allowed}
    if not taken:
        raise UnpinnedError(
            f"None of the {len(known)} weights that match {name!r} is pinned.",
            hint="--allow-unpinned takes what the hubs serve now, unverified.",
        )
    if len(taken) < len(known):
        note(f"{len(known) - len(taken)} of {len(known)} weights that match {name!r} are not pinned and left out.")
    return taken


def _read_channels(context: click.Context, parameter: click.Parameter, value: str | None) -> list[float] | None:
    """Numbers, separated by commas: one for all channels, or one each."""
    if value is None:
        return None
    try:
        return [float(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not numbers such as 0.485,0.456,0.406.") from None


@click.command()
@click.argument("source", metavar="FILE|URL")
@click.argument("model", metavar="MODEL[.TAG]", shell_complete=complete_name)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The safetensors file to write.")
@click.option("--overwrite", is_flag=True, help="Replace the file, and another file's entry of the same name.")
@click.option("--from", "key_map", metavar="KEYMAP", help="The family's key map to use; as-is for none.")
@args_option
@click.option("--mean", metavar="M,M,M", callback=_read_channels, help="Mean of the input, of values in [0, 1].")
@click.option("--std", metavar="S,S,S", callback=_read_channels, help="Standard deviation of the input.")
@click.option(
    "--preprocess",
    multiple=True,
    metavar="KEY=VALUE",
    callback=check_pairs,
    help="Another field of the preprocessing: input_size=[3,32,32], crop_pct=0.9, interpolation=bicubic.",
)
@click.option("--classes", default="", metavar="DATA", help="The data set whose classes the weights know.")
@click.option("--origin", default="", metavar="TEXT", help="Whose weights these are, for the manifest.")
@click.option("--check", metavar="DATA", help="Score it on DATA; of key maps that fit, take the best.")
@click.option("--split", default="test", show_default=True, help="The split of --check.")
@click.option("--trunk", is_flag=True, help="It has no head: make a network that gives features.")
@click.option("--state", default="", metavar="KEY", help="The part of torch's checkpoint that holds the weights.")
@click.option("--sha256", default="", metavar="HEX", help="The checkpoint's sha256, or its first 8 digits and more.")
@json_option
def convert(
    source: str,
    model: str,
    output: Path,
    overwrite: bool,
    key_map: str | None,
    args: dict[str, str],
    mean: list[float] | None,
    std: list[float] | None,
    preprocess: dict[str, str],
    classes: str,
    origin: str,
    check: str | None,
    split: str,
    trunk: bool,
    state: str,
    sha256: str,
    as_json: bool,
) -> None:
    """Turn a checkpoint into weights of a model.

    torch's .pth, .pt and .th, safetensors, Keras's .h5, ONNX; a file, or its address if its name ends in its
    hash as torchvision's do. Every tensor must be accounted for. Key maps that compute different functions are
    not chosen between: --from or --check says which. The entry for a manifest is printed and written beside the
    output, so that its folder is a hub: ZOO_HUB=FOLDER zoo evaluate MODEL.TAG
    """
    from zoo.convert import Stated
    from zoo.convert import convert as run
    from zoo.training.choice import read_value

    fields: dict[str, Any] = {key: read_value(value) for key, value in preprocess.items()}
    fields |= {key: value for key, value in (("mean", mean), ("std", std)) if value is not None}
    stated = Stated(args=read_args(args), preprocess=fields, classes=classes, origin=origin, trunk=trunk)
    with only_answers(), show_progress(source.rpartition("/")[2], bytes=True) as progress:
        report = run(
            source,
            model,
            output,
            key_map=key_map,
            stated=stated,
            state=state,
            sha256=sha256,
            score=_score_on(check, split) if check else None,
            overwrite=overwrite,
            progress=progress,
        )
    if as_json:
        return print_json(report)
    return _print_report(report)


def _score_on(data: str, split: str) -> "Score":
    from zoo.data import load
    from zoo.training import by_name

    images = load(data, split)
    return lambda module: by_name.evaluate(module, images)


def _print_report(report: "ConversionReport") -> None:
    echo(f"{report.weights}: {report.file}, {size(report.size)}, sha256 {report.sha256}")
    changes = {
        "renamed": [f"{old} -> {new}" for old, new in report.renamed],
        "transposed": report.transposed,
        "reshaped": report.reshaped,
        "folded": report.folded,
        "added": report.added,
        "dropped": report.dropped,
    }
    told = ", ".join(f"{len(lines)} {what}" for what, lines in changes.items() if lines) or "every key as it is"
    echo(f"key map {report.key_map!r} ({report.reason}): {told}")
    for line in report.unwrapped:
        echo(f"  taken from {line}")
    for reading in report.readings:
        if reading.key_map != report.key_map and reading.fits:
            right = f", {reading.top1:.2f}% right" if reading.top1 is not None else ""
            echo(f"  {reading.key_map} {reading.verdict}{right}")
    for what, lines in changes.items():
        for line in lines[:10]:
            echo(f"  {what} {line}")
        if len(lines) > 10:
            echo(f"  ... and {count(len(lines) - 10)} more; --json shows all")
    for line in report.assumed:
        echo(f"assumed: {line}")
    if report.assumed:
        echo("State what you know: --mean, --std, --preprocess KEY=VALUE, --classes DATA, --origin TEXT")
    if report.check:
        low, high = report.check.interval
        echo(
            f"{report.check.dataset}/{report.check.split}: {report.check.top1:.3f}% "
            f"({report.check.correct:,} of {report.check.n:,}; 95% interval {low:.3f} to {high:.3f})"
        )
    echo(f"\n{report.entry}")

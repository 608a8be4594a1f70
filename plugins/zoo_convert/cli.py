"""``zoo convert``: other checkpoints to weights of a model. ``zoo audit``: scores with each usual preprocessing."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli import options
from zoo.cli.output import count, echo, print_json, print_table, show_progress, size, stdout_to_stderr

if TYPE_CHECKING:
    from zoo_convert import ConversionReport
    from zoo_convert.choice import Score


def _read_channels(context: click.Context, parameter: click.Parameter, value: str | None) -> list[float] | None:
    """Reads numbers, separated by commas: one for all channels, or one each."""
    if value is None:
        return None
    try:
        return [float(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not numbers such as 0.485,0.456,0.406.") from None


@click.command(epilog="Example: zoo convert resnet20.th resnet20.theirs -o theirs.safetensors")
@click.argument("source", metavar="FILE|URL")
@click.argument("model", metavar="MODEL[.TAG]", shell_complete=options.complete_name, callback=options.refuse_pattern)
@options.output("Write the weights to FILE.safetensors.", click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace the file and the manifest's entry of that name.")
@click.option(
    "--from",
    "key_map",
    metavar="KEYMAP",
    help="Key map of the family, or one that another plugin brings; as-is for none.",
)
@options.args
@click.option("--mean", metavar="M,M,M", callback=_read_channels, help="Mean of the input, for values in [0, 1].")
@click.option("--std", metavar="S,S,S", callback=_read_channels, help="Standard deviation of the input.")
@options.pairs("--preprocess", help="Set a field of the preprocessing, such as input_size=[3,32,32]. Repeatable.")
@click.option("--classes", default="", metavar="DATA", help="Data set of the weights' classes.")
@click.option("--origin", default="", metavar="TEXT", help="Author of the weights, for the manifest.")
@click.option("--check", metavar="DATA", help="Score the weights on DATA; keep the reading that scores best.")
@options.split
@click.option(
    "--at-least", type=click.FloatRange(0, 100), metavar="PERCENT", help="With --check, the top-1 that is required."
)
@click.option("--trunk", is_flag=True, help="Leave out the head, whatever it is; the network computes features.")
@click.option("--drop", multiple=True, metavar="PATTERN", help="Leave out tensors, as in 'aux*.weight'. Repeatable.")
@click.option("--state", default="", metavar="KEY", help="Key of the weights in a torch checkpoint.")
@click.option(
    "--sha256", default="", metavar="HEX", help="Expected sha256 of the checkpoint, or its first 8 or more digits."
)
@options.json
def convert(
    source: str,
    model: str,
    output: Path,
    args: dict[str, str],
    mean: list[float] | None,
    std: list[float] | None,
    preprocess: dict[str, str],
    classes: str,
    origin: str,
    trunk: bool,
    drop: tuple[str, ...],
    check: str | None,
    split: str,
    as_json: bool,
    **keywords: Any,
) -> None:
    """Convert a checkpoint to weights of a model.

    Reads torch's .pth, .pt and .th, safetensors, Keras's .h5 and ONNX: a file, or a URL whose name ends in a hash, as
    torchvision's do. Every tensor must find its place. If several networks fit that compute different functions, choose
    with --from, --arg or --check; an ONNX file's own outputs decide. The manifest entry is printed and written beside
    FILE, so that the folder is a hub: ZOO_HUB=FOLDER zoo evaluate MODEL.TAG
    """
    from zoo.system.toml import read_value
    from zoo_convert import Stated
    from zoo_convert import convert as run

    fields: dict[str, Any] = {key: read_value(value) for key, value in preprocess.items()}
    fields |= {key: value for key, value in (("mean", mean), ("std", std)) if value is not None}
    build_args = options.read_args(args)
    stated = Stated(args=build_args, preprocess=fields, classes=classes, origin=origin, trunk=trunk, drop=drop)
    with stdout_to_stderr(), show_progress(source.rpartition("/")[2], bytes=True) as progress:
        score = _score_on(check, split) if check else None
        report = run(source, model, output, stated=stated, score=score, progress=progress, **keywords)
    if as_json:
        return print_json(report)
    return _print_report(report)


def _score_on(data: str, split: str) -> "Score":
    from zoo.data import load
    from zoo.evaluation import by_name

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
    summary = ", ".join(f"{len(lines)} {what}" for what, lines in changes.items() if lines) or "no key changed"
    echo(f"key map {report.key_map!r} ({report.reason}): {summary}")
    for line in report.unwrapped:
        echo(f"  read from {line}")
    for reading in report.readings:
        if reading.key_map != report.key_map and reading.fits:
            right = f", {reading.top1:.2f}% right" if reading.top1 is not None else ""
            echo(f"  {reading.key_map} {reading.verdict}{right}")
    for what, lines in changes.items():
        for line in lines[:10]:
            echo(f"  {what} {line}")
        if len(lines) > 10:
            echo(f"  ... and {count(len(lines) - 10)} more; --json shows all")
    if report.proof:
        echo(str(report.proof))
    for line in report.assumed:
        echo(f"assumed: {line}")
    if report.assumed:
        echo(
            "State what you know: --mean, --std, --preprocess KEY=VALUE, --classes DATA, --arg KEY=VALUE, --origin TEXT"
        )
    if report.check:
        low, high = report.check.interval
        echo(
            f"{report.check.dataset}/{report.check.split}: {report.check.top1:.3f}% "
            f"({report.check.correct:,} of {report.check.n:,}; 95% interval {low:.3f} to {high:.3f})"
        )
    echo(f"\n{report.entry}")


@click.command(epilog="Example: zoo audit resnet20.digits --data digits")
@options.several(options.name, options.required_data, options.split)
@click.option(
    "--claim", type=click.FloatRange(0, 100), metavar="PERCENT", help="The claimed top-1.  [default: the manifest's]"
)
@click.option("--limit", default=1000, show_default=True, type=options.POSITIVE, help="Images to score on.")
@options.several(options.batch_size(256), options.device, options.json)
@click.pass_context
def audit(context: click.Context, /, name: str, data: str, split: str, as_json: bool, **keywords: Any) -> None:
    """Score weights with each of the usual preprocessings.

    NAME may be a repository (hf-hub:OWNER/NAME). Other crops, interpolations, means and deviations than the manifest's
    are tried once each, on the same images, and compared with it by McNemar's exact test, corrected for their number.
    Exits with 1 if Fisher's exact test finds a difference between the claimed top-1 and the score of the manifest's own
    preprocessing.
    """
    import msgspec

    from zoo_convert import preprocessings

    with stdout_to_stderr(), show_progress(f"evaluating {name}") as progress:
        audited = preprocessings.audit(name, data, split, progress=progress, **keywords)
    if as_json:
        print_json({**msgspec.to_builtins(audited), "agrees": audited.agrees})
    else:
        claim = f"claimed {audited.claimed:.3f}%" if audited.claimed is not None else "no claim"
        echo(f"{audited.weights} on {audited.data}: {len(audited.ways)} preprocessings tried, {claim}")
        if audited.comparison is not None:
            echo(audited.comparison.message)
        titles = ("preprocessing", "correct", "top-1", "95% interval", "p against the first")
        rows = [
            (
                way.words,
                f"{way.correct:,} of {way.n:,}",
                f"{way.top1:.2f}%",
                "{:.2f} to {:.2f}".format(*way.interval),
                "" if way.p is None else f"{way.p:.2g}",
            )
            for way in audited.ways
        ]
        print_table(titles, rows, right=titles[1:])
    context.exit(0 if audited.agrees else 1)

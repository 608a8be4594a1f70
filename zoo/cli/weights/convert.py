"""``zoo convert``: checkpoints of elsewhere as weights of a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.options import args_option, check_pairs, complete_name, json_option, read_args
from zoo.cli.output import count, echo, only_answers, print_json, show_progress, size

if TYPE_CHECKING:
    from zoo.convert import ConversionReport
    from zoo.convert.choice import Score


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

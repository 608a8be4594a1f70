"""``zoo export``: a network as a file for other runtimes."""

from pathlib import Path
from typing import Any

import click

from zoo.cli import options
from zoo.cli.output import echo, note, print_facts, print_json, size, stdout_to_stderr
from zoo_export.formats import FORMATS, INSTEAD


class _Format(click.Choice[str]):
    """A format, with the way out for those that are not written."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> str:
        if value in INSTEAD:
            self.fail(f"{value!r} is not written. {INSTEAD[value]}", parameter, context)
        return super().convert(value, parameter, context)


@click.command(epilog="Example: zoo export resnet20.digits -o digits.onnx")
@options.one_name(bulk="export")
@options.output(
    "Write FILE.onnx or FILE.pt2.  [default: NAME, by the format]",
    kind=options.NEW_PATH,
    required=False,
)
@click.option("--format", type=_Format(FORMATS), help="Format.  [default: that of FILE's suffix]")
@options.choice("--precision", values=["float32", "float16", "int8"], help="Precision of the network.")
@options.choice("--preprocess", values=["inside", "beside"], help="Whether the file scales and normalises images.")
@options.choice("--input", values=["float32", "uint8"], help="With --preprocess inside: values in [0, 1], or pixels.")
@click.option(
    "--calibrate", metavar="DATA", help="For int8: use DATA's training split.  [default: the one of the weights]"
)
@click.option(
    "--pass", "passes", multiple=True, type=options.Named("exports", ()),
    help="Change the network by this export pass first. Repeatable.",
)  # fmt: skip
@options.several(
    options.weights, options.args, options.moved("zoo bulk export PATTERN... --format FORMAT -o DIR"), options.json
)
@click.pass_context
def export(
    context: click.Context,
    /,
    name: str,
    output: Path | None,
    format: str | None,
    args: dict[str, str],
    as_json: bool,
    **keywords: Any,
) -> None:
    """Export a network with its weights for another runtime.

    Formats: onnx, torch-export. The file takes batches of any size. Before it is in place, it
    is run in a process of its own and compared with the network on photographs and training images. FILE.json states
    the preprocessing, the classes, and which weights these are. zoo evaluate and zoo predict accept FILE as NAME.
    """
    if output is not None and output.is_dir():
        raise click.UsageError(f"{output} is a directory, expected a file.")
    from zoo_export import by_name

    with stdout_to_stderr():
        made = by_name.export(name, output, format=format or "", **keywords, **options.read_args(args))
    if as_json:
        return print_json(made)
    for remark in made.notes:
        note(remark)
    about = made.about
    calibration = about.calibration
    echo(f"{made.file}: {size(made.size)}")
    facts = [
        ("weights", f"{about.weights}, sha256 {about.sha256}" if about.sha256 else about.weights),
        ("format", f"{about.format}, {about.precision}"),
        ("input", _input(made)),
        ("calibrated", f"on {calibration.n} images of {calibration.data}/{calibration.split}, seed {calibration.seed}"
         if calibration else ""),
        ("passes", ", ".join(about.passes)),
        ("checked", str(made.agreement)),
    ]  # fmt: skip
    return print_facts(facts)


def _input(made: Any) -> str:
    channels, height, width = made.about.preprocess.input_size
    values = {"uint8": "uint8 pixels", "float32": "values in [0, 1]", "normalised": "normalised values"}
    size = "H x W" if made.about.any_size else f"{height} x {width}"
    return f"B x {channels} x {size}, {values[made.about.input]}"

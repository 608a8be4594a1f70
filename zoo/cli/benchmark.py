"""``zoo benchmark``: speed and size of networks on this machine."""

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli import options
from zoo.cli.output import count, do_each, echo, note, print_json, print_table, stdout_to_stderr

if TYPE_CHECKING:
    from zoo.evaluation.speed import Speed

MODES = {"inference": ["inference"], "training": ["training"], "both": ["inference", "training"]}


def _sizes(context: click.Context, parameter: click.Parameter, value: str) -> list[int]:
    parts = value.split(",")
    if not all(part.isdecimal() and 0 < int(part) < 1 << 20 for part in parts):
        raise click.BadParameter(f"{value!r}: expected numbers such as 1,32.")
    return [*dict.fromkeys(map(int, parts))]


@click.command(epilog="Example: zoo benchmark resnet50 timm/resnet50 --csv out.csv")
@options.several_names(pretrained=False)
@click.option("--batch-size", "sizes", default="1,32", show_default=True, metavar="SIZES", callback=_sizes,
              help="Images per step, separated by commas.")  # fmt: skip
@options.choice("--mode", values=[*MODES], help="What to time.")
@click.option("--precision", "precisions", multiple=True, default=("float32",), show_default=True,
              type=click.Choice(["float32", "bfloat16", "float16", "amp"]),
              help="Precision of weights and input; amp computes float32 weights in bfloat16. Repeatable.")  # fmt: skip
@click.option("--compile", is_flag=True, help="Compile with torch.compile.")
@click.option("--channels-last/--contiguous", default=True, show_default=True, help="Memory format.")
@click.option("--warmup", default=10, show_default=True, type=options.POSITIVE, help="Steps before the timed ones.")
@click.option("--steps", default=40, show_default=True, type=options.POSITIVE, help="Timed steps.")
@click.option("--seconds", default=30.0, show_default=True, help="Limit on the timed steps, which are at least 5.")
@click.option("--csv", "file", type=options.NEW_FILE, metavar="FILE", help="Also write the rows to a CSV file.")
@options.several(options.args, options.device, options.moved("zoo bulk benchmark PATTERN... -o DIR"), options.json)
@click.pass_context
def benchmark(
    context: click.Context,
    /,
    names: tuple[str, ...],
    sizes: list[int],
    mode: str,
    precisions: tuple[str, ...],
    file: Path | None,
    args: dict[str, str],
    as_json: bool,
    **settings: Any,
) -> None:
    """Measure latency, throughput and size of networks.

    NAME may be a pattern such as 'resnet*'; without a tag it gets random weights. Each row is one network, mode,
    precision and batch size; scores are not part of it, since they depend on the weights alone.
    """
    import msgspec

    from zoo.evaluation import speed

    settings |= options.read_args(args)
    rows: list[Speed] = []

    def work(name: str) -> None:
        for kind, precision, size in product(MODES[mode], precisions, sizes):
            with stdout_to_stderr():
                measured = speed.benchmark(
                    name, **{**settings, "mode": kind, "precision": precision, "batch_size": size}
                )
            rows.append(measured)
            if not as_json:
                note(f"{name}: {kind}, {precision}, batch {size}: {measured.images_per_s:,.1f} images/s")

    _, failed, code = do_each(names, work)
    if file is not None:
        _write(file, rows)
    if as_json:
        errors = [{"model": name, "error": reason} for name, reason in failed.items()]
        print_json([*map(msgspec.to_builtins, rows), *errors])
    elif rows:
        _print(rows)
    context.exit(code)


def _print(rows: "list[Speed]") -> None:
    titles = (
        "model",
        "mode",
        "precision",
        "batch",
        "input",
        "median ms",
        "p95 ms",
        "images/s",
        "params",
        "MACs",
        "acts",
    )
    cells = [
        (
            row.model, row.mode, row.precision, str(row.batch_size), row.input_size, f"{row.latency_ms:.1f}",
            f"{row.latency_p95_ms:.1f}", f"{row.images_per_s:,.1f}", count(round(row.params_m * 1e6)),
            count(round(row.gmacs * 1e9)), count(round(row.macts_m * 1e6)),
        )
        for row in rows
    ]  # fmt: skip
    print_table(titles, cells, right=titles[3:4] + titles[5:])
    first = rows[0]
    layout = "channels_last" if first.channels_last else "contiguous"
    echo(f"{first.hardware}, {first.device}, {first.threads} threads, torch {first.torch}, {first.backend}, {layout}")


def _write(file: Path, rows: "list[Speed]") -> None:
    import csv
    import io

    import msgspec

    from zoo.evaluation.speed import Speed
    from zoo.system import storage

    text = io.StringIO()
    table = csv.DictWriter(text, Speed.__struct_fields__, lineterminator="\n")
    table.writeheader()
    table.writerows(map(msgspec.to_builtins, rows))
    storage.replace(file, text.getvalue().encode())

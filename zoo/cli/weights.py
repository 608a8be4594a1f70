"""``zoo fetch``, ``zoo convert``: files of weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo import hub, registry
from zoo.cli.options import complete_name, json_option
from zoo.cli.output import count, do_each, only_answers, outcomes, print_json, show_progress, size
from zoo.creation import chosen_weights

if TYPE_CHECKING:
    from zoo.convert import ConversionReport


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_name)
@click.option("--source", metavar="HUB", help="Ask this hub alone: a directory, s3://, https://, hf.")
@click.option("--allow-unpinned", is_flag=True, help="Also take weights whose sha256 nobody has written down.")
@json_option
@click.pass_context
def fetch(
    context: click.Context, names: tuple[str, ...], source: str | None, allow_unpinned: bool, as_json: bool
) -> None:
    """Fetch weights into the cache and print where they are.

    NAME is arch.tag, or arch for its default weights.
    """

    def work(name: str) -> dict[str, Any]:
        found = registry.load().find(name)
        entry = chosen_weights(found, allow_unpinned=allow_unpinned)
        with show_progress(entry.name, bytes=True) as progress:
            file = hub.fetch(entry, source=source, allow_unpinned=allow_unpinned, progress=progress)
        if not as_json:
            click.echo(file)
        return {"weights": entry.name, "file": file, "size": file.stat().st_size, "pinned": entry.pinned}

    done, failed, code = do_each(names, work)
    if as_json:
        print_json(outcomes(done, failed))
    context.exit(code)


@click.command()
@click.argument("source", metavar="FILE|URL")
@click.argument("model", metavar="MODEL[.TAG]", shell_complete=complete_name)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The safetensors file to write.")
@click.option("--from", "key_map", metavar="KEYMAP", help="The family's key map to use; by default the one that fits.")
@click.option("--sha256", default="", metavar="HEX", help="The checkpoint's sha256, or its first 8 digits and more.")
@json_option
def convert(source: str, model: str, output: Path, key_map: str | None, sha256: str, as_json: bool) -> None:
    """Turn a checkpoint into weights of a model.

    torch's .pth, .pt and .th, safetensors, Keras's .h5, ONNX; a file, or its address if its name ends in its
    hash as torchvision's do. Every tensor must be accounted for. The entry for a manifest is printed and
    written beside the output, so that its folder is a hub: ZOO_HUB=FOLDER zoo evaluate MODEL.TAG
    """
    from zoo.convert import convert as run

    with only_answers(), show_progress(source.rpartition("/")[2], bytes=True) as progress:
        report = run(source, model, output, key_map=key_map, sha256=sha256, progress=progress)
    if as_json:
        return print_json(report)
    return _print_report(report)


def _print_report(report: "ConversionReport") -> None:
    click.echo(f"{report.weights}: {report.file}, {size(report.size)}, sha256 {report.sha256}")
    changes = {
        "renamed": [f"{old} -> {new}" for old, new in report.renamed],
        "transposed": report.transposed,
        "reshaped": report.reshaped,
        "folded": report.folded,
        "added": report.added,
        "dropped": report.dropped,
    }
    told = ", ".join(f"{len(lines)} {what}" for what, lines in changes.items() if lines) or "every key as it is"
    click.echo(f"key map {report.key_map!r}: {told}")
    for what, lines in changes.items():
        for line in lines[:10]:
            click.echo(f"  {what} {line}")
        if len(lines) > 10:
            click.echo(f"  ... and {count(len(lines) - 10)} more; --json shows all")
    click.echo(f"\n{report.entry}")

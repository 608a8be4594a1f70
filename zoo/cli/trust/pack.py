"""``zoo pack``: weights for machines without a network."""

from pathlib import Path

import click

from zoo import hub, registry
from zoo.cli.options import complete_name, json_option
from zoo.cli.output import echo, note, print_json, show_progress, size
from zoo.resolve import weights_for
from zoo.manifest import Weights
from zoo.trust import packing, signing

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_name)
@click.option("-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="The folder.")
@click.option("--key", type=_FILE, help="Sign it with this private key (PEM).")
@json_option
def pack(names: tuple[str, ...], output: Path, key: Path | None, as_json: bool) -> None:
    """Make a folder that serves weights to a machine without a network.

    It holds their files and a manifest with sha256, scores and probes. There,
    ZOO_HUB=FOLDER zoo fetch NAME takes them from it. What the folder holds already stays.
    """
    found = [registry.current().find(name) for name in names]
    chosen = [_fetched(weights_for(one)) for one in found]
    file = packing.pack(chosen, output)
    signature = signing.sign(file, key) if key else None
    is_stale = signature is None and signing.signature_of(file).exists()
    if as_json:
        files = [{"weights": entry.name, "file": output / entry.path, "sha256": entry.sha256} for entry, _ in chosen]
        return print_json({"folder": output, "manifest": file, "signature": signature, "files": files})
    for entry, source in chosen:
        echo(f"{entry.name}: {output / entry.path}, {size(source.stat().st_size)}")
    if is_stale:
        note(f"The signature in {output} is that of an earlier manifest: zoo sign {output} --key FILE")
    note(f"ZOO_HUB={output} zoo fetch {names[0]}")
    return None


def _fetched(entry: Weights) -> tuple[Weights, Path]:
    with show_progress(entry.name, bytes=True) as progress:
        return entry, hub.fetch(entry, progress=progress)

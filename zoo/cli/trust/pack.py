"""``zoo manifest pack``: weights for machines without a network."""

from pathlib import Path

import click

from zoo import hub
from zoo.cli import options
from zoo.cli.output import echo, note, print_json, show_progress, size
from zoo.manifest import Weights
from zoo.names import is_repository
from zoo.registry import Found
from zoo.resolve import find, weights_for
from zoo.trust import first_use, packing, signing


@click.command(epilog="Example: zoo manifest pack resnet20.digits -o stick")
@options.names
@options.output("Write the files into DIR.", options.NEW_FOLDER)
@click.option("--key", type=options.FILE, help="Sign the manifest with this private key (PEM).")
@options.json
def pack(names: tuple[str, ...], output: Path, key: Path | None, as_json: bool) -> None:
    """Pack weights for a machine without a network.

    The folder holds the files and a manifest with sha256, scores and probes; ZOO_HUB=DIR zoo fetch NAME fetches from
    it. Files already in DIR stay.
    """
    found = [find(name) for name in names]
    chosen = [_fetched(one) for one in found]
    chosen += [(one.description, hub.fetch(one.description)) for one in found if one.description]
    file = packing.pack(chosen, output)
    signature = signing.sign(file, key) if key else None
    is_stale = signature is None and signing.signature_of(file).exists()
    if as_json:
        files = [{"weights": entry.name, "file": output / entry.path, "sha256": entry.sha256} for entry, _ in chosen]
        return print_json({"folder": output, "manifest": file, "signature": signature, "files": files})
    for entry, source in chosen:
        echo(f"{entry.name}: {output / entry.path}, {size(source.stat().st_size)}")
    if is_stale:
        note(f"The signature in {output} is of an earlier manifest: zoo manifest sign {output} --key FILE")
    note(f"ZOO_HUB={output} zoo fetch {names[0]}")
    for name in filter(is_repository, names):
        note(f"{name} also needs the project's zoo.lock there: zoo lock {name}")
    return None


def _fetched(found: Found) -> tuple[Weights, Path]:
    entry = weights_for(found)
    with show_progress(entry.name, bytes=True) as progress:
        return first_use.fetch(found, entry, progress=progress)

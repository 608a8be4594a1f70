"""``zoo manifest pin``: records the commit, size and sha256 that hubs report."""

from pathlib import Path
from typing import Any

import click

from zoo import manifest, registry
from zoo.cli import options
from zoo.cli.output import do_each, echo, note, print_json, show_progress, size
from zoo.errors import UnknownNameError
from zoo.manifest import Weights
from zoo.trust import pinning


@click.command(epilog="Example: zoo manifest pin resnet20.mine --manifest mine.toml")
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=options.complete_name)
@click.option(
    "--manifest", "file", type=click.Path(dir_okay=False, path_type=Path), help="Pin the entries of this manifest."
)
@click.option("--download", is_flag=True, help="Download and hash files whose hub does not report a sha256.")
@options.json
@click.pass_context
def pin(context: click.Context, names: tuple[str, ...], file: Path | None, download: bool, as_json: bool) -> None:
    """Record the commit, size and sha256 of weights.

    Asks the hubs and writes into manifests. Without NAME, pins every unpinned entry of the given manifest, or of the
    installed plugins' manifests.
    """

    def work(name: str) -> dict[str, Any]:
        entry, place = _entry(name, file)
        if pinning.is_complete(entry):
            pinned = entry
        else:
            with show_progress(name, bytes=True) as progress:
                pinned = pinning.resolve(entry, download=download, progress=progress)
            if pinned != entry:
                pinning.write(pinned, place)
        if not as_json:
            echo(f"{name}: {_summary(entry, pinned)}")
        return {
            "weights": pinned.name,
            "manifest": place,
            "pinned": pinned.pinned,
            "changed": pinned != entry,
            "revision": pinned.revision,
            "sha256": pinned.sha256,
            "sha256_prefix": pinned.sha256_prefix,
            "size": pinned.size,
        }

    names = names or _unpinned(file)
    if not names:
        note("Every entry is pinned.")
    done, failed, code = do_each(names, work)
    registry.clear()
    if as_json:
        rows = [{"name": name, "ok": True, **row} for name, row in done.items()]
        print_json(rows + [{"name": name, "ok": False, "error": reason} for name, reason in failed.items()])
    elif failed:
        note(f"{len(failed)} of {len(done) + len(failed)} failed: {', '.join(failed)}")
    context.exit(code)


def _entry(name: str, file: Path | None) -> tuple[Weights, Path]:
    """The entry that ``name`` means, and the manifest to write it into."""
    if file is not None and file.exists():
        for entry in manifest.read(file):
            if name == entry.name:
                return entry, file
    found = registry.current().find(name)
    if found.weights is None:
        known = [entry.name for entry in registry.current().weights_of(found.row, found.model)]
        raise UnknownNameError(f"{name} names no weights.", hint=f"Say which: {', '.join(known) or 'it has none'}.")
    return found.weights, file or pinning.manifest_of(found)


def _unpinned(file: Path | None) -> tuple[str, ...]:
    if file is not None:
        return tuple(entry.name for entry in manifest.read(file) if not entry.sha256)
    listed = registry.current().models()
    return tuple(f"{entry.name}.{one.tag}" for entry in listed for one in entry.weights if not one.sha256)


def _summary(before: Weights, after: Weights) -> str:
    if before == after and after.pinned:
        return f"already pinned, sha256 {after.sha256[:8]}"
    if after.pinned:
        at = f" at {after.revision[:8]}" if after.revision else ""
        return f"pinned, sha256 {after.sha256[:8]}, {size(after.size)}{at}"
    return f"not pinned: {size(after.size)}, sha256 {after.sha256_prefix or 'unknown'}...; --download hashes the file"

"""``zoo fetch``, ``zoo verify``, ``zoo convert``: files of weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo import hub, registry
from zoo.catalogue import select
from zoo.cli.concurrent import Shares, start_each
from zoo.cli.options import complete_name, json_option
from zoo.cli.output import count, do_each, note, only_answers, print_json, show_progress, size
from zoo.creation import create, default_weights, info_of
from zoo.errors import UnknownNameError, UnpinnedError
from zoo.hub import cache
from zoo.manifest import Weights

if TYPE_CHECKING:
    from zoo.convert import ConversionReport


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
        click.echo(file)
    if as_json:
        done = {name: _arrival(wanted[name], file) for name, file in files.items()}
        print_json(_outcomes(done, failed | failures))
    context.exit(max(code, worst) if len(names) == 1 else int(bool(code or worst)))


def _arrival(entry: Weights, file: Path) -> dict[str, Any]:
    return {"weights": entry.name, "file": file, "size": file.stat().st_size, "pinned": entry.pinned}


def _entries_of(name: str, allow_unpinned: bool) -> dict[str, Weights]:
    """The entries that ``name`` means, by their names; of a pattern, those that may be fetched."""
    if not set(name) & set("*?["):
        found = registry.load().find(name)
        return {name: found.weights or default_weights(found, allow_unpinned=allow_unpinned)}
    lines = select(name, family=None, dataset=None, license=None, max_params=None, pretrained=True)
    known = {line.name: line.weights for line in lines if line.weights}
    if not known:
        raise UnknownNameError(f"No weights match {name!r}.", hint="zoo list PATTERN --pretrained shows names.")
    taken = {name: entry for name, entry in known.items() if entry.pinned or allow_unpinned}
    if not taken:
        raise UnpinnedError(
            f"None of the {len(known)} weights that match {name!r} is pinned.",
            hint="--allow-unpinned takes what the hubs serve now, unverified.",
        )
    if len(taken) < len(known):
        note(f"{len(known) - len(taken)} of {len(known)} weights that match {name!r} are not pinned and left out.")
    return taken


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_name)
@click.option("--deep", is_flag=True, help="Hash the files again, not only where their stat changed.")
@json_option
@click.pass_context
def verify(context: click.Context, names: tuple[str, ...], deep: bool, as_json: bool) -> None:
    """Check weights that were fetched.

    Their bytes, that their tensors fit, and what the network computes with them. Without NAME,
    everything that is in the cache.
    """

    def work(name: str) -> dict[str, Any]:
        row = _verify(name, deep)
        if not as_json:
            said = f"logits within {row['tolerance']:g} of its probe" if row["tolerance"] else "it has no probe"
            known = "pinned" if row["pinned"] else "fetched"
            click.echo(f"{row['weights']}: {size(row['size'])} as {known}, {row['tensors']} tensors fit, {said}")
        return row

    names = names or _cached_names()
    if not names:
        note("The cache holds no weights; zoo fetch NAME fetches some.")
    done, failed, code = do_each(names, work)
    if as_json:
        print_json(_outcomes(done, failed))
    elif failed:
        note(f"{len(failed)} of {len(done) + len(failed)} failed: {', '.join(failed)}")
    context.exit(code)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("model", metavar="MODEL[.TAG]", shell_complete=complete_name)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The safetensors file to write.")
@click.option("--from", "key_map", metavar="KEYMAP", help="The family's key map to use; by default the one that fits.")
@json_option
def convert(file: Path, model: str, output: Path, key_map: str | None, as_json: bool) -> None:
    """Turn a checkpoint into weights of a model.

    Every tensor must be accounted for. The entry for a manifest is printed and written beside the
    output, so that its folder is a hub: ZOO_HUB=FOLDER zoo evaluate MODEL.TAG
    """
    from zoo.convert import convert as run

    with only_answers():
        report = run(file, model, output, key_map=key_map)
    if as_json:
        return print_json(report)
    return _print_report(report)


def _verify(name: str, deep: bool) -> dict[str, Any]:
    found = registry.load().find(name)
    entry = found.weights or default_weights(found)
    hub.verify(entry, deep=deep)
    with only_answers():
        module = create(name if found.weights else f"{name}.{entry.tag}")
        if entry.probe:
            from zoo import probe

            probe.check(module, info_of(module).preprocess, entry.probe)
    file = hub.cached(entry)
    assert file is not None
    return {
        "weights": entry.name,
        "file": file,
        "size": file.stat().st_size,
        "pinned": entry.pinned,
        "tensors": len(module.state_dict()),
        "tolerance": entry.probe.tolerance.get("float32") if entry.probe else None,
    }


def _cached_names() -> tuple[str, ...]:
    registered = registry.load()
    return tuple(
        f"{entry.name}.{weights.tag}"
        for entry in registered.models(registered.collections)
        for weights in entry.weights
        if _is_in_cache(weights)
    )


def _is_in_cache(weights: Weights) -> bool:
    """Whether there is a file for it, sound or not."""
    if weights.sha256:
        return cache.file_of(weights, weights.sha256).exists()
    return cache.recall(weights) is not None


def _outcomes(done: dict[str, dict[str, Any]], failed: dict[str, str]) -> list[dict[str, Any]]:
    rows = [{"name": name, "ok": True, **row} for name, row in done.items()]
    return rows + [{"name": name, "ok": False, "error": reason} for name, reason in failed.items()]


def _print_report(report: "ConversionReport") -> None:
    click.echo(f"{report.weights}: {report.file}, {size(report.size)}, sha256 {report.sha256}")
    changes = {
        "renamed": [f"{old} -> {new}" for old, new in report.renamed],
        "reshaped": report.reshaped,
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

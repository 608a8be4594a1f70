"""``zoo cache``: lists, checks and prunes the cache."""

import re
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import click

from zoo import registry
from zoo.cli import options
from zoo.cli.group import Commands
from zoo.cli.output import echo, note, print_json, print_table, size
from zoo.errors import PluginError
from zoo.hub import maintenance
from zoo.hub.cache import explained, root
from zoo.manifest import Weights
from zoo.trust import first_use, repository

_PERIOD = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


_SECTIONS = {
    "Commands:": {
        "list": "zoo.cli.cache:list_files",
        "verify": "zoo.cli.cache:verify",
        "prune": "zoo.cli.cache:prune",
    }
}


@click.group(cls=Commands, sections=_SECTIONS, epilog="Example: zoo cache prune --older-than 30d --dry-run")
def cache() -> None:
    """List, check and prune the cache."""


@click.command("list", epilog="Example: zoo cache list")
@options.json
def list_files(as_json: bool) -> None:
    """List the cached files.

    Prints the weights of each file, its size, its last use and its sha256. A file of another format has a second row
    after its first use, for its conversion to safetensors.
    """
    with explained():
        files = maintenance.contents(_entries())
    if as_json:
        return print_json([_row(cached) for cached in files])
    if not files:
        return note(f"The cache {root()} holds no weights; zoo fetch NAME fetches some.")
    titles = ("weights", "size", "last used", "sha256")
    rows = [
        (
            _called(cached),
            size(cached.size),
            datetime.fromtimestamp(cached.last_used).strftime("%Y-%m-%d %H:%M"),
            cached.sha256,
        )
        for cached in files
    ]
    print_table(titles, rows, right=("size",))
    return note(f"{_files(len(files))}, {size(sum(cached.size for cached in files)) or '0 B'} in {root()}")


@click.command(epilog="Example: zoo cache verify")
@options.json
@click.pass_context
def verify(context: click.Context, as_json: bool) -> None:
    """Hash every file again; quarantine damaged ones.

    zoo verify also checks that the tensors fit, and the network's outputs.
    """
    rows: list[dict[str, Any]] = []
    damaged = 0
    with explained():
        for cached in maintenance.contents(_entries()):
            damage = maintenance.verify(cached)
            damaged += damage is not None
            rows.append({**_row(cached), "ok": damage is None})
            if damage:
                rows[-1] |= {"error": damage.reason, "got": damage.got, "quarantine": damage.aside}
                note(f"error: {cached.file} ({_called(cached)}) {damage.reason}")
    if as_json:
        print_json(rows)
    else:
        echo(f"{_files(len(rows))}, {size(sum(row['size'] for row in rows)) or '0 B'} hashed, {damaged} damaged")
    if damaged and not as_json:
        note("hint: The next use fetches or converts it again; zoo cache prune empties the quarantine.")
    context.exit(1 if damaged else 0)


def _check_period(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Reads a period such as ``30d``, in seconds."""
    if value is None:
        return None
    match = _PERIOD.fullmatch(value.strip().lower())
    if match is None:
        raise click.BadParameter(f"{value!r} is not a period such as 12h, 30d or 4w.")
    return float(match[1]) * _SECONDS[match[2]]


def _check_bytes(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Reads a size such as ``5GB``, in bytes."""
    if value is None:
        return None
    amount = value.strip()
    bare = amount[:-1] if len(amount) > 1 and amount[-1] in "bB" else amount
    try:
        return options.check_amount(context, parameter, bare)
    except click.BadParameter:
        raise click.BadParameter(f"{value!r} is not a size such as 500MB or 5GB.") from None


@click.command(epilog="Example: zoo cache prune --keep-under 5GB --dry-run")
@click.option(
    "--older-than", metavar="PERIOD", callback=_check_period, help="Remove weights unused for this long: 30d, 12h."
)
@click.option(
    "--keep-under",
    metavar="SIZE",
    callback=_check_bytes,
    help="Remove the least recently used until SIZE is left: 5GB.",
)
@click.option("--unreferenced", is_flag=True, help="Remove weights that no manifest names.")
@click.option("--dry-run", is_flag=True, help="Show what would be removed; remove nothing.")
@options.json
def prune(older_than: float | None, keep_under: int | None, unreferenced: bool, dry_run: bool, as_json: bool) -> None:
    """Remove partial downloads, the quarantine, and chosen weights.

    A process that has loaded a removed file is not affected; the next use fetches it again.
    """
    entries = _entries(must_be_all=unreferenced)
    with explained():
        removals = maintenance.prune(
            maintenance.contents(entries),
            older_than=older_than,
            keep_under=keep_under,
            unreferenced=unreferenced,
            dry_run=dry_run,
        )
    freed = sum(removal.freed for removal in removals)
    gone = [removal for removal in removals if not removal.kept]
    if as_json:
        rows = [{**removal._asdict(), "removed": not (removal.kept or dry_run)} for removal in removals]
        return print_json({"freed": freed, "dry_run": dry_run, "files": rows})
    for removal in removals:
        who = ", ".join(removal.names) or removal.path.name
        verb = "kept" if removal.kept else "would remove" if dry_run else "removed"
        why = f"{removal.reason}, but {removal.kept}" if removal.kept else removal.reason
        echo(f"{verb} {who}: {why}")
    verb = "would free" if dry_run else "freed"
    return echo(f"{verb} {size(freed) or '0 B'} ({_files(len(gone))}) in {root()}")


def _entries(*, must_be_all: bool = False) -> list[Weights]:
    """Returns every entry of every manifest; raises :class:`PluginError` if one cannot be read and ``must_be_all``."""
    registered = registry.current()
    listed = registered.models(registered.collections)
    broken = [row for row in registered.plugins if row.status in ("broken", "set aside")]
    if must_be_all and broken:
        raise PluginError(
            f"Cannot tell which weights are unreferenced: plugin {broken[0].name!r} is {broken[0].status}: "
            f"{broken[0].reason}",
            hint=f"Repair it, or disable it: ZOO_DISABLE_PLUGINS={','.join(row.name for row in broken)}",
        )
    return [*(weights for _, weights in first_use.entries(listed)), *chain(*repository.entries())]


def _row(cached: maintenance.CachedFile) -> dict[str, Any]:
    return {
        "weights": cached.names,
        "file": cached.file,
        "sha256": cached.sha256,
        "size": cached.size,
        "last_used": datetime.fromtimestamp(cached.last_used, UTC).isoformat(timespec="seconds"),
        "converted_from": cached.source,
    }


def _called(cached: maintenance.CachedFile) -> str:
    return (", ".join(cached.names) or "(none)") + (" (converted)" if cached.source else "")


def _files(number: int) -> str:
    return f"{number} file{'' if number == 1 else 's'}"

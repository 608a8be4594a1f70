"""Edits one entry of a manifest's text; comments, order and all else stay the same."""

import re

from zoo import manifest
from zoo.errors import ManifestError
from zoo.manifest import Probe, Weights


def with_entry(text: str, entry: Weights, file: str = "<manifest>") -> str:
    """Returns ``text`` with the tables of ``entry``, which replace those of that name or are added at the end."""
    old = {other.name: other for other in manifest.parse(text, file)}
    if old.get(entry.name) == entry:
        return text
    lines = text.splitlines(keepends=True)
    own, end = _tables_of(lines, entry)
    if own and _are_together(lines, own, end):
        changed = "".join(lines[: own[0]]) + manifest.render(entry) + "".join(lines[end:])
    else:
        changed = _joined(text, manifest.render(entry))
    _check_rest(file, text, changed, entry.name)
    return changed


def with_probe(text: str, entry: Weights, probe: Probe, file: str = "<manifest>") -> str:
    """Returns ``text`` with ``probe`` as the table ``[arch.tag.probe]`` of ``entry``."""
    table = manifest.render_probe(entry, probe)
    lines = text.splitlines(keepends=True)
    own, end = _tables_of(lines, entry)
    is_probe = re.compile(rf"\[{re.escape(manifest.table_name(entry))}\.probe\]")
    old = next((number for number in own if is_probe.match(lines[number])), None)
    if old is not None:
        changed = "".join(lines[:old]) + table + "".join(lines[_end_of_table(lines, old) :])
    elif own:
        changed = _joined("".join(lines[:end]), table) + "".join(lines[end:])
    else:
        changed = text
    _check_rest(file, text, changed, entry.name, probe)
    return changed


def _headers(lines: list[str]) -> list[int]:
    """Returns the lines at which tables begin; rows of an array contain a comma."""
    return [number for number, line in enumerate(lines) if re.match(r"\[[^,=]*\]\s*(#.*)?$", line)]


def _tables_of(lines: list[str], entry: Weights) -> tuple[list[int], int]:
    """Returns the lines at which the tables of ``entry`` begin, and the line at which the last of them ends."""
    name = re.escape(manifest.table_name(entry))
    own = [number for number in _headers(lines) if re.match(rf"\[{name}[.\]]", lines[number])]
    return own, _end_of_table(lines, own[-1]) if own else len(lines)


def _end_of_table(lines: list[str], start: int) -> int:
    """Returns the line after a table's last; comments and blank lines above the next table belong to that one."""
    end = next((number for number in _headers(lines) if number > start), len(lines))
    while not lines[end - 1].strip() or lines[end - 1].startswith("#"):
        end -= 1
    return end


def _are_together(lines: list[str], own: list[int], end: int) -> bool:
    return [number for number in _headers(lines) if own[0] <= number < end] == own


def _joined(text: str, table: str) -> str:
    if not text.strip():
        return text + table
    return text + ("" if text.endswith("\n") else "\n") + "\n" + table


def _check_rest(file: str, before: str, after: str, name: str, probe: Probe | None = None) -> None:
    old = {entry.name: entry for entry in manifest.parse(before, file)}
    try:
        new = {entry.name: entry for entry in manifest.parse(after, file)}
    except ManifestError:
        new = {}
    others = [{key: entry for key, entry in entries.items() if key != name} for entries in (old, new)]
    if others[0] != others[1] or name not in new or (probe is not None and new[name].probe != probe):
        raise ManifestError(
            f"{file}: [{name}] cannot be edited in place; nothing was changed.",
            hint="Give each entry its own [arch.tag] and [arch.tag.probe] headers, together.",
        )

"""Writes ``Weights`` values as a manifest's text, and edits one entry of it: all else stays the same."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from zoo.errors import ManifestError
from zoo.manifest.parsing import RELEASE, parse, release_of
from zoo.manifest.schema import Probe, Release, Weights
from zoo.system import toml


def render(entry: Weights) -> str:
    """Returns the TOML table of ``entry``, which :func:`parse` reads back as the same value."""
    table: dict[str, Any] = msgspec.to_builtins(entry)
    scores, history = table.pop("scores", {}), table.pop("history", None)
    for key in ("arch", "tag", "probe"):
        table.pop(key, None)
    name = table_name(entry)
    parts = [(name, table)]
    parts += [(f"{name}.scores.{toml.string(key)}", score) for key, score in scores.items()]
    parts += [(f"{name}.history", history)] if history else []
    texts = [f"[{name}]\n{_lines(values)}" for name, values in parts]
    return "\n".join([*texts, render_probe(entry, entry.probe)] if entry.probe else texts)


def render_probe(entry: Weights, probe: Probe) -> str:
    """Returns the TOML table of ``probe`` for ``entry``, with one line of logits per image."""
    table: dict[str, Any] = msgspec.to_builtins(probe)
    logits = "".join(f"    {toml.render(row)},\n" for row in table.pop("logits"))
    return f"[{table_name(entry)}.probe]\nlogits = [\n{logits}]\n{_lines(table)}"


def table_name(entry: Weights) -> str:
    return f"{toml.key(entry.arch)}.{entry.tag}"


def _lines(table: Mapping[str, Any]) -> str:
    return "".join(f"{toml.key(key)} = {toml.render(value)}\n" for key, value in table.items())


def with_entry(text: str, entry: Weights, file: str = "<manifest>") -> str:
    """Returns ``text`` with the tables of ``entry``, which replace those of that name or are added at the end."""
    old = {other.name: other for other in parse(text, file)}
    if old.get(entry.name) == entry:
        return text
    lines = text.splitlines(keepends=True)
    starts, end = _tables_of(lines, entry)
    if starts and _are_together(lines, starts, end):
        changed = "".join(lines[: starts[0]]) + render(entry) + "".join(lines[end:])
    else:
        changed = _joined(text, render(entry))
    _check_rest(file, text, changed, entry.name)
    return changed


def with_probe(text: str, entry: Weights, probe: Probe, file: str = "<manifest>") -> str:
    """Returns ``text`` with ``probe`` as the table ``[arch.tag.probe]`` of ``entry``."""
    table = render_probe(entry, probe)
    lines = text.splitlines(keepends=True)
    starts, end = _tables_of(lines, entry)
    is_probe = re.compile(rf"\[{re.escape(table_name(entry))}\.probe\]")
    old = next((number for number in starts if is_probe.match(lines[number])), None)
    if old is not None:
        changed = "".join(lines[:old]) + table + "".join(lines[_end_of_table(lines, old) :])
    elif starts:
        changed = _joined("".join(lines[:end]), table) + "".join(lines[end:])
    else:
        changed = text
    _check_rest(file, text, changed, entry.name, probe)
    return changed


def with_release(text: str, release: Release, file: str = "<manifest>") -> str:
    """Returns ``text`` with the table ``[release]``, which replaces one that is there or is added at the end."""
    lines = text.splitlines(keepends=True)
    start = next((number for number in _headers(lines) if lines[number].startswith(f"[{RELEASE}]")), None)
    fields = msgspec.structs.asdict(release).items()
    stated = [(key, str(value) if key == "expires" else toml.render(value)) for key, value in fields if value]
    table = f"[{RELEASE}]\n" + "".join(f"{key} = {value}\n" for key, value in stated)
    if start is None:
        changed = _joined(text, table)
    else:
        changed = "".join(lines[:start]) + table + "".join(lines[_end_of_table(lines, start) :])
    if parse(changed, file) != parse(text, file) or release_of(changed, file) != release:
        raise ManifestError(f"{file}: [{RELEASE}] cannot be edited in place.", hint="Write it as a separate table.")
    return changed


def _headers(lines: list[str]) -> list[int]:
    """Returns the lines at which tables begin; rows of an array contain a comma."""
    return [number for number, line in enumerate(lines) if re.match(r"\[[^,=]*\]\s*(#.*)?$", line)]


def _tables_of(lines: list[str], entry: Weights) -> tuple[list[int], int]:
    """Returns the lines at which the tables of ``entry`` begin, and the line at which the last of them ends."""
    name = re.escape(table_name(entry))
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
    old = {entry.name: entry for entry in parse(before, file)}
    try:
        new = {entry.name: entry for entry in parse(after, file)}
    except ManifestError:
        new = {}
    others = [{key: entry for key, entry in entries.items() if key != name} for entries in (old, new)]
    if others[0] != others[1] or name not in new or (probe is not None and new[name].probe != probe):
        raise ManifestError(
            f"{file}: [{name}] cannot be edited in place; nothing was changed.",
            hint="Give each entry its own [arch.tag] and [arch.tag.probe] headers, together.",
        )

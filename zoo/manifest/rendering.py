"""Writes ``Weights`` values as a manifest's text."""

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from zoo.manifest.schema import Probe, Weights


def render(entry: Weights) -> str:
    """Returns the TOML table of ``entry``, which :func:`parse` reads back as the same value."""
    table: dict[str, Any] = msgspec.to_builtins(entry)
    scores, history = table.pop("scores", {}), table.pop("history", None)
    for key in ("arch", "tag", "probe"):
        table.pop(key, None)
    name = table_name(entry)
    parts = [(name, table)]
    parts += [(f"{name}.scores.{_string(key)}", score) for key, score in scores.items()]
    parts += [(f"{name}.history", history)] if history else []
    texts = [f"[{name}]\n{_lines(values)}" for name, values in parts]
    return "\n".join([*texts, render_probe(entry, entry.probe)] if entry.probe else texts)


def render_probe(entry: Weights, probe: Probe) -> str:
    """Returns the TOML table of ``probe`` for ``entry``, with one line of logits per image."""
    table: dict[str, Any] = msgspec.to_builtins(probe)
    logits = "".join(f"    {_toml(row)},\n" for row in table.pop("logits"))
    return f"[{table_name(entry)}.probe]\nlogits = [\n{logits}]\n{_lines(table)}"


def table_name(entry: Weights) -> str:
    return f"{_key(entry.arch)}.{entry.tag}"


def _lines(table: Mapping[str, Any]) -> str:
    return "".join(f"{_key(key)} = {_toml(value)}\n" for key, value in table.items())


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return _string(value) if isinstance(value, str) else json.dumps(value)  # numbers and booleans read the same in TOML


def _key(text: str) -> str:
    return text if re.fullmatch(r"[\w-]+", text, re.ASCII) else _string(text)


def _string(text: str) -> str:
    """Returns ``text`` as in JSON, but without pairs of surrogates and with DEL escaped, as TOML needs them."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")

"""``zoo plugins check --fix``: counts parameters and multiply-adds, and writes them into rows."""

import importlib.util
import sys
from pathlib import Path

import msgspec

from zoo import registry
from zoo.errors import PluginError
from zoo.registry import PluginRow
from zoo.system import storage
from zoo.testing import shapes, source
from zoo.testing.subject import Subject


class Change(msgspec.Struct, frozen=True):
    """One number of a row."""

    model: str
    field: str
    old: int
    new: int
    file: Path
    line: int


def fix(plugin: str) -> list[Change]:
    """Writes the right ``params`` and ``macs`` into the source code of a plugin's rows; returns what was changed.

    Raises :class:`PluginError` if the plugin cannot be used, or if a number is not written in its source as such.
    """
    row = next((row for row in registry.current().plugins if row.name == plugin and row.plugin), None)
    if row is None or row.plugin is None:
        raise PluginError(f"Plugin {plugin!r} cannot be used.", hint=f"zoo plugins check {plugin} says why.")
    changes = []
    for model in row.plugin.models:
        subject = Subject(plugin, model)
        try:
            counted = {"params": shapes.count_params(subject), "macs": shapes.count_macs(subject)}
        except Exception as error:  # a plugin's code may raise anything
            raise PluginError(
                f"{model.name}: params and macs cannot be counted: {type(error).__name__}: {error}"
            ) from error
        wrong = {field: count for field, count in counted.items() if count != getattr(model, field)}
        if wrong:
            changes += _write(row, model.name, wrong, {field: getattr(model, field) for field in wrong})
    if changes:
        _forget(row)
    return changes


def _write(row: PluginRow, model: str, numbers: dict[str, int], old: dict[str, int]) -> list[Change]:
    found = [one for file in source.files_of(row) for name, one in source.rows(file) if name == model]
    text = source.changed(found[0], numbers) if len(found) == 1 else None
    if text is None:
        written = ", ".join(f"{field}={number:_}" for field, number in numbers.items())
        raise PluginError(
            f"{model}: the row of this model is not written out in {row.module}, so that --fix cannot change it.",
            hint=f"Its numbers are {written}.",
        )
    file, line = found[0].file, found[0].call.lineno
    storage.replace(file, text.encode())
    return [Change(model, field, old[field], number, file, line) for field, number in numbers.items()]


def _forget(row: PluginRow) -> None:
    """Lets the next use of the registry import the changed source."""
    package = row.module.partition(".")[0]
    for file in source.files_of(row):  # a change within a second could go unnoticed
        Path(importlib.util.cache_from_source(str(file))).unlink(missing_ok=True)
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[name]
    registry.clear()

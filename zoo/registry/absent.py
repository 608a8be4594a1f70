"""Explains an unknown name that a plugin would have if it could be used, without importing that plugin."""

import importlib.util
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from zoo.registry.plugin_row import PluginRow

_MOST_FILES, _MOST_BYTES = 50, 1_000_000


def explanation(arch: str, unusable: Sequence[PluginRow]) -> str:
    """Why ``arch`` is unknown, if the text of one of the ``unusable`` plugins has that name; else empty.

    A plugin whose own name begins the model's is likely meant.
    """
    having = [row for row in unusable if _has_name(row, arch)]
    for row in having or [row for row in unusable if arch.startswith(row.name)]:
        of = f"{row.distribution} {row.version}".strip()
        known = f"It is in {of}. " if having and of else ""
        return f"{known}Plugin {row.name!r} is {row.status}: {row.reason}. zoo plugins shows all."
    return ""


def to_install(requirement: str, rows: Iterable[PluginRow]) -> str:
    """What to do about a model of the distribution ``requirement``, such as ``zoo-pet>=1.0``."""
    name = requirement.partition(">")[0]
    for row in rows:
        if _key(row.distribution) == _key(name):
            if not row.is_usable:
                return f"It is in {name}. Plugin {row.name!r} is {row.status}: {row.reason}. zoo plugins shows all."
            there = f"{row.distribution} {row.version}"
            return f"It is in {requirement}, but not in the installed {there}: pip install -U '{requirement}'"
    return f"It is in the distribution {name}, which is not installed. If you trust it: pip install '{requirement}'"


def _key(distribution: str) -> str:
    """The name as pip compares names."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _has_name(row: PluginRow, arch: str) -> bool:
    """Whether the plugin's module, or a file beside it, has the name as a string or as a table of a manifest."""
    name = re.compile(rf"""(?m)["']{re.escape(arch)}["']|^\[{re.escape(arch)}\.""")
    return any(name.search(text) for text in _texts(row.module))


def _texts(module: str) -> Iterator[str]:
    top, *parts = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return
    if spec is None:
        return
    if not spec.submodule_search_locations:
        files = [Path(spec.origin)] if spec.origin else []
    else:
        folder = Path(next(iter(spec.submodule_search_locations)), *parts)
        beside = [folder.with_suffix(".py"), *(folder.iterdir() if folder.is_dir() else ())]
        files = [file for file in sorted(beside) if file.suffix in (".py", ".toml")]
    for file in islice(files, _MOST_FILES):
        try:
            if file.is_file() and file.stat().st_size <= _MOST_BYTES:
                yield file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue

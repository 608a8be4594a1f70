"""Parses manifests to ``Weights`` values, with file and line in errors."""

import re
from pathlib import Path
from typing import Any

import msgspec

from zoo.errors import ManifestError, SpecError
from zoo.manifest.schema import Release, Score, Weights
from zoo.names import is_arch, is_part
from zoo.spec import KeyMap, Preprocess
from zoo.system import storage

LARGEST = 1 << 24
"""Bytes: room for 30,000 entries with their probes. Values take many times the memory of their text."""


KEY_MAPS = "key_maps"
"""The table of a manifest that holds key maps, by name, in place of weights."""


RELEASE = "release"
"""The table of a manifest that says which of its publisher's it is."""


def read(file: Path) -> tuple[Weights, ...]:
    """Reads the entries of the manifest ``file``, in order; raises :class:`ManifestError`."""
    return parse(_text_of(file), str(file))


def key_maps(file: Path) -> tuple[KeyMap, ...]:
    """Reads the key maps of the manifest ``file``, ``[key_maps.NAME]``; raises :class:`ManifestError`."""
    text = _text_of(file)
    if KEY_MAPS not in text:  # parsing many entries takes long
        return ()
    tables = _tables_of(text, str(file)).get(KEY_MAPS, {})
    maps = []
    for name, table in tables.items() if isinstance(tables, dict) else [("", tables)]:
        where = f"{file}:{_line_of(text, KEY_MAPS, name, [])}: [{KEY_MAPS}.{name}]"
        if not (isinstance(table, dict) and re.fullmatch(r"[A-Za-z0-9_.-]+", name)):
            raise ManifestError(f"{where}: expected a table [{KEY_MAPS}.NAME]")
        if unknown := table.keys() - {*KeyMap.__struct_fields__} | table.keys() & {"name"}:
            raise ManifestError(f"{where}: unknown {', '.join(sorted(unknown))}")
        try:
            maps.append(msgspec.convert({**table, "name": name}, KeyMap))
        except (ValueError, SpecError) as error:  # msgspec's errors are ValueErrors
            raise ManifestError(f"{where}: {error}") from None
    return tuple(maps)


def release_of(text: str, file: str = "<manifest>") -> Release | None:
    """Returns the release of a manifest's text, None without one; raises :class:`ManifestError` as :func:`parse`."""
    table = _tables_of(text, file).get(RELEASE)
    try:
        return None if table is None else msgspec.convert(table, Release)
    except msgspec.ValidationError as error:
        where = f"{file}:{_line_of(text, RELEASE, '', [])}"
        raise ManifestError(f"{where}: [{RELEASE}]: {error}") from None


def _text_of(file: Path) -> str:
    try:
        return storage.read_bounded(file, LARGEST).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def parse(text: str, file: str = "<manifest>") -> tuple[Weights, ...]:
    """Reads entries as :func:`read` does, for a manifest's text; ``file`` is the name in errors."""
    entries = []
    for arch, tags in _tables_of(text, file).items():
        if arch in (KEY_MAPS, RELEASE):
            continue
        for tag, table in tags.items() if isinstance(tags, dict) else [("", tags)]:
            if not (is_arch(arch) and is_part(tag) and isinstance(table, dict)):
                where = f"{file}:{_line_of(text, arch, tag, [])}"
                raise ManifestError(f"{where}: expected a table [arch.tag] of lower case letters, digits and _")
            try:
                _refuse_unknown(table)
                entries.append(msgspec.convert({**table, "arch": arch, "tag": tag}, Weights))
            except msgspec.ValidationError as error:
                message, keys = _offence(str(error), table)
                where = f"{file}:{_line_of(text, arch, tag, keys)}"
                raise ManifestError(f"{where}: [{arch}.{tag}] {'.'.join(keys)}: {message}") from None
            defaults = [entry for entry in entries if entry.arch == arch and entry.default]
            if len(defaults) > 1:
                where = f"{file}:{_line_of(text, arch, tag, ['default'])}"
                raise ManifestError(f"{where}: [{arch}.{tag}] default: {defaults[0].name} is the default already")
    return tuple(entries)


def _tables_of(text: str, file: str) -> dict[str, Any]:
    from zoo.system import toml  # asking for what the index has parses nothing

    try:
        return toml.loads(text)
    except ValueError as error:
        raise ManifestError(f"{file}: not TOML: {error}") from None


def _offence(error: str, table: dict[str, Any]) -> tuple[str, list[str]]:
    """Turns msgspec's ``message - at `$.a.b` `` into (message, [a, b]); an unknown field is its own path."""
    message, _, path = error.partition(" - at `")
    keys = re.findall(r"\w+|\.\.\.", path)
    if keys[:2] == ["scores", "..."]:  # msgspec hides the keys of mappings
        keys[1] = next(key for key, value in table["scores"].items() if not _is_valid(value, Score))
    unknown = re.search(r"unknown field `([^`]+)`", message)
    return message, [*keys, unknown[1]] if unknown else keys


def _refuse_unknown(table: dict[str, Any]) -> None:
    """Rejects what the types accept: arch and tag as fields, and unknown fields of ``Preprocess``."""
    preprocess = table.get("preprocess")
    fields = set(Preprocess.__struct_fields__)
    strange = sorted(preprocess.keys() - fields) if isinstance(preprocess, dict) else []
    for key, path in [(key, "$") for key in ("arch", "tag") if key in table] + [
        (key, "$.preprocess") for key in strange
    ]:
        raise msgspec.ValidationError(f"Object contains unknown field `{key}` - at `{path}`")


def _is_valid(value: object, kind: type) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _line_of(text: str, arch: str, tag: str, keys: list[str]) -> int:
    """Returns the line of the key, or of the nearest table or key above it."""
    place, depth, header = 1, -1, ""
    target = [arch, tag, *keys]
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if line.startswith("["):
            header = line.strip("[] ")
            here = re.findall(r'"([^"]*)"|([\w-]+)', header)
        elif match := re.match(r"([\w\".-]+)\s*=", line):
            here = re.findall(r'"([^"]*)"|([\w-]+)', f"{header}.{match[1]}" if header else match[1])
        else:
            continue
        names = [quoted or bare for quoted, bare in here]
        if names == target[: len(names)] and len(names) > depth:
            place, depth = number, len(names)
    return place

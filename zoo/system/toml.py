"""TOML: read with limits, in linear time (the standard library's time is cubic in the dots of a key); and written."""

import json
import re
from collections.abc import Hashable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec

from zoo.errors import ZooError
from zoo.system import storage

T = TypeVar("T")

LARGEST = 1 << 20
"""Bytes of a file: room for thousands of names."""

DEEPEST = 100
_PART = r"""(?:"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+'|[\w-]++)[ \t]*+\.[ \t]*+"""


def loads(text: str) -> dict[str, Any]:
    """Returns the table in ``text``; raises ValueError if it is invalid or has keys of more than 100 parts."""
    import tomllib  # many import this module and read nothing

    for number, line in enumerate(text.split("\n"), start=1):
        if line.count(".") >= DEEPEST and _too_deep().search(line):
            raise ValueError(f"line {number} has {DEEPEST} nested keys or more, expected fewer")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("too deeply nested") from None


def read_value(text: Any) -> Any:
    """Reads ``text`` as a TOML value; a bare word is a string. Other values than strings are returned unchanged."""
    import tomllib

    if not isinstance(text, str):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def render(value: Any) -> str:
    """Writes ``value`` as a TOML value on one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key(name)} = {render(item)}" for name, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(render, value)) + "]"
    return string(value) if isinstance(value, str) else json.dumps(value)  # numbers and booleans read the same in TOML


def key(text: str) -> str:
    """Writes ``text`` as the key of a table."""
    return text if re.fullmatch(r"[\w-]+", text, re.ASCII) else string(text)


def string(text: str) -> str:
    """Writes ``text`` as in JSON, but without pairs of surrogates and with DEL escaped, as TOML needs them."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@cache
def _too_deep() -> re.Pattern[str]:
    return re.compile(rf"(?<![\w\\-])(?:{_PART}){{{DEEPEST}}}")  # from where a part begins, or it were slow itself


def read(file: Path, kind: type[T], error: type[ZooError], hint: str) -> T:
    """Returns the value of type ``kind`` in the TOML ``file``; raises ``error`` if it is invalid."""
    try:
        content = storage.read_bounded(file, LARGEST)
    except (OSError, ValueError) as problem:
        raise error(f"{file} cannot be read: {getattr(problem, 'strerror', None) or problem}", hint=hint) from None
    return parse(content, kind, error, str(file), hint)


@lru_cache(maxsize=8)
def _parsed(content: bytes, kind: Hashable) -> object:
    """Parses ``content`` once: each name that is resolved reads its locks again; their bytes say what has changed."""
    return msgspec.convert(loads(content.decode()), cast(type, kind))


def parse(content: bytes, kind: type[T], error: type[ZooError], file: str, hint: str = "") -> T:
    """Returns the same as :func:`read`, for the contents of a file; ``file`` is the name in errors."""
    try:
        return cast(T, _parsed(content, cast(Hashable, kind)))
    except msgspec.ValidationError as problem:
        raise error(f"{file}: {_short(problem).replace('`', '')}", hint=hint) from None
    except ValueError as problem:
        raise error(f"{file}: not TOML: {_short(problem)}", hint=hint) from None


def _short(problem: Exception) -> str:
    """Returns text from the file, since keys in a hostile file may be very long."""
    return str(problem)[:300]

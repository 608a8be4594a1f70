"""Parses TOML in linear time: the standard library's time is cubic in the dots of a key."""

import re
import tomllib
from typing import Any

DEEPEST = 100
_PART = r"""(?:"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+'|[\w-]++)[ \t]*+\.[ \t]*+"""
_TOO_DEEP = re.compile(rf"(?<![\w\\-])(?:{_PART}){{{DEEPEST}}}")  # from where a part begins, or it were slow itself


def loads(text: str) -> dict[str, Any]:
    """The table in ``text``; raises ValueError if it is invalid or has keys of more than 100 parts."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.count(".") >= DEEPEST and _TOO_DEEP.search(line):
            raise ValueError(f"line {number} has {DEEPEST} nested keys or more, expected fewer")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("too deeply nested") from None

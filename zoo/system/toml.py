"""TOML in a time that its length bounds: the standard library takes the cube of a key's dots."""

import re
import tomllib
from typing import Any

DEEPEST = 100
_PART = r"""(?:"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+'|[\w-]++)[ \t]*+\.[ \t]*+"""
_TOO_DEEP = re.compile(rf"(?<![\w\\-])(?:{_PART}){{{DEEPEST}}}")  # from where a part begins, or it were slow itself


def loads(text: str) -> dict[str, Any]:
    """The table that ``text`` holds; raises ValueError where it holds none, or keys of more than 100 parts."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.count(".") >= DEEPEST and _TOO_DEEP.search(line):
            raise ValueError(f"line {number} has {DEEPEST} dots in a row: no key is nested so deeply")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None

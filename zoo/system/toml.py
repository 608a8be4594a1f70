"""Parses TOML in linear time: the standard library's time is cubic in the dots of a key."""

import re
from functools import cache
from typing import Any

DEEPEST = 100
_PART = r"""(?:"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+'|[\w-]++)[ \t]*+\.[ \t]*+"""


def loads(text: str) -> dict[str, Any]:
    """The table in ``text``; raises ValueError if it is invalid or has keys of more than 100 parts."""
    import tomllib  # many import this module and read nothing

    for number, line in enumerate(text.split("\n"), start=1):
        if line.count(".") >= DEEPEST and _too_deep().search(line):
            raise ValueError(f"line {number} has {DEEPEST} nested keys or more, expected fewer")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("too deeply nested") from None


@cache
def _too_deep() -> re.Pattern[str]:
    return re.compile(rf"(?<![\w\\-])(?:{_PART}){{{DEEPEST}}}")  # from where a part begins, or it were slow itself

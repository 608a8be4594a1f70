"""Switches and limits: variables of the environment that are true or false, or a number."""

import os

from zoo.errors import SpecError

_TRUE = ("1", "on", "yes", "true", "y", "t")
_FALSE = ("0", "off", "no", "false", "n", "f")


def is_on(name: str) -> bool:
    """Returns whether the switch ``name`` is on; unset and empty are off.

    Case and spaces around do not matter. Raises :class:`SpecError` for all other words: whoever sets a switch means
    something by it.
    """
    text = os.environ.get(name, "")
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word and word not in _FALSE:
        raise SpecError(
            f"{name} is {text[:100]!r}, which is neither true nor false.",
            hint=f"Expected one of {', '.join(_TRUE)}, or one of {', '.join(_FALSE)}; unset it to switch it off.",
        )
    return False


def limit(name: str) -> int | None:
    """Returns the limit ``name``, a number greater than 0; None if it is unset or empty.

    Raises :class:`SpecError` for all other words.
    """
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text)):
        raise SpecError(f"{name} is {text[:100]!r}, which is not a whole number greater than 0.")
    return int(text)

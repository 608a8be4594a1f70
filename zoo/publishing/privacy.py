"""What is published says nothing of the machine it was made on, and holds no secret.

Local paths become the names at their ends; addresses lose users, passwords and queries.
"""

import re
import shlex
from pathlib import Path
from typing import Any


def without_paths(value: Any, key: str = "") -> Any:
    """``value`` (JSON-able) with every local path in it cut to its last part, also within commands."""
    if isinstance(value, dict):
        return {name: without_paths(item, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(item, key) for item in value]
    if not isinstance(value, str):
        return value
    if key == "command":
        return command_without_paths(value)
    return _cleaned(value)


def command_without_paths(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError:
        return ""  # not a command line; nothing of it is needed
    return shlex.join(map(_word, words))


def _word(word: str) -> str:
    option, equals, value = word.partition("=")
    return f"{option}={_cleaned(value)}" if equals and re.fullmatch(r"[\w.-]+", option) else _cleaned(word)


def _cleaned(text: str) -> str:
    if "://" in text:
        text = re.sub(r"://[^/@\s]*@", "://", text)
        return re.split("[?#]", text)[0] if " " not in text else text
    return _last_part(text) if _is_path(text) else text


def _is_path(text: str) -> bool:
    """Absolute, from a home or a folder of this machine; addresses and names such as ``timm/net`` are none."""
    if "\n" in text or len(text) > 4096:
        return False
    if text.startswith(("/", "~", "./", "../", "\\\\")) or text[1:3] in (":\\", ":/"):
        return True
    return "/" in text and Path(text).exists()


def _last_part(text: str) -> str:
    return text.replace("\\", "/").rstrip("/").rpartition("/")[2]

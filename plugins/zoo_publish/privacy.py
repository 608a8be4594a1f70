"""Removes local paths and secrets from what is published.

Local paths become the names at their ends; addresses lose users, passwords and queries. What might be either a
path or a name of something public is kept only if it is known to be a name.
"""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo import registry

_WORD = re.compile(r"[^\s'\"`(),;<>\[\]{}|]+")
_PREFIXED = re.compile(r"(--?[\w-]+=|-[A-Za-z](?=[/~.\\])|[\w.-]+=|[A-Za-z][\w+-]+:(?!//))(.+)")
"""An option with its value, ``key=value`` or ``hf:NAME``."""

_OF_FILES = re.compile(
    r"\.(arrow|bin|ckpt|gz|h5|jpe?g|jsonl?|keras|npz|onnx|parquet|png|pth?|py|safetensors|tar|tgz|th|toml|txt|ya?ml|zip)"
)
_FRACTION = re.compile(r"[\d.]+/[\d.]+")


def without_paths(value: Any, key: str = "") -> Any:
    """Returns ``value`` (JSON-able) with all local paths shortened to their last component, also in sentences and
    commands.
    """
    if isinstance(value, dict):
        return {name: without_paths(item, name) for name, item in value.items()}
    if key == "class_names":  # "/m/01g317" is a class of Open Images
        return value
    if isinstance(value, list | tuple):
        return [without_paths(item, key) for item in value]
    if not isinstance(value, str):
        return value
    return _command(value) if key == "command" else _sentence(value)


def _command(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError:
        return ""  # not a command line; nothing of it is needed
    return shlex.join(_whole(word) or _word(word, _is_path_in_command) for word in words)


def _sentence(text: str) -> str:
    is_path = _is_path_in_sentence if re.search(r"\s", text) else _is_path
    return _whole(text) or _WORD.sub(lambda found: _word(found[0], is_path), text)


def _whole(text: str) -> str:
    """Returns the last component if the text is a path, perhaps with spaces; empty otherwise."""
    is_path = text.startswith(("/", "~/", "./", "../", "\\\\")) or re.match(r"[A-Za-z]:[\\/]", text)
    return _last_part(text) if is_path and "\n" not in text else ""  # a lone slash has no last part


def _word(word: str, is_path: Callable[[str], bool]) -> str:
    """Returns ``word`` without paths and secrets; ``is_path`` decides which relative ones are paths."""
    body = word.rstrip(".,:!")
    end = word[len(body) :]
    if re.match(r"file:/", body, re.IGNORECASE):
        return _last_part(body) + end
    if whole := _whole(body):
        return whole + end
    if "://" in body:
        scheme, _, rest = body.partition("://")
        return f"{scheme}://{re.split('[?#]', rest)[0].rpartition('@')[2]}{end}"
    if prefixed := _PREFIXED.fullmatch(body):
        return prefixed[1] + _word(prefixed[2], _is_path if prefixed[1] == "hf:" else is_path) + end
    is_relative = "/" in body.replace("\\", "/").strip("/") and not _FRACTION.fullmatch(body)
    return (_last_part(body) if is_relative and is_path(body) else body) + end


def _is_path_in_sentence(text: str) -> bool:
    """Returns whether it is a path; ``docs/training.md`` and ``images/s`` may be part of any sentence."""
    return text.startswith("~") or text.count("/") > 1


def _is_path(text: str) -> bool:
    """Returns whether it is a path; ``timm/resnet18`` and ``org/name`` are names."""
    is_file = _OF_FILES.fullmatch(Path(text).suffix.lower()) is not None
    return is_file or _is_path_in_sentence(text) or (len(text) < 4096 and Path(text).exists())


def _is_path_in_command(text: str) -> bool:
    """Returns whether it is a path; the documentation uses ``runs/NAME``, and ``plugin/NAME`` is a model."""
    return text.partition("/")[0] not in {"runs", *(row.name for row in registry.current().plugins)}


def _last_part(text: str) -> str:
    return text.replace("\\", "/").rstrip("/").rpartition("/")[2]

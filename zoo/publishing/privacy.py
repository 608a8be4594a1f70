"""What is published says nothing of the machine it was made on, and holds no secret.

Local paths become the names at their ends; addresses lose users, passwords and queries. What might be either a
path or a name of something public is kept only where it is known to be a name.
"""

import re
import shlex
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
    """``value`` (JSON-able) with every local path in it cut to its last part, within sentences and commands too."""
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
    return shlex.join(_whole(word) or _word(word, is_argument=True) for word in words)


def _sentence(text: str) -> str:
    return _whole(text) or _WORD.sub(lambda found: _word(found[0]), text)


def _whole(text: str) -> str:
    """The last part of what is a path from its beginning to its end, perhaps with spaces; empty for all else."""
    is_path = text.startswith(("/", "~/", "./", "../", "\\\\")) or re.match(r"[A-Za-z]:[\\/]", text)
    return _last_part(text) if is_path and "\n" not in text else ""  # a lone slash has no last part


def _word(word: str, *, is_argument: bool = False) -> str:
    """``word`` cleaned; the ``is_argument`` of a command is a path where nothing says that it is a name."""
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
        return prefixed[1] + _word(prefixed[2], is_argument=is_argument and prefixed[1] != "hf:") + end
    return (_last_part(body) if _is_path(body, is_argument) else body) + end


def _is_path(text: str, is_argument: bool) -> bool:
    """Whether a relative path: ``timm/resnet18``, ``org/name`` and ``8/255`` are none."""
    text = text.replace("\\", "/")
    if "/" not in text.strip("/") or _FRACTION.fullmatch(text) or len(text) > 4096:
        return False
    if text.startswith("~") or text.count("/") > 1 or _OF_FILES.fullmatch(Path(text).suffix.lower()):
        return True
    if is_argument:
        return text.partition("/")[0] not in {row.name for row in registry.load().plugins}
    return Path(text).exists()


def _last_part(text: str) -> str:
    return text.replace("\\", "/").rstrip("/").rpartition("/")[2]

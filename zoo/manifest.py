"""``weights_manifest/*.toml`` to ``Weights`` values, strictly typed.

A manifest says of each trained file where it lies, which bytes it is (sha256), how its input is
prepared, what it scores and on whose word, and what its first outputs are. One table an entry::

    [resnet152.tv_in1k]
    repo = "timm/resnet152.tv_in1k"
    file = "model.safetensors"
    ...
"""

import json
import re
import tomllib
from collections.abc import Mapping
from datetime import date, time
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from zoo.errors import ManifestError
from zoo.names import is_arch, is_part
from zoo.spec import Preprocess

Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
Text = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f]*$")]
Sha256 = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64})?$")]
Sha256Prefix = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{0,64}$")]
_DEEP_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){50}""")
"""A dotted key of so many parts is no entry's, and tomllib takes memory and time by their square."""

Commit = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{40})?$")]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of the tables of a manifest."""


class License(Entry, frozen=True):
    """SPDX identifiers, or words where there is none, of the code, the weights, the training data."""

    code: str = "unknown"
    weights: str = "unknown"
    data: str = "unknown"


class Score(Entry, frozen=True):
    """A result on one split of one data set; ``top1``, ``top5`` and ``mean_class``, over classes, in per cent.

    ``source`` says who claims it. Where this project measured it, ``command`` and ``fingerprint``
    say how and on which pixels, ``correct`` of ``n`` images were right.
    """

    n: Count
    source: str
    top1: Percent | None = None
    top5: Percent | None = None
    mean_class: Percent | None = None
    loss: float | None = None
    correct: Count | None = None
    command: str = ""
    fingerprint: str = ""


class Probe(Entry, frozen=True):
    """An input that anyone can generate again, and the first of its logits.

    The input is ``batch`` images of ``preprocess.input_size``: the bytes of SHAKE-256 over
    ``zoo-probe-<seed>`` as uint8 pixels, B C H W, over 255, normalised by mean and std.
    ``logits`` holds the first values of each image's output; ``tolerance`` the largest absolute
    difference by dtype.
    """

    logits: tuple[tuple[float, ...], ...]
    tolerance: Mapping[str, float]
    generator: Literal["shake_256"] = "shake_256"
    seed: int = 0

    @property
    def batch(self) -> int:
        return len(self.logits)

    def __post_init__(self) -> None:
        if not all(map(isfinite, (*self.tolerance.values(), *(value for row in self.logits for value in row)))):
            raise ValueError("logits and tolerance must be finite")


class Weights(Entry, frozen=True):
    """One trained file of one architecture: ``arch`` and ``tag`` make its name.

    ``hub`` is where ``repo/file`` lies when no mirror has it: ``hf`` (the Hugging Face Hub),
    ``embedded:<package>`` (inside an installed package), a directory or any fsspec address.
    ``num_classes`` is None where nobody says, 0 where the file has no head and the network gives features.
    ``pinned = false`` marks an entry whose bytes are not known by their sha256.
    """

    file: Text
    arch: str = ""
    tag: str = ""
    repo: Text = ""
    hub: Text = "hf"
    revision: Commit = ""
    sha256: Sha256 = ""
    sha256_prefix: Sha256Prefix = ""
    size: Count = 0
    pinned: bool = True
    origin: str = ""
    license: License = License()
    classes: str = ""
    num_classes: Count | None = None
    preprocess: Preprocess | None = None
    args: Mapping[str, Any] = {}
    scores: Mapping[str, Score] = {}
    probe: Probe | None = None

    @property
    def name(self) -> str:
        return f"{self.arch}.{self.tag}"

    @property
    def path(self) -> str:
        """Where the file lies within a hub."""
        return f"{self.repo}/{self.file}" if self.repo else self.file

    def __post_init__(self) -> None:
        if self.pinned and not self.sha256:
            raise ValueError("pinned without sha256: say pinned = false where it is not known")
        if not self.pinned and self.sha256:
            raise ValueError("sha256 is known, so pinned = false says nothing: leave it out")
        if {"", ".", ".."} & set(self.path.split("/")) or "\\" in self.path:
            raise ValueError(f"{self.path!r} must stay inside the hub: no empty, . or .. parts")
        if not self.hub:
            raise ValueError("hub must not be empty: leave it out for the Hugging Face Hub")
        if self.args:
            json.dumps(msgspec.to_builtins(self.args, builtin_types=(date, time)), allow_nan=False)


def read(file: Path) -> tuple[Weights, ...]:
    """The entries of the manifest ``file``, in its order; raises :class:`ManifestError`."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{file}: cannot be read: {error}") from None
    return parse(text, str(file))


def parse(text: str, file: str = "<manifest>") -> tuple[Weights, ...]:
    """As :func:`read`, for a manifest's text; ``file`` is the name that errors use."""
    if deep := _DEEP_KEY.search(text):
        raise ManifestError(f"{file}:{text.count(chr(10), 0, deep.start()) + 1}: a key of more than 50 parts")
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits are a ValueError too
        raise ManifestError(f"{file}: not TOML: {error}") from None
    entries = []
    for arch, tags in tables.items():
        for tag, table in tags.items() if isinstance(tags, dict) else [("", tags)]:
            if not (is_arch(arch) and is_part(tag) and isinstance(table, dict)):
                where = f"{file}:{_line_of(text, arch, tag, [])}"
                raise ManifestError(f"{where}: expected a table [arch.tag] of lower case letters, digits and _")
            try:
                entries.append(msgspec.convert({**table, "arch": arch, "tag": tag}, Weights))
            except msgspec.ValidationError as error:
                message, keys = _offence(str(error), table)
                where = f"{file}:{_line_of(text, arch, tag, keys)}"
                raise ManifestError(f"{where}: [{arch}.{tag}] {'.'.join(keys)}: {message}") from None
    return tuple(entries)


def render(entry: Weights) -> str:
    """The TOML table of ``entry``: what :func:`parse` reads back as the same value."""
    table: dict[str, Any] = msgspec.to_builtins(entry)
    scores, probe = table.pop("scores", {}), table.pop("probe", None)
    arch, tag = table.pop("arch"), table.pop("tag")
    name = f"{_key(arch)}.{tag}"
    parts = [(name, table)]
    parts += [(f"{name}.scores.{json.dumps(key)}", score) for key, score in scores.items()]
    parts += [(f"{name}.probe", probe)] if probe else []
    return "\n".join(f"[{name}]\n{_lines(values)}" for name, values in parts)


def _lines(table: Mapping[str, Any]) -> str:
    return "".join(f"{_key(key)} = {_toml(value)}\n" for key, value in table.items())


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)  # strings, numbers and booleans read the same in TOML


def _key(text: str) -> str:
    return text if re.fullmatch(r"[\w-]+", text, re.ASCII) else json.dumps(text)


def _offence(error: str, table: dict[str, Any]) -> tuple[str, list[str]]:
    """msgspec's ``message - at `$.a.b` `` to (message, [a, b]); an unknown field is its own path."""
    message, _, path = error.partition(" - at `")
    keys = re.findall(r"\w+|\.\.\.", path)
    if keys[:2] == ["scores", "..."]:  # msgspec hides the keys of mappings
        keys[1] = next(key for key, value in table["scores"].items() if not _is_valid(value, Score))
    unknown = re.search(r"unknown field `(\w+)`", message)
    return message, [*keys, unknown[1]] if unknown else keys


def _is_valid(value: object, kind: type) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _line_of(text: str, arch: str, tag: str, keys: list[str]) -> int:
    """The line that holds the key, or the nearest table or key above it that the text shows."""
    found, depth, header = 1, -1, ""
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
            found, depth = number, len(names)
    return found

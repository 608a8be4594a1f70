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
from collections.abc import Iterable, Mapping
from datetime import date, time
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from zoo import toml
from zoo.errors import ManifestError
from zoo.names import is_arch, is_part
from zoo.spec import Preprocess

Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
# Alone, $ would let a line feed pass, and \Z is not known to JSON Schema.
Text = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f]*$(?!\n)")]
Address = Annotated[str, msgspec.Meta(pattern=r"^https?://[^\x00-\x20\x7f]+$(?!\n)")]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?$(?!\n)")]
Sha256Prefix = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{0,64}$(?!\n)")]
Commit = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{40})?$(?!\n)")]


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


class Tolerance(Entry, frozen=True):
    """How far outputs may lie from the stated ones: ``atol`` plus ``rtol`` times the largest of their row.

    ``share`` of the elements may lie further off. Sums err in proportion to their terms and not to what
    is left of them, so a small output among large ones is granted as much as these.
    """

    rtol: Amount = 0.0
    atol: Amount = 0.0
    share: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0

    def __post_init__(self) -> None:
        if not (isfinite(self.rtol) and isfinite(self.atol)):
            raise ValueError("rtol and atol must be finite")


class ProbedImage(Entry, frozen=True):
    """The first logits, and the norm of the features, that the picture which ships with Zoo gives."""

    logits: tuple[float, ...]
    norm: float | None = None
    name: Literal["chelsea"] = "chelsea"

    def __post_init__(self) -> None:
        _require_finite(self.logits, self.norm)


class Probe(Entry, frozen=True):
    """Inputs that anyone can make again, and what the network gives them.

    The first are ``batch`` images of ``preprocess.input_size``: the bytes of SHAKE-256 over
    ``zoo-probe-<seed>`` as uint8 pixels, B C H W, over 255, normalised by mean and std. The other is
    ``image``, a photograph, prepared as ``preprocess`` says. ``logits`` holds the first values of each
    image's output, ``norms`` the Euclidean norm of its features (``forward_features``).
    ``tolerance`` overrides, by dtype or ``device/dtype``, what ``zoo.probe`` allows; a number is an ``atol``.
    """

    logits: tuple[tuple[float, ...], ...]
    norms: tuple[float, ...] = ()
    image: ProbedImage | None = None
    tolerance: Mapping[str, Amount | Tolerance] = {}
    generator: Literal["shake_256"] = "shake_256"
    seed: int = 0

    @property
    def batch(self) -> int:
        return len(self.logits)

    def __post_init__(self) -> None:
        numbers = [value for value in self.tolerance.values() if isinstance(value, float | int)]
        _require_finite([*self.norms, *numbers, *(value for row in self.logits for value in row)])
        if len(self.norms) not in (0, self.batch):
            raise ValueError(f"{len(self.norms)} norms for {self.batch} images")


class Weights(Entry, frozen=True):
    """One trained file of one architecture: ``arch`` and ``tag`` make its name.

    ``hub`` is where ``repo/file`` lies when no mirror has it: ``hf`` (the Hugging Face Hub),
    ``embedded:<package>`` (inside an installed package), a directory or any fsspec address.
    ``num_classes`` is None where nobody says, 0 where the file has no head and the network gives features.
    ``pinned = false`` marks an entry whose bytes are not known by their sha256. ``papers`` are about
    how these weights were trained, beside the model's own.
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
    papers: tuple[Address, ...] = ()
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
    try:
        tables = toml.loads(text)
    except ValueError as error:
        raise ManifestError(f"{file}: not TOML: {error}") from None
    entries = []
    for arch, tags in tables.items():
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
    return tuple(entries)


def render(entry: Weights) -> str:
    """The TOML table of ``entry``: what :func:`parse` reads back as the same value."""
    table: dict[str, Any] = msgspec.to_builtins(entry)
    scores = table.pop("scores", {})
    for key in ("arch", "tag", "probe"):
        table.pop(key, None)
    name = table_name(entry)
    parts = [(name, table)]
    parts += [(f"{name}.scores.{json.dumps(key)}", score) for key, score in scores.items()]
    texts = [f"[{name}]\n{_lines(values)}" for name, values in parts]
    return "\n".join([*texts, render_probe(entry, entry.probe)] if entry.probe else texts)


def render_probe(entry: Weights, probe: Probe) -> str:
    """The TOML table of ``probe`` as that of ``entry``: an image's logits a line, so that they can be read."""
    table: dict[str, Any] = msgspec.to_builtins(probe)
    logits = "".join(f"    {_toml(row)},\n" for row in table.pop("logits"))
    return f"[{table_name(entry)}.probe]\nlogits = [\n{logits}]\n{_lines(table)}"


def table_name(entry: Weights) -> str:
    return f"{_key(entry.arch)}.{entry.tag}"


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
    unknown = re.search(r"unknown field `([^`]+)`", message)
    return message, [*keys, unknown[1]] if unknown else keys


def _refuse_unknown(table: dict[str, Any]) -> None:
    """Of what the types let pass: the name is the table's own, and ``Preprocess`` takes what it does not know."""
    preprocess = table.get("preprocess")
    known = set(Preprocess.__struct_fields__)
    strange = sorted(preprocess.keys() - known) if isinstance(preprocess, dict) else []
    for key, path in [(key, "$") for key in ("arch", "tag") if key in table] + [
        (key, "$.preprocess") for key in strange
    ]:
        raise msgspec.ValidationError(f"Object contains unknown field `{key}` - at `{path}`")


def _require_finite(values: Iterable[float], norm: float | None = None) -> None:
    if not all(map(isfinite, [*values, norm or 0.0])):
        raise ValueError("logits, norms and tolerance must be finite")


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

"""Sources of a release: a run directory, or a weights file with metadata; without local paths and secrets."""

import json
import re
import shlex
from collections.abc import Callable
from math import inf, isfinite
from pathlib import Path
from typing import Any

import msgspec

from zoo import registry
from zoo.errors import TrainingError, WeightsError
from zoo.loading import safetensors_file
from zoo.manifest import History, Score
from zoo.spec import Model
from zoo.system import machine

ZOO = registry.DISTRIBUTION
WEIGHTS = "model.safetensors"
HELD_OUT = "held out from training, measured by zoo train after its last epoch, in bfloat16 if it trained in bfloat16"


class Images(msgspec.Struct, frozen=True):
    name: str
    split: str
    n: int
    fingerprint: str


class Run(msgspec.Struct, frozen=True):
    """The published part of a run record; ``whole`` is the complete record."""

    data: dict[str, Images] = {}
    init: dict[str, str] = {}
    recipe: dict[str, Any] = {}
    versions: dict[str, str] = {}
    command: str = ""
    code: str | None = None
    plugin_code: str = ""
    distribution: str = ""
    distribution_version: str = ""
    earlier: list[dict[str, Any]] = []
    whole: dict[str, Any] = {}

    @property
    def sources(self) -> dict[str, str]:
        """The code that trained, by distribution: the commit of a checkout, else the version of a release."""
        sources = {ZOO: self.code or (self.versions.get("zoo", "") if self.code == "" else "")}
        if self.distribution not in ("", ZOO):
            sources[self.distribution] = self.plugin_code or self.distribution_version
        return sources

    @property
    def gaps(self) -> list[str]:
        """The facts that the record lacks for anybody to train the same again."""
        gaps = [] if self.command else ["the command is not recorded"]
        for name, code in self.sources.items():
            if not code:
                gaps.append(f"the commit of {name} is not recorded")
            elif code == machine.UNCOMMITTED:
                gaps.append(f"{name} was installed from a folder without a commit")
        if "plugin_code" in self.whole and not self.distribution:
            gaps.append("the model is part of no installed distribution")
        codes = [
            *self.sources.values(),
            *(str(place.get(key)) for place in self.earlier for key in ("code", "plugin_code")),
        ]
        if any(code.endswith("-dirty") for code in codes):
            gaps.append("the code had changes that were not committed")
        return gaps


class _Row(msgspec.Struct, frozen=True):
    """A row of a run's log, with the score on held-out images, if any."""

    epoch: int = 0
    loss: float | None = None
    train_top1: float | None = None
    val_top1: float | None = None
    val_loss: float | None = None


_MOST = 50
"""Epochs in a history; of a longer training, so many at equal distances."""


class Source(msgspec.Struct, frozen=True):
    """``about`` is the file's own metadata, without local paths; ``log`` that of a run's directory."""

    file: Path
    about: dict[str, Any]
    run: Run | None
    log: bytes | None

    @property
    def classes(self) -> str:
        return str(self.about.get("classes", ""))


def read(path: Path, model: Model) -> Source:
    """Returns the source at ``path``. Raises :class:`TrainingError`, :class:`WeightsError`,
    :class:`FileFormatError`.
    """
    file, log = path, None
    if path.is_dir():
        file, logged = path / WEIGHTS, path / "log.jsonl"
        if not file.exists():
            raise TrainingError(
                f"{path} is not a finished run: {WEIGHTS} is missing.",
                hint=f"zoo train ... --resume -o {path} finishes it.",
            )
        log = logged.read_bytes() if logged.exists() else None
    elif not path.exists():
        raise WeightsError(f"{path}: no such file or run.")
    about = safetensors_file.metadata(file)
    if not isinstance(about.get("model"), str):
        raise WeightsError(
            f"{file} has no metadata about its network: it was not written by zoo train or zoo convert.",
            hint=f"zoo convert {file} {model.name} -o OUT.safetensors adds the metadata.",
        )
    about = without_paths(about)
    return Source(file, about, _run(file, about), log)


def default_name(path: Path) -> str:
    """Returns ``ARCH.FOLDER`` for the weights of a run, or of several, in the folder ``path``; nothing for others."""
    for file in (path / WEIGHTS, *sorted(path.glob(f"seed*/{WEIGHTS}"))):
        if file.is_file():
            tag = re.sub(r"[^a-z0-9]+", "_", path.resolve().name.lower()).strip("_")
            arch = safetensors_file.metadata(file).get("model")
            return f"{arch}.{tag}" if isinstance(arch, str) and tag else ""
    return ""


def of_seeds(path: Path, model: Model) -> dict[int, Source]:
    """Returns the trainings that ``zoo train --seeds`` made in the folder ``path``, by seed; {} if it is another one.

    Raises :class:`TrainingError` if one is not finished, or differs from the first in more than its seed.
    """
    folders = [folder for folder in path.glob("seed*") if re.fullmatch(r"seed\d+", folder.name)]
    if (path / WEIGHTS).exists() or not folders:
        return {}
    sources: dict[int, Source] = {}
    for folder in sorted(folders, key=lambda folder: int(folder.name.removeprefix("seed"))):
        source = read(folder, model)
        first = next(iter(sources.values()), source)
        facts, expected = _facts(source), _facts(first)
        seed = facts.pop("seed")
        if expected.pop("seed") == seed and sources:
            raise TrainingError(f"{folder} has the seed of another training, {seed}. Nothing was published.")
        if other := sorted(key for key in facts.keys() | expected if facts.get(key) != expected.get(key)):
            raise TrainingError(
                f"{folder} and {first.file.parent} differ in more than their seed: {', '.join(other)}. Nothing was "
                "published.",
                hint=f"Publish one of them: zoo publish {folder} ...",
            )
        sources[seed] = source
    if len(sources) == 1:
        raise TrainingError(
            f"{path} has one training. Nothing was published.", hint=f"Publish it: zoo publish {folders[0]} ..."
        )
    return sources


def _facts(source: Source) -> dict[str, Any]:
    """Returns what the trainings of a group have in common, and the seed. Which images are held out depends on it."""
    run = source.run or Run()
    return {
        **{key: source.about.get(key) for key in ("model", "args", "classes")},
        **{f"recipe.{key}": value for key, value in run.recipe.items() if key != "seed"},
        **{f"{role} images": (images.name, images.n) for role, images in run.data.items()},
        "code": run.sources,
        "init": run.init,
        "seed": run.recipe.get("seed"),
    }


def held_out(source: Source) -> dict[str, Score]:
    """Returns the score of the network that was saved on the run's held-out images; {} if there are none.

    With ``keep = "best"`` that is the network of the best epoch, by top-1 and then by loss, not that of the last.
    """
    images = source.run.data.get("validation") if source.run else None
    if source.run is None or images is None or not source.log:
        return {}
    rows = [row for row in _rows(source) if row.val_top1 is not None]
    if not rows:
        return {}
    row = max(rows, key=_rank) if source.run.recipe.get("keep") == "best" else rows[-1]
    assert row.val_top1 is not None
    score = Score(
        n=images.n,
        source=HELD_OUT,
        top1=round(row.val_top1, 4),
        loss=None if row.val_loss is None else float(f"{row.val_loss:.6g}"),
        correct=round(row.val_top1 * images.n / 100),
        command=source.run.command,
        fingerprint=images.fingerprint,
    )
    return {f"{images.name}/validation": score}


def _rank(row: _Row) -> tuple[float, float]:
    return row.val_top1 or 0.0, -(inf if row.val_loss is None else row.val_loss)


def history(source: Source) -> History | None:
    """Returns how the run went; None for a network that was not trained in epochs."""
    rows = [row for row in _rows(source) if row.loss is not None and isfinite(row.loss)]
    if len(rows) < 2:
        return None
    count = min(len(rows), _MOST)
    chosen = [rows[round((len(rows) - 1) * place / (count - 1))] for place in range(count)]
    parts = {
        name: tuple(round(value, 2) for row in chosen if (value := getattr(row, name)) is not None)
        for name in ("train_top1", "val_top1")
    }
    whole = {name: values for name, values in parts.items() if len(values) == count}
    return History(
        epoch=tuple(row.epoch for row in chosen),
        loss=tuple(float(f"{row.loss:.4g}") for row in chosen),
        **whole,
    )


def _rows(source: Source) -> list[_Row]:
    try:
        return msgspec.json.Decoder(_Row).decode_lines(source.log or b"")
    except msgspec.DecodeError as error:
        raise TrainingError(f"{source.file.parent / 'log.jsonl'} is not a training log: {error}.") from None


def _run(file: Path, about: dict[str, Any]) -> Run | None:
    if "run" not in about:
        return None
    try:
        return msgspec.structs.replace(msgspec.convert(about["run"], Run), whole=json.loads(json.dumps(about["run"])))
    except msgspec.ValidationError as error:
        raise WeightsError(f"{file}: its run record is invalid: {error}.") from None


_WORD = re.compile(r"[^\s'\"`(),;<>\[\]{}|]+")
_PREFIXED = re.compile(r"(--?[\w-]+=|-[A-Za-z](?=[/~.\\])|[\w.-]+=|[A-Za-z][\w+-]+:(?!//))(.+)")
"""An option with its value, ``key=value`` or ``hf:NAME``."""

_OF_FILES = re.compile(
    r"\.(arrow|bin|ckpt|gz|h5|jpe?g|jsonl?|keras|npz|onnx|parquet|png|pth?|py|safetensors|tar|tgz|th|toml|txt|ya?ml|zip)"
)
_FRACTION = re.compile(r"[\d.]+/[\d.]+")


HIDDEN = "***"

_SECRET = re.compile(
    r"(?<![A-Za-z0-9])(hf_[A-Za-z0-9]{16,}|gh[opsur]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|sk-[\w-]{16,}"
    r"|xox[abprs]-[\w-]{10,}|A(KIA|SIA)[A-Z0-9]{16}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.eyJ[\w-]+\.[\w-]*"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*)",
    re.DOTALL,
)
"""Tokens and keys by their shape: of Hugging Face, GitHub, GitLab, OpenAI and others, Slack, AWS, Google; JWT, PEM."""

_NAMED = r"[\w.-]*(token|secret|passw(or)?d|passphrase|api[_-]?key|access[_-]?key|private[_-]?key|credentials?)[\w.-]*"
_ASSIGNED = re.compile(
    rf"(?P<name>{_NAMED})(?P<between>\s*[=:]\s*|\s+(?=\S))(?P<value>\"[^\"]*\"|'[^']*'|[^\s,;&]+)", re.I
)
"""A secret by the name of its variable (``AWS_SECRET_ACCESS_KEY=...``), field or option (``--token ...``)."""


def without_secrets(text: str) -> str:
    """Returns ``text`` with stars in place of what is a secret by its shape, or by the name before it."""

    def hide(match: re.Match[str]) -> str:
        is_prose = match["between"].isspace() and not match["name"].startswith("-")
        return match[0] if is_prose else f"{match['name']}{match['between']}{HIDDEN}"

    return _ASSIGNED.sub(hide, _SECRET.sub(HIDDEN, text))


def without_paths(value: Any, key: str = "") -> Any:
    """Returns ``value`` (JSON-able) without secrets and with all local paths shortened to their last component, also in
    sentences, commands and keys.
    """
    if isinstance(value, dict):
        return {_key(name): without_paths(item, name) for name, item in value.items()}
    if isinstance(value, str) and re.fullmatch(_NAMED, key, re.I) and value:
        return HIDDEN
    if isinstance(value, str):
        value = without_secrets(value)
    if key == "class_names":
        names = value if isinstance(value, list | tuple) else [value]
        return [_class_name(name) for name in names]
    if isinstance(value, list | tuple):
        return [without_paths(item, key) for item in value]
    if not isinstance(value, str):
        return value
    return _command(value) if key == "command" else _sentence(value)


def _key(name: Any) -> Any:
    return (_whole(name) or without_secrets(name)) if isinstance(name, str) else name


def _class_name(name: Any) -> Any:
    """Returns the name of a class: "/m/01g317" is one of Open Images, a file or folder of this machine is none."""
    if not isinstance(name, str):
        return name
    is_here = name.startswith(("/", "~/")) and len(name) < 4096 and Path(name).expanduser().parent.exists()
    is_here = is_here and Path(name).expanduser().parent != Path("/")
    return _last_part(name) if is_here or name.startswith(("~/", "../")) else without_secrets(name)


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

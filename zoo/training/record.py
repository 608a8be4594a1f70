"""The run record: enough to train the same network again, and to find differences."""

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from zoo import registry
from zoo.data.image_set import ImageSet
from zoo.data.image_stream import ImageStream
from zoo.errors import TrainingError
from zoo.evaluation import fingerprint_of_labels, versions
from zoo.spec import Preprocess, Requirement
from zoo.system import distributed
from zoo.training.inputs import TrainingData
from zoo.training.recipe import Recipe
from zoo.training.run import Run

LATER = ("distill",)
"""Fields of recipes that are recorded only if they are set, so that the records of other runs stay as they were."""


class Images(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of a data set, with the fingerprint of its images."""

    name: str
    split: str
    n: int
    fingerprint: str
    files: str = ""
    """Of images that are decoded on demand, whose fingerprint is that of their labels: of some files' bytes."""
    stream: dict[str, int] = {}
    """Of a set that is read shard by shard, what its order depends on."""

    def __str__(self) -> str:
        order = "".join(f", {value:,} {name}" for name, value in self.stream.items())
        return f"{self.n:,} images {self.fingerprint}{order}"


class Record(msgspec.Struct, frozen=True):
    """The fields of a run's config.json that are needed to train again; optional ones have a default."""

    model: str
    recipe: Recipe
    data: dict[str, Images]
    args: dict[str, Any] = {}
    init: dict[str, str] = {}
    teacher: dict[str, str] = {}
    versions: dict[str, str] = {}
    device: str = ""
    threads: int = 0
    processes: int = 1
    cpu: dict[str, str] = {}
    gpu: str = ""
    source: dict[str, str] = {}
    """The paths of data, initial weights and teacher; only in a run directory, since they are paths of this machine."""
    code: str = ""
    earlier: list[dict[str, Any]] = []
    """How parts of the run were computed before it was resumed, if not as the rest: what was different there."""


class Difference(msgspec.Struct, frozen=True):
    """One difference between two runs; "" for an unknown value."""

    what: str
    then: str
    now: str


def describe(
    model: nn.Module, data: TrainingData, recipe: Recipe, preprocess: Preprocess, run: Run, device: torch.device
) -> dict[str, Any]:
    """The run's config.json: everything needed to train again, and the environment."""
    info = getattr(model, "zoo_info", None)
    requires = info.model.requires if info is not None else ()
    of = registry.current().distribution_of(info.model) if info is not None else {}
    if recipe.augment.uses_torchvision:
        requires = (*requires, Requirement("torchvision", "zoo-vision[data]"))
    environment = place(device, requires)
    if of and of["distribution"] != registry.DISTRIBUTION:
        environment["versions"][of["distribution"]] = of["distribution_version"]
    return {
        "model": info.model.name if info is not None else type(model).__name__,
        **of,
        "args": msgspec.to_builtins(getattr(info, "args", {})),
        **({"init": dict(run.init)} if run.init else {}),
        **({"teacher": run.teacher.record} if run.teacher else {}),
        "recipe": {
            name: value for name, value in msgspec.to_builtins(recipe).items() if value is not None or name not in LATER
        },
        "data": msgspec.to_builtins(images_of(data)),
        "preprocess": msgspec.to_builtins(preprocess),
        **environment,
        "command": run.command,
    }


def in_words(described: Mapping[str, Any], data: TrainingData, recipe: Recipe, steps: int) -> str:
    """Model, images and epochs as one line; ``steps`` are those of an epoch."""
    images = f"{len(data.train):,} images of {data.train.name}"
    images += f", {len(data.validation):,} held out" if data.validation is not None else ""
    rule = f" ({recipe.optimizer}, lr {recipe.lr:g}, {recipe.schedule})"
    length = f"{recipe.epochs} epochs of {steps:,} steps on {described['device']}"
    return f"{described['model']}, {images}, recipe {recipe.name or 'of its own'}{rule}: {length}"


def read(document: Mapping[str, Any], where: object) -> Record:
    """The record in ``document``; ``where`` is its location for errors.

    Raises :class:`TrainingError` if it lacks the model, the recipe or the fingerprint of the training images, or has
    unknown values.
    """
    try:
        record = msgspec.convert(document, Record)
    except msgspec.ValidationError as error:
        raise _unusable(where, str(error)) from None
    if "train" not in record.data:
        raise _unusable(where, "data: missing, so the training images are unknown")
    return record


def of_run(run: Run) -> Record:
    """The record in a run directory; raises :class:`TrainingError`."""
    run.check()
    try:
        return read(json.loads(run.config.read_text(encoding="utf-8")), run.config)
    except (OSError, ValueError) as error:
        raise TrainingError(f"{run.config} cannot be read: {error}") from None


def images_of(data: TrainingData) -> dict[str, Images]:
    """The training images and the held-out images, by role."""
    sets = {"train": data.train, "validation": data.validation}
    return {
        role: Images(
            images.name, images.split, len(images), _fingerprint(images), _files(images), stream=_stream(images)
        )
        for role, images in sets.items()
        if images is not None
    }


def place(device: torch.device, requires: Sequence[Requirement] = ()) -> dict[str, Any]:
    """The environment: the parts named in ``zoo.training.run.PLACE``.

    ``requires`` are additional libraries of the family.
    """
    used = [library for requirement in requires for library in _distributions(requirement.module)]
    found = [_version_of(name) for name in ("timm", *used)]
    return {
        "versions": versions() | {name: version for part in found for name, version in part.items()},
        "code": commit(),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "processes": distributed.current().count,
        "cpu": {"name": cpu_name(), "instructions": torch.backends.cpu.get_cpu_capability()},
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else "",
    }


def differences(then: Record, now: Record) -> list[Difference]:
    """The differences between the environments of two runs; empty if a record lacks them."""
    pairs: list[tuple[str, Any, Any]] = []
    for name in dict.fromkeys([*then.versions, *now.versions]):
        pairs.append((name, then.versions.get(name, ""), now.versions.get(name, "")))
    pairs += [
        (name, getattr(then, name) or "", getattr(now, name) or "") for name in ("device", "threads", "processes")
    ]
    pairs += [(f"CPU's {name}", then.cpu.get(name, ""), now.cpu.get(name, "")) for name in ("name", "instructions")]
    if then.code and now.code:
        pairs.append(("commit", then.code, now.code))
    pairs.append(("GPU", then.gpu or "none", now.gpu or "none"))
    found = [Difference(name, str(before), str(after)) for name, before, after in pairs if before != after]
    return [*other_images(then.data, now.data), *found]


def other_images(then: Mapping[str, Images], now: Mapping[str, Images]) -> list[Difference]:
    """The differences between the images or their order, by role."""
    pairs = [(role, then.get(role), now.get(role)) for role in sorted({*then, *now})]
    return [
        Difference(f"{role} images", _named(before), _named(after))
        for role, before, after in pairs
        if str(before) != str(after) or (before and after and before.files and before.files != after.files)
    ]


def _named(images: Images | None) -> str:
    if images is None:
        return "none"
    return f"{images}, some file hashes {images.files}" if images.files else str(images)


def cpu_name(file: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name with family and model, which distinguish processors sold under one name."""
    try:
        lines = file.read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    numbers = [f"{key.removeprefix('cpu ')} {facts[key]}" for key in ("cpu family", "model") if key in facts]
    name = facts.get("model name") or platform.machine()
    return f"{name} ({', '.join(numbers)})" if numbers else name


@lru_cache
def commit(folder: Path = Path(__file__).parents[1]) -> str:
    """The commit of the checkout that contains Zoo, with ``-dirty`` if it was changed; "" for an installed Zoo."""
    is_tracked = ("ls-files", "--error-unmatch", "__init__.py")  # and no environment within another project
    describe = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    try:
        for words in (is_tracked, describe):
            command = ["git", "-C", str(folder), *words]
            asked = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return asked.stdout.strip()


@lru_cache  # it reads the files of all that is installed: a second
def _distributions(module: str) -> list[str]:
    """The distributions that contain the top-level ``module``: scikit-learn for sklearn."""
    return sorted(set(packages_distributions().get(module.partition(".")[0], [])))


def _version_of(distribution: str) -> dict[str, str]:
    try:
        return {distribution: version(distribution)}
    except PackageNotFoundError:
        return {}


def _stream(images: ImageSet | ImageStream) -> dict[str, int]:
    if isinstance(images, ImageSet):
        return {}
    return {"shards": len(images.shards), "buffer": images.buffer, "readers": images.readers}


def _files(images: ImageSet | ImageStream) -> str:
    """sha256 over the encoded bytes of 64 images at equal distances; "" for resident images and streams."""
    if images.pixels is not None or isinstance(images, ImageStream):
        return ""
    count = min(64, len(images))
    hasher = sha256()
    for number in range(count):
        content = images.encoded(number * len(images) // count)
        if content is None:
            return ""
        hasher.update(sha256(content).digest())
    return f"sha256:{hasher.hexdigest()}"


def _fingerprint(images: ImageSet | ImageStream) -> str:
    """The fingerprint of the images.

    It covers all pixels of resident images, the shards' names and sizes of a stream, and only the labels of images that
    would have to be decoded.
    """
    if images.pixels is not None or isinstance(images, ImageStream):
        return images.fingerprint
    return fingerprint_of_labels(images)


def _unusable(where: object, why: str) -> TrainingError:
    return TrainingError(
        f"{where} cannot be reproduced from its run record: {why}.",
        hint="A run record needs model, recipe, and name, split, n and fingerprint of data.train.",
    )

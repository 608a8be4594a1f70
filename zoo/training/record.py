"""The run record: enough to train the same network again, and to find differences."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec
import torch
from torch import nn

from zoo import registry
from zoo.data.image_set import ImageSet
from zoo.data.stream import ImageStream
from zoo.errors import TrainingError
from zoo.evaluation import fingerprint_of_labels
from zoo.spec import Preprocess, Requirement
from zoo.system import distributed, machine, storage
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
    """Fingerprint of some files' bytes, for images that are decoded on demand: theirs is that of the labels."""
    stream: dict[str, int] = {}
    """Numbers on which the order of a set depends that is read shard by shard."""

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
    """The commit of Zoo; "" for an installed Zoo, whose version is its identity."""
    earlier: list[dict[str, Any]] = []
    """Differences in how parts of the run were computed before it was resumed."""


class Difference(msgspec.Struct, frozen=True):
    """One difference between two runs; "" for an unknown value."""

    what: str
    then: str
    now: str


def describe(
    model: nn.Module, data: TrainingData, recipe: Recipe, preprocess: Preprocess, run: Run, device: torch.device
) -> dict[str, Any]:
    """Describes a run for its config.json: everything needed to train again, and the environment."""
    info = getattr(model, "zoo_info", None)
    requires = info.model.requires if info is not None else ()
    of = registry.current().distribution_of(info.model) if info is not None else {}
    if recipe.augment.uses_torchvision:
        requires = (*requires, Requirement("torchvision", "zoo-vision[data]"))
    environment = place(device, requires)
    if of and of["distribution"] != registry.DISTRIBUTION:
        environment["versions"][of["distribution"]] = of["distribution_version"]
        environment["plugin_code"] = machine.code_of(of["distribution"], _module_of(of["distribution"]))
    return {
        "model": info.model.name if info is not None else type(model).__name__,
        **of,
        "args": msgspec.to_builtins(getattr(info, "args", {})),
        **({"init": dict(run.init)} if run.init else {}),
        **({"teacher": run.teacher.record} if run.teacher else {}),
        "recipe": {
            name: value for name, value in msgspec.to_builtins(recipe).items() if value is not None or name not in LATER
        },
        "data": msgspec.to_builtins(describe_images(data)),
        "preprocess": msgspec.to_builtins(preprocess),
        **environment,
        "command": run.command,
    }


def _module_of(distribution: str) -> str:
    return next(row.module for row in registry.current().plugins if row.distribution == distribution)


def in_words(described: Mapping[str, Any], data: TrainingData, recipe: Recipe, steps: int) -> str:
    """Describes model, images and epochs in one line; ``steps`` are those of an epoch."""
    images = f"{len(data.train):,} images of {data.train.name}"
    images += f", {len(data.validation):,} held out" if data.validation is not None else ""
    rule = f" ({recipe.optimizer}, lr {recipe.lr:g}, {recipe.schedule})"
    length = f"{recipe.epochs} epochs of {steps:,} steps on {described['device']}"
    return f"{described['model']}, {images}, recipe {recipe.name or 'of its own'}{rule}: {length}"


def read(document: Mapping[str, Any], where: object) -> Record:
    """Reads the record in ``document``; ``where`` is its location for errors.

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
    """Reads the record in a run directory; raises :class:`TrainingError`."""
    run.check()
    try:
        return read(storage.read_json(run.config), run.config)
    except (OSError, ValueError) as error:
        raise TrainingError(f"{run.config} cannot be read: {error}") from None


def describe_images(data: TrainingData) -> dict[str, Images]:
    """Describes the training images and the held-out images, by role.

    The fingerprint covers all pixels of resident images, the shards' names and sizes of a stream, and only the labels
    of images that would have to be decoded.
    """
    sets = {"train": data.train, "validation": data.validation}
    return {role: _describe(images) for role, images in sets.items() if images is not None}


def _describe(images: ImageSet | ImageStream) -> Images:
    if isinstance(images, ImageStream):
        order = {"shards": len(images.shards), "buffer": images.buffer, "readers": images.readers}
        return Images(images.name, images.split, len(images), images.fingerprint, stream=order)
    if images.pixels is not None:
        return Images(images.name, images.split, len(images), images.fingerprint)
    return Images(images.name, images.split, len(images), fingerprint_of_labels(images), _hash_files(images))


def _hash_files(images: ImageSet) -> str:
    """Hashes the encoded bytes of 64 images at equal distances; "" if they are not in files."""
    count = min(64, len(images))
    hasher = sha256()
    for number in range(count):
        content = images.encoded(number * len(images) // count)
        if content is None:
            return ""
        hasher.update(sha256(content).digest())
    return f"sha256:{hasher.hexdigest()}"


def place(device: torch.device, requires: Sequence[Requirement] = ()) -> dict[str, Any]:
    """Describes the environment: the parts named in ``zoo.training.run.PLACE``.

    ``requires`` are additional libraries of the family.
    """
    used = ["timm", *(name for requirement in requires for name in machine.distributions_of(requirement.module))]
    return {
        "versions": machine.versions() | {name: version for name in used if (version := machine.version_of(name))},
        "code": machine.code_of(registry.DISTRIBUTION, "zoo"),
        "plugin_code": "",
        "device": str(device),
        "threads": torch.get_num_threads(),
        "processes": distributed.current().count,
        "cpu": {"name": machine.cpu_name(), "instructions": torch.backends.cpu.get_cpu_capability()},
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else "",
    }


def differences(then: Record, now: Record) -> list[Difference]:
    """Returns the differences between the environments of two runs; empty if a record lacks them."""
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
    environment = [Difference(name, str(before), str(after)) for name, before, after in pairs if before != after]
    return [*other_images(then.data, now.data), *environment]


def other_images(then: Mapping[str, Images], now: Mapping[str, Images]) -> list[Difference]:
    """Returns the differences between the images or their order, by role."""
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


def _unusable(where: object, why: str) -> TrainingError:
    return TrainingError(
        f"{where} cannot be reproduced from its run record: {why}.",
        hint="A run record needs model, recipe, and name, split, n and fingerprint of data.train.",
    )

"""A snapshot of what one version of torchvision knows, as one JSON file: ``python -m zoo_torchvision.snapshot`` writes
it.

It builds each architecture, to count its parameters and to find its stages: about two minutes.
Reading the file needs neither torchvision nor torch.
"""

import math
import sys
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from zoo.spec import Preprocess

FILE = Path(__file__).with_name("snapshot.json")

_SERIES = {"blocks", "encoder.layers", "features", "layers", "trunk_output"}
"""Submodules whose children are stages."""


class File(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of a ``Weights`` enum, ``enum.name``: its file, its input and its published accuracy.

    ``params`` are those of its network, 0 if they are the architecture's. ``args`` are what torchvision builds the
    network with for these weights.
    """

    enum: str
    url: str
    preprocess: Preprocess
    top1: float
    top5: float
    license: str = ""
    params: int = 0
    args: dict[str, Any] = {}


class Architecture(msgspec.Struct, frozen=True, omit_defaults=True):
    """One architecture: its weights by tag, torchvision's default first.

    ``features`` are the channels before the global pool; ``stages`` are the last module, its channels and its reduction
    of the input's size, for each size of feature maps.
    """

    params: int
    features: int
    head: str
    stem: str
    stages: tuple[tuple[str, int, int], ...] = ()
    args: dict[str, Any] = {}
    weights: dict[str, File] = {}


class Snapshot(msgspec.Struct, frozen=True):
    """All that one version of torchvision knows; ``without_head`` are the weights that only have features."""

    torchvision: str
    models: dict[str, Architecture]
    without_head: tuple[str, ...]


@cache
def read(file: Path = FILE) -> Snapshot:
    return msgspec.json.decode(file.read_bytes(), type=Snapshot)


def take(names: list[str] | None = None) -> Snapshot:
    """Returns a snapshot of the installed torchvision; of the architectures ``names``, by default of all."""
    import torchvision
    from torchvision import models

    architectures, without = {}, []
    for arch in names or models.list_models(module=models):
        entries = models.get_model_weights(arch)
        default = entries.DEFAULT
        files = {}
        for entry in [default, *(entry for entry in entries if entry is not default)]:
            if entry.meta["categories"] is None:
                without.append(f"{arch}.{entry.name.lower()}")
            else:
                files[entry.name.lower()] = file_of(arch, entry)
        architectures[arch] = _architecture(arch, files)
    return Snapshot(torchvision.__version__.partition("+")[0], architectures, tuple(without))


def file_of(arch: str, entry: Any) -> File:
    """Returns the entry of a ``Weights`` enum."""
    transform, accuracy = entry.transforms(), entry.meta["_metrics"]["ImageNet-1K"]
    (crop,), (resize,) = transform.crop_size, transform.resize_size
    preprocess = Preprocess(
        input_size=(3, crop, crop),
        crop_pct=crop_pct(crop, resize),
        interpolation=transform.interpolation.value,
        mean=tuple(transform.mean),
        std=tuple(transform.std),
    )
    return File(
        enum=str(entry),
        url=entry.url,
        preprocess=preprocess,
        top1=accuracy["acc@1"],
        top5=accuracy["acc@5"],
        license=entry.meta.get("license", ""),
        args=_args_for(arch, entry),
    )


def crop_pct(crop: int, resize: int) -> float:
    """Returns ``crop / resize``, or the next number below it with which Zoo resizes to ``resize`` pixels: it rounds
    down.
    """
    share = crop / resize
    while math.floor(crop / share) < resize:
        share = math.nextafter(share, 0)
    return share


def _args_for(arch: str, entry: Any) -> dict[str, Any]:
    """Returns what torchvision's function of that name changes because of the weights."""
    if arch in ("googlenet", "inception_v3"):
        return {"transform_input": True}
    size = entry.meta["min_size"][0]
    return {"image_size": size} if arch.startswith("vit_") and size != 224 else {}


def _architecture(arch: str, weights: dict[str, File]) -> Architecture:
    import torch
    from torchvision import models

    from zoo_torchvision.model import OURS

    args = {"aux_logits": False, "init_weights": True} if arch in ("googlenet", "inception_v3") else {}
    default = next((file for file in weights.values() if "image_size" not in file.args), None)
    side = default.preprocess.input_size[1] if default else 224
    with torch.device("cpu" if arch.startswith("regnet") else "meta"):  # RegNet computes its sizes with tensors
        module = models.get_model(arch, weights=None, **args).to("meta")
        module.__class__ = OURS[type(module)]
        features, stages = _stages(module.eval(), side)
        params, files = _count(module), {}
        for tag, file in weights.items():
            counted = _count(models.get_model(arch, weights=None, **args, **file.args))
            files[tag] = msgspec.structs.replace(file, params=counted if counted != params else 0)
    return Architecture(
        params=params,
        features=features,
        head=module.classifier_name,
        stem=module.stem_name,
        stages=stages,
        args=args,
        weights=files,
    )


def _stages(module: Any, side: int) -> tuple[int, tuple[tuple[str, int, int], ...]]:
    """Returns the channels of the features, and the stages, of images of ``side`` pixels."""
    import torch

    names: list[str] = []
    for name in module.trunk:
        parts = module.get_submodule(name).named_children()
        names += [f"{name}.{part}" for part, _ in parts] if name in _SERIES else [name]
    seen: dict[Any, tuple[str, int, int]] = {}

    def note(name: str, output: Any) -> None:
        if output.ndim == 3:  # B N C: a token for the class, and one for each patch
            seen[name] = (name, output.shape[2], side // math.isqrt(output.shape[1] - 1))
        elif output.shape[2] == output.shape[3]:  # B C h w, and not B h w C
            seen[output.shape[2]] = (name, output.shape[1], 2 ** round(math.log2(side / output.shape[2])))

    for name in names:
        module.get_submodule(name).register_forward_hook(lambda *about, name=name: note(name, about[2]))
    features = module.forward_features(torch.empty(1, 3, side, side, device="meta"))
    return features.shape[1 if features.ndim == 4 else 2], tuple(seen.values())


def _count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def main() -> None:
    taken = take()
    FILE.write_bytes(msgspec.json.encode(taken) + b"\n")
    count = sum(len(about.weights) for about in taken.models.values())
    print(f"{FILE}: torchvision {taken.torchvision}, {len(taken.models)} models, {count} weights", file=sys.stderr)


if __name__ == "__main__":
    main()

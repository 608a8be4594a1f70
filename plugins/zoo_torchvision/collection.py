"""The snapshot as Zoo's values: neither torchvision nor torch is imported."""

from zoo.manifest import License, Score, Weights
from zoo.spec import Argument, Model
from zoo_torchvision import TORCHVISION, snapshot
from zoo_torchvision.snapshot import Architecture, File

SWAG = "https://github.com/facebookresearch/SWAG/blob/main/LICENSE"

FILE_ARGS = {
    "transform_input": Argument((True, False)),
    "image_size": Argument(least=1, most=2048),
    "dropout": Argument(least=0.0, most=1.0),
}
"""The arguments of torchvision's that a file may set."""


def read() -> tuple[list[Model], list[Weights]]:
    """Returns every architecture and every weights file of the snapshot: ``torchvision/arch`` and
    ``torchvision/arch.tag``.
    """
    content = snapshot.read()
    models = [_model(arch, about) for arch, about in content.models.items()]
    weights = [
        weights_of(content.torchvision, arch, tag, file)
        for arch, about in content.models.items()
        for tag, file in about.weights.items()
    ]
    return models, weights


def _model(arch: str, about: Architecture) -> Model:
    default = next(file for file in about.weights.values() if "image_size" not in file.args)
    return Model(
        f"torchvision/{arch}",
        build="zoo_torchvision.model:build",
        args={"arch": arch, **about.args},
        preprocess=default.preprocess,
        params=about.params,
        head=(about.head,),
        stem=(about.stem,),
        stages=tuple(name for name, _, _ in about.stages),
        translate="zoo_torchvision.model:translate",
        file_args=FILE_ARGS,
        requires=(TORCHVISION,),
    )


def weights_of(version: str, arch: str, tag: str, about: File, sha256: str = "", size: int = 0) -> Weights:
    """Returns the entry of one file, pinned if its ``sha256`` is given."""
    hub, _, file = about.url.rpartition("/")
    score = Score(n=50000, source=f"torchvision {version}, {about.enum}", top1=about.top1, top5=about.top5)
    return Weights(
        file=file,
        arch=f"torchvision/{arch}",
        tag=tag,
        hub=hub,
        sha256=sha256,
        sha256_prefix="" if sha256 else hash_in(file),
        size=size,
        pinned=bool(sha256),
        origin=f"torchvision {about.enum}",
        license=License(
            code="BSD-3-Clause",
            weights="CC-BY-NC-4.0" if about.license == SWAG else about.license or "unknown",
            data="ImageNet terms (non-commercial research)",
        ),
        classes="imagenet-1k",
        num_classes=1000,
        params=about.params or None,
        preprocess=about.preprocess,
        args=about.args,
        key_map="as-is",  # the library's own files
        scores={"imagenet-1k/validation": score},
    )


def hash_in(file: str) -> str:
    """Returns the beginning of the sha256 in a file's name, as torchvision's files have it."""
    return file.rpartition(".")[0].rpartition("-")[2]

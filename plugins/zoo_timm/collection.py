"""The snapshot as Zoo's values: neither timm nor torch is imported."""

from zoo.manifest import License, Weights
from zoo.spec import Argument, Model, Preprocess
from zoo_timm import TIMM, snapshot
from zoo_timm.snapshot import Architecture, File

SPDX = {
    "apache-2.0": "Apache-2.0",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "mit": "MIT",
}

FILE_ARGS = {
    "tag": Argument(pattern="[a-z0-9_]*"),
    "drop_rate": Argument(least=0.0, most=1.0),
    "drop_path_rate": Argument(least=0.0, most=1.0),
    "img_size": Argument(least=1, most=2048, longest=2),
    "global_pool": Argument(pattern="[a-z]*"),
    "patch_size": Argument(least=1, most=64),
    "reg_tokens": Argument(least=0, most=64),
    "init_values": Argument((None,), least=0.0, most=1.0),
    **dict.fromkeys(
        (
            "class_token",
            "dynamic_img_pad",
            "dynamic_img_size",
            "fc_norm",
            "no_embed_class",
            "pre_norm",
            "strict_img_size",
        ),
        Argument((True, False, None)),
    ),
}
"""Arguments by which a file may say how timm builds its network: neither which model nor where from."""


def read() -> tuple[list[Model], list[Weights]]:
    """Returns every architecture and every file of weights of the snapshot, named ``timm/arch`` and
    ``timm/arch.tag``.
    """
    content = snapshot.read()
    models = [_model(arch, about, content.inputs) for arch, about in content.models.items()]
    weights = [
        _weights(arch, tag, file, content.inputs, is_default=tag == next(iter(about.weights)))
        for arch, about in content.models.items()
        for tag, file in about.weights.items()
    ]
    return models, weights


def _model(arch: str, about: Architecture, inputs: tuple[Preprocess, ...]) -> Model:
    return Model(
        f"timm/{arch}",
        build="zoo_timm.model:build",
        args={"arch": arch},
        preprocess=inputs[about.input],
        params=about.params,
        num_classes=about.classes,
        head=about.head,
        stem=about.stem,
        translate="zoo_timm.model:translate",
        file_args=FILE_ARGS,
        requires=(TIMM,),
    )


def _weights(arch: str, tag: str, about: File, inputs: tuple[Preprocess, ...], *, is_default: bool) -> Weights:
    license = License(code="Apache-2.0", weights=SPDX.get(about.license, about.license) or "unknown")
    hub, repo, file, prefix = "hf", about.repo or f"timm/{arch}.{tag}", about.file, ""
    origin = "as timm publishes them" if repo.startswith("timm/") else f"as {repo.partition('/')[0]} publishes them"
    if about.url:
        hub, _, file = about.url.rpartition("/")
        repo, prefix = "", _hash_in(file)
    if not file.endswith(".safetensors"):
        origin = "a pickle, named by timm"
    return Weights(
        file=file,
        arch=f"timm/{arch}",
        tag=tag,
        repo=repo,
        hub=hub,
        sha256_prefix=prefix,
        pinned=False,
        default=is_default,
        origin=origin,
        license=license,
        classes="imagenet-1k" if about.classes == 1000 else "",
        num_classes=about.classes,
        params=about.params or None,
        preprocess=inputs[about.input],
        args={"tag": tag},
        key_map="" if file.endswith(".safetensors") else "as-is",  # the library's own files
    )


def _hash_in(file: str) -> str:
    """Returns the beginning of the sha256 in the name of a file on the web, which such names end with, or nothing."""
    digits = file.partition(".")[0].rpartition("-")[2]
    return digits if len(digits) >= 8 and set(digits) <= set("0123456789abcdef") else ""

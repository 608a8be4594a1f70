"""Pretrained weights as the start of a training run."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from zoo import loading, names, resolve
from zoo.data import ImageSet, ImageStream
from zoo.errors import RecipeError, WeightsError
from zoo.loading import ModelInfo, Network, safetensors_file
from zoo.manifest import Weights
from zoo.spec import Model, Preprocess
from zoo.system import storage
from zoo.training import Recipe

log = logging.getLogger("zoo")


class Source(NamedTuple):
    """Weights to start from: their file, and their manifest's entry if they have one."""

    name: str
    file: Path
    entry: Weights | None

    @property
    def record(self) -> dict[str, str]:
        """The weights' part of the run record."""
        return {"weights": self.name, "sha256": storage.sha256_of(self.file)}


def architecture(weights: str | Path) -> str:
    """The name of the model of ``weights`` (``arch.tag`` or a safetensors file)."""
    if names.is_repository(str(weights)):
        return resolve.find(str(weights)).model.name
    if not is_file(weights):
        return str(names.parse(str(weights))._replace(tag=""))
    named = safetensors_file.metadata(Path(weights)).get("model")
    if not isinstance(named, str):
        raise WeightsError(
            f"{weights} does not name its model.", hint=f"Name the model: zoo train MODEL --init {weights}"
        )
    return named


def find(weights: str | Path, model: Model) -> Source:
    """The local file of ``weights``, fetched if necessary; a bare ``arch`` means its default weights.

    Raises :class:`WeightsError` if they are not of ``model``.
    """
    if is_file(weights):
        safetensors_file.metadata(Path(weights))  # there, and safetensors
        return Source(str(weights), Path(weights), None)
    found = resolve.find(str(weights))
    if found.model != model:
        raise WeightsError(
            f"{weights} are weights of {found.model.name}, not of {model.name}.",
            hint=f"zoo train {found.model.name} --init {weights}",
        )
    entry, file = resolve.use(found)
    return Source(entry.name, file, entry)


def build(
    source: Source, model: Model, images: ImageSet | ImageStream, args: Mapping[str, Any]
) -> tuple[Network, ModelInfo]:
    """The network of ``model`` with these weights, and its ``zoo_info`` after fine-tuning.

    ``args`` change how it is built. The stem is adapted to the channels of ``images``. The head is kept if the weights
    have the same classes, and newly initialised otherwise, with a warning.
    """
    seed = torch.initial_seed()
    module, info = loading.build_from(source.file, model, source.entry, in_chans=images.channels, **args)
    count = len(images.classes)
    if not knows(info, images) or loading.classes_in(module.state_dict(), model.head) != count:
        torch.manual_seed(seed)  # whatever building drew
        module.reset_classifier(count)
        head = ", ".join(model.head)
        log.warning("%s: %s newly initialised for the %d classes of %s", source.name, head, count, images.name)
    return module, info._replace(name=model.name, weights=None, file=None)


def knows(info: ModelInfo, images: ImageSet | ImageStream) -> bool:
    """Whether weights have the classes of ``images``: by name, or as of the same data set if they state no names."""
    return info.class_names == images.classes if info.class_names else info.classes == images.name


def check_whitening(module: nn.Module, preprocess: Preprocess, recipe: Recipe) -> None:
    """Raises :class:`RecipeError` if the weights' own whitening does not match the normalisation of ``recipe``."""
    if preprocess.whitening == "none" or recipe.normalize == "zca":
        return
    mean = module.get_submodule("whitening").get_buffer("mean")
    if recipe.normalize != "model" or tuple(mean.shape) != preprocess.input_size:
        raise RecipeError(
            f"The weights contain whitening for images {tuple(mean.shape)}, but the recipe has "
            f"{preprocess.input_size}, normalize = {recipe.normalize!r}.",
            hint="Fit whitening again (--set normalize=zca), or keep it: --set normalize=model, at its input size.",
        )


def is_file(weights: str | Path) -> bool:
    """Whether ``weights`` are a file rather than a name."""
    return isinstance(weights, Path) or weights.endswith(".safetensors") or Path(weights).is_file()

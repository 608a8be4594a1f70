"""Pretrained weights in training: as its start, and as the teacher that a network learns from."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import loading, names
from zoo.data import ImageSet, ImageStream
from zoo.errors import RecipeError, WeightsError
from zoo.loading import ModelInfo, Network, resolve, safetensors_file
from zoo.loading.create import create_trained, info_of
from zoo.manifest import Weights
from zoo.spec import Model, Preprocess
from zoo.system import storage
from zoo.training.recipe import Distill, Recipe

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
    """Returns the name of the model of ``weights``: ``arch.tag``, a run's folder or a safetensors file."""
    if names.is_repository(str(weights)):
        return resolve.find(str(weights)).model.name
    file = file_of(weights)
    return str(names.parse(str(weights))._replace(tag="")) if file is None else resolve.model_in(file)


def find_source(weights: str | Path, model: Model) -> Source:
    """Finds the local file of ``weights``, fetched if necessary; a bare ``arch`` means its default weights.

    Raises :class:`WeightsError` if they are not of ``model``.
    """
    if (given := file_of(weights)) is not None:
        safetensors_file.metadata(given)  # there, and safetensors
        return Source(str(given), given, None)
    target = resolve.find(str(weights))
    if target.model != model:
        raise WeightsError(
            f"{weights} are weights of {target.model.name}, not of {model.name}.",
            hint=f"zoo train {target.model.name} --init {weights}",
        )
    entry, file = resolve.use(target)
    return Source(entry.name, file, entry)


def build(
    source: Source, model: Model, images: ImageSet | ImageStream, args: Mapping[str, Any]
) -> tuple[Network, ModelInfo]:
    """Builds the network of ``model`` with these weights, and its ``zoo_info`` after fine-tuning.

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
    """Returns whether weights have the classes of ``images``: by name, or of the same data set if they name none."""
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


def file_of(weights: str | Path) -> Path | None:
    """Returns the file of ``weights`` that are a file or a run's folder; None for a name."""
    is_file = isinstance(weights, Path) or weights.endswith(".safetensors") or Path(weights).is_file()
    return resolve.trained_at(weights) or (Path(weights) if is_file else None)


class Teacher:
    """A trained network in eval mode, which sees the images that its student is trained on.

    ``record`` is its part of the run record, ``address`` finds it again from any folder.
    """

    def __init__(self, network: Network, name: str) -> None:
        self.network = network.eval().requires_grad_(False)
        info = info_of(network)
        if info.file is None:
            raise WeightsError(f"{name} is not trained, so it cannot be a teacher.", hint="Name weights: NAME.TAG.")
        self.record = {"weights": name, "sha256": storage.sha256_of(info.file)}
        self.address = name if info.weights is not None else str(info.file.absolute())
        self._info = info

    def check(self, images: ImageSet | ImageStream) -> None:
        """Raises :class:`WeightsError` if the teacher's classes or channels are not those of ``images``."""
        if not knows(self._info, images) or self.network.num_classes != len(images.classes):
            raise WeightsError(
                f"The teacher {self._info.name} has {self.network.num_classes} classes of "
                f"{self._info.classes or 'an unknown data set'}, but {images.name} has {len(images.classes)}: "
                "expected the same classes.",
                hint="Choose a teacher that was trained on this data set: --teacher NAME.TAG.",
            )
        channels = self._info.preprocess.input_size[0]
        if channels not in (images.channels, 3):
            raise WeightsError(f"The teacher {self._info.name} sees {channels} channel, but {images.name} has 3.")

    def to(self, device: torch.device, layout: torch.memory_format) -> None:
        self.network.to(device=device, memory_format=layout)  # type: ignore[call-overload]  # torch's stubs

    @torch.no_grad()
    def logits(self, images: Tensor, preprocess: Preprocess) -> Tensor:
        """Returns float32 B K of ``images`` float B C H W, which ``preprocess`` normalised."""
        expected = self._info.preprocess
        if (preprocess.mean, preprocess.std) != (expected.mean, expected.std):
            images = images * _per_channel(preprocess.std, images) + _per_channel(preprocess.mean, images)
            images = (images - _per_channel(expected.mean, images)) / _per_channel(expected.std, images)
        if images.shape[2:] != expected.input_size[1:]:
            images = F.interpolate(images, expected.input_size[1:], mode="bilinear", antialias=True)
        output = self.network(images)
        logits: Tensor = output if isinstance(output, Tensor) else output[0]
        return logits.float()


def find_teacher(teacher: str | Path) -> Teacher:
    """Loads the teacher ``arch.tag``, ``arch`` (its default weights), of a run or of a safetensors file."""
    network = create_trained(str(teacher))
    entry = info_of(network).weights
    return Teacher(network, entry.name if entry is not None else str(teacher))


def check_teacher(recipe: Recipe, teacher: Teacher | None) -> None:
    """Raises :class:`RecipeError` unless there are both a teacher and settings for it, or neither."""
    if recipe.distill is not None and teacher is None:
        raise RecipeError(f"Recipe {recipe.name!r} has distill, but there is no teacher.", hint="--teacher NAME.TAG")
    if recipe.distill is None and teacher is not None:
        raise RecipeError(f"Recipe {recipe.name!r} has a teacher, but no distill.", hint="Set distill.alpha.")


def blend(settings: Distill, loss: Tensor, logits: Tensor, teacher: Tensor) -> Tensor:
    """Weighs the ``loss`` of the labels and that of the ``teacher``'s logits B K by ``settings``."""
    temperature = settings.temperature
    divergence = F.kl_div(
        (logits / temperature).log_softmax(dim=1),
        (teacher / temperature).log_softmax(dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return (1 - settings.alpha) * loss + settings.alpha * temperature**2 * divergence


def _per_channel(values: tuple[float, ...], images: Tensor) -> Tensor:
    return torch.tensor(values, device=images.device)[:, None, None]

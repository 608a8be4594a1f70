"""The trained network that another one learns from."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.creation import create_trained, info_of
from zoo.data import ImageSet, ImageStream
from zoo.errors import RecipeError, WeightsError
from zoo.loading import Network
from zoo.spec import Preprocess
from zoo.system import storage
from zoo.training import finetune
from zoo.training.distill import Distill
from zoo.training.recipe import Recipe


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
        if not finetune.knows(self._info, images) or self.network.num_classes != len(images.classes):
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
        """float32 B K of ``images`` float B C H W, which ``preprocess`` normalised."""
        own = self._info.preprocess
        if (preprocess.mean, preprocess.std) != (own.mean, own.std):
            images = images * _per_channel(preprocess.std, images) + _per_channel(preprocess.mean, images)
            images = (images - _per_channel(own.mean, images)) / _per_channel(own.std, images)
        if images.shape[2:] != own.input_size[1:]:
            images = F.interpolate(images, own.input_size[1:], mode="bilinear", antialias=True)
        output = self.network(images)
        logits: Tensor = output if isinstance(output, Tensor) else output[0]
        return logits.float()


def find(teacher: str | Path) -> Teacher:
    """The teacher ``arch.tag``, ``arch`` (its default weights) or of a safetensors file."""
    if finetune.is_file(teacher):
        network = create_trained(finetune.architecture(teacher), weights=teacher)
    else:
        network = create_trained(str(teacher))
    entry = info_of(network).weights
    return Teacher(network, entry.name if entry is not None else str(teacher))


def check(recipe: Recipe, teacher: Teacher | None) -> None:
    """Raises :class:`RecipeError` unless there are both a teacher and settings for it, or neither."""
    if recipe.distill is not None and teacher is None:
        raise RecipeError(f"Recipe {recipe.name!r} has distill, but there is no teacher.", hint="--teacher NAME.TAG")
    if recipe.distill is None and teacher is not None:
        raise RecipeError(f"Recipe {recipe.name!r} has a teacher, but no distill.", hint="Set distill.alpha.")


def blend(settings: Distill, loss: Tensor, logits: Tensor, teacher: Tensor) -> Tensor:
    """The ``loss`` of the labels and that of the ``teacher``'s logits B K, weighted by ``settings``."""
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

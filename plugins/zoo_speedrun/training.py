"""The train hook: what Zoo's own does, from a first layer that whitens the training images."""

from typing import Any

import torch
from torch import Tensor, nn

import zoo.training as default
from zoo.data import Transform
from zoo.data.image_set import ImageSet
from zoo.data.image_stream import ImageStream
from zoo.errors import DataError, RecipeError
from zoo.spec import Preprocess
from zoo.training import Recipe, Run, TrainingData
from zoo_speedrun.constants import Constants
from zoo_speedrun.model import PATCH, Airbench


def train(
    model: Airbench, data: TrainingData, recipe: Recipe, run: Run, *, preprocess: Preprocess, **options: Any
) -> nn.Module:
    """Trains ``model`` in place and returns it; raises what ``zoo.training.train`` does."""
    if recipe.freeze or recipe.layer_decay != 1:
        raise RecipeError(
            f"{recipe.name}: this family's own groups of parameters leave no room for freeze and layer_decay.",
            hint="Leave both out.",
        )
    constants = recipe.read_hook_args(Constants)
    if run.init is None:  # weights to start from bring a first layer of their own
        set_whitening(model, first_images(data.train, constants.whitened_images, preprocess))

    def on_epoch(epoch: int) -> None:
        model.whiten.bias.requires_grad_(epoch < constants.bias_epochs)  # type: ignore[union-attr]  # it has one

    options |= {"parameter_groups": parameter_groups, "on_epoch": on_epoch}
    return default.train(model, data, recipe, run, preprocess=preprocess, **options)


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Returns all else that learns, and normalisation's biases."""
    learning = {name: value for name, value in model.named_parameters() if value.requires_grad}
    biases = [value for name, value in learning.items() if ".norm" in name]
    others = [value for name, value in learning.items() if ".norm" not in name]
    scale = recipe.read_hook_args(Constants).norm_bias_scale
    scaled = {"lr_scale": scale, "weight_decay": recipe.weight_decay / scale}
    return [{"params": others, "weight_decay": recipe.weight_decay}, {"params": biases, **scaled}]


def first_images(images: ImageSet | ImageStream, count: int, preprocess: Preprocess) -> Tensor:
    """Returns the first ``count`` of the set as the network sees them, float32 N C H W."""
    if isinstance(images, ImageStream):
        raise DataError(f"{images.name} is read as a stream; whitening its images needs them in memory.")
    return Transform(preprocess).take(images, torch.arange(min(count, len(images))))


def set_whitening(model: Airbench, images: Tensor) -> None:
    """Sets the first layer from ``images`` N C H W: as many of the first components as there is room for.

    Grey images have fewer components than the layer has filters; the others stay as they began.
    """
    filters, weight = whitening_filters(images), model.whiten.weight.data
    components = min(len(filters), len(weight)) // 2
    weight[:components] = filters[:components]
    weight[components : 2 * components] = -filters[:components]


def whitening_filters(images: Tensor, eps: float = 5e-4) -> Tensor:
    """Filters 2P C 2 2 whose outputs over patches of ``images`` N C H W have unit variance and no covariance.

    The P = 4C principal components of the patches, each over the root of its variance (about zero)
    plus ``eps``, the largest first; then their negatives.
    """
    chans = images.shape[1]
    patches = images.unfold(2, PATCH, 1).unfold(3, PATCH, 1)  # N C H' W' 2 2, a view
    rows = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, chans * PATCH**2)
    if len(rows) < rows.shape[1]:
        raise DataError(f"{len(rows)} patches cannot be whitened: expected {rows.shape[1]} at least.")
    covariance = (rows.T @ rows).double() / len(rows)
    variances, components = torch.linalg.eigh(covariance)  # ascending; a column each
    filters = (components / (variances + eps).sqrt()).T.flip(0).view(-1, chans, PATCH, PATCH)
    return torch.cat([filters, -filters]).float()

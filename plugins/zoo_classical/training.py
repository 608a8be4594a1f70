"""The train hook: features are learnt without labels, a classifier is fitted to those of every image."""

from functools import partial
from typing import Any

import torch
from torch import nn

from zoo.data import ImageSet, Transform
from zoo.spec import Preprocess
from zoo.training import Recipe, Run, TrainingData, one_pass
from zoo.training.randomness import generator_at
from zoo_classical.codings import Concatenation
from zoo_classical.constants import Constants
from zoo_classical.kmeans import KMeansNet
from zoo_classical.model import Pipeline


def train(
    model: Pipeline | KMeansNet,
    data: TrainingData,
    recipe: Recipe,
    run: Run,
    *,
    preprocess: Preprocess,
    **options: Any,
) -> nn.Module:
    """Fits ``model`` in place and returns it; its ``zoo_info`` learns how large the classifier became.

    Raises what ``zoo.training.one_pass.train`` does, and :class:`DataError` for images that give too few
    descriptors.
    """

    def learn(images: ImageSet, device: torch.device) -> None:
        learn_features(model, images, preprocess, recipe, device)

    options |= {"learn_features": learn, "learn_head": partial(model.learn_head, weight_decay=recipe.weight_decay)}
    one_pass.train(model, data, recipe, run, preprocess=preprocess, **options)
    if (info := getattr(model, "zoo_info", None)) is not None:
        model.zoo_info = info._replace(args={**info.args, **model.learned})
    return model


@torch.no_grad()
def learn_features(
    model: Pipeline | KMeansNet, images: ImageSet, preprocess: Preprocess, recipe: Recipe, device: torch.device
) -> None:
    """Fits what ``model`` learns without labels, from ``model.samples`` patches of images drawn with the recipe's
    seed."""
    generator, transform = generator_at(recipe.seed, "samples"), Transform(preprocess)
    count = min(len(images), -(-model.samples // recipe.read_hook_args(Constants).per_image))
    if isinstance(model, Pipeline) and isinstance(model.coding, Concatenation):
        (local,) = model.descriptors(transform(images.image(0))[None].to(device))
        if local.vectors.numel() != model.num_features:  # other images than it was declared for
            model.set_coding(Concatenation(local.vectors.numel()))
        return
    parts = []
    drawn = torch.randperm(len(images), generator=generator)[:count]
    for chosen in torch.split(drawn, recipe.batch_size):
        inputs = transform.take(images, chosen).to(device)
        parts.append(model.sample(inputs, -(-model.samples // count), generator))
    model.learn_features(torch.cat(parts)[: model.samples], recipe.seed)

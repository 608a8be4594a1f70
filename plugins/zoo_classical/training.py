"""The train hook: features are learnt without labels, a classifier is fitted to what they say of every image.

Nothing descends a gradient image by image, and one pass over the images is all: of the recipe count
``weight_decay``, ``seed``, ``validation``, ``batch_size`` and ``input_size``.
"""

import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.data import ImageSet, Transform
from zoo.errors import DataError, RecipeError
from zoo.evaluation import batches, evaluate, in_eval_mode
from zoo.spec import Preprocess
from zoo.training import Recipe, Run, TrainingData, record
from zoo.training.randomness import generator_at
from zoo_classical.codings import Concatenation
from zoo_classical.kmeans import KMeansNet
from zoo_classical.model import Pipeline

USED = {"name", "note", "weight_decay", "seed", "validation", "batch_size", "input_size"}
"""The fields of a recipe that have a say."""
AN_IMAGE = 20
"""Patches or descriptors drawn from an image to learn features from; more where images are few."""


def train(
    model: Pipeline | KMeansNet,
    data: TrainingData,
    recipe: Recipe,
    run: Run,
    *,
    preprocess: Preprocess,
    device: torch.device | str | None = None,
) -> nn.Module:
    """Fits ``model`` in place and returns it; its ``zoo_info`` learns how large the classifier became.

    Where training starts from other weights, their features stay and the classifier alone is fitted. C of an
    SVM is 1 / (``weight_decay`` x images). A run that was broken off starts anew.

    Raises :class:`RecipeError` where the recipe asks for what there is none of here, and
    :class:`DataError` for a stream and for images that give too few descriptors.
    """
    check(recipe)
    images = data.train
    if not isinstance(images, ImageSet):
        raise DataError(f"{images.name} is read as a stream; features are learnt from images drawn from all.")
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model.to(device)
    run.open(record.describe(model, data, recipe, preprocess, run, device))
    run.rewind(0)
    started = time.perf_counter()
    try:
        if run.init is None:
            learn_features(model, images, preprocess, recipe, device)
        features = describe(model, images, preprocess, recipe.batch_size, run, device)
        model.learn_head(features, images.labels, recipe.weight_decay)
        model.to(device)
        logged = score(model, features, images.labels, device) | {"seconds": time.perf_counter() - started}
        if data.validation is not None:
            report = evaluate(model, data.validation, preprocess=preprocess, batch_size=recipe.batch_size)
            logged |= {"val_top1": report.top1, "val_mean_class": report.mean_class, "val_loss": report.loss}
        run.write(logged | {"images_per_s": len(images) / logged["seconds"]})
    finally:
        run.close()
    if (info := getattr(model, "zoo_info", None)) is not None:
        model.zoo_info = info._replace(args={**info.args, **model.learned})
    return model


def check(recipe: Recipe) -> None:
    """Raises :class:`RecipeError` for fields that would be without effect."""
    plain = Recipe(epochs=1)
    unused = {name for name in Recipe.__struct_fields__ if getattr(recipe, name) != getattr(plain, name)} - USED
    if unused:
        raise RecipeError(
            f"{recipe.name}: {', '.join(sorted(unused))} mean nothing where features are clustered and a classifier "
            "is fitted in one pass.",
            hint="Leave them at their defaults, and say epochs = 1.",
        )
    if not recipe.weight_decay:
        raise RecipeError(f"{recipe.name}: weight_decay = 0, expected more: an SVM's C is 1 / (weight_decay x images).")


@torch.no_grad()
def learn_features(
    model: Pipeline | KMeansNet, images: ImageSet, preprocess: Preprocess, recipe: Recipe, device: torch.device
) -> None:
    """What ``model`` learns without labels, from ``model.samples`` patches of images drawn with the recipe's seed."""
    generator, transform = generator_at(recipe.seed, "samples"), Transform(preprocess)
    count = min(len(images), -(-model.samples // AN_IMAGE))
    if isinstance(model, Pipeline) and isinstance(model.coding, Concatenation):
        (local,) = model.descriptors(transform(images.image(0))[None].to(device))
        if local.vectors.numel() != model.num_features:  # other images than it was declared for
            model.coding = Concatenation(local.vectors.numel())
            model.reset_classifier(model.num_classes)
        return
    parts = []
    drawn = torch.randperm(len(images), generator=generator)[:count].tolist()
    for start in range(0, count, recipe.batch_size):
        chosen = drawn[start : start + recipe.batch_size]
        inputs = torch.stack([transform(images.image(index)) for index in chosen]).to(device)
        parts.append(model.sample(inputs, -(-model.samples // count), generator))
    model.learn_features(torch.cat(parts)[: model.samples], recipe.seed)


def describe(
    model: Pipeline | KMeansNet,
    images: ImageSet,
    preprocess: Preprocess,
    batch_size: int,
    run: Run,
    device: torch.device,
) -> Tensor:
    """The features of each image, float32 N num_features on the CPU; ``run`` shows how far it is."""
    run.display.start(1, 1, -(-len(images) // batch_size))
    features = torch.empty(len(images), model.num_features)
    done = 0
    with in_eval_mode(model), torch.inference_mode():
        for number, (inputs, _) in enumerate(batches(images, Transform(preprocess), batch_size), start=1):
            features[done : done + len(inputs)] = model.forward_features(inputs.to(device))
            done += len(inputs)
            run.display.step(1, number, loss=0.0, lr=0.0)  # there is neither
    return features


def score(model: Pipeline | KMeansNet, features: Tensor, labels: Tensor, device: torch.device) -> dict[str, float]:
    """What the log's one row says of the training images; ``loss`` is the logits' cross-entropy, as in scoring."""
    with torch.inference_mode():
        parts = [features[start : start + 1024].to(device) for start in range(0, len(features), 1024)]
        logits = torch.cat([model.forward_head(part).cpu() for part in parts])
    return {
        "epoch": 1,
        "loss": float(F.cross_entropy(logits, labels)),
        "train_top1": 100 * float((logits.argmax(dim=1) == labels).double().mean()),
        "lr": 0.0,
    }

"""Training without gradients: features are learnt first, then one pass over the images fits a classifier to them.

For the train hooks of families that learn this way. Of the recipe only the fields in ``USED`` have an effect.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.data import ImageSet, Transform
from zoo.errors import DataError, RecipeError
from zoo.evaluation import batches, evaluate, in_eval_mode
from zoo.spec import Preprocess
from zoo.training import classifiers, record
from zoo.training.inputs import TrainingData
from zoo.training.recipe import Recipe
from zoo.training.run import Run

USED = {"name", "note", "weight_decay", "seed", "validation", "batch_size", "input_size", "hook_args"}


def train(
    model: nn.Module,
    data: TrainingData,
    recipe: Recipe,
    run: Run,
    *,
    learn_features: Callable[[ImageSet, torch.device], None],
    learn_head: Callable[[Tensor, Tensor], None],
    preprocess: Preprocess,
    device: torch.device | str | None = None,
) -> None:
    """Fits ``model`` in place. A run that was interrupted starts anew.

    Args:
        model: A network with timm's model interface.
        data: Images to train on, in memory or in files, and perhaps to validate with.
        recipe: Only the fields in ``USED`` may differ from their defaults.
        run: Gets one row of the log. If it starts from other weights, their features stay.
        learn_features: Teaches ``model`` what it learns of the images without their labels.
        learn_head: Fits its classifier to features N D and labels N. The C of an SVM is 1 / (``weight_decay`` N):
            then ``weight_decay`` / 2 weighs the squared norm against the mean loss.
        preprocess: How images become the network's input.
        device: By default a GPU if there is one.

    Raises:
        RecipeError: The recipe sets a field that would have no effect.
        DataError: The images are read as a stream.
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
            learn_features(images, device)
        features = _describe(model, images, preprocess, recipe.batch_size, run, device)
        learn_head(features, images.labels)
        model.to(device)
        logged = _score(model, features, images.labels, device) | {"seconds": time.perf_counter() - started}
        if data.validation is not None:
            report = evaluate(model, data.validation, preprocess=preprocess, batch_size=recipe.batch_size)
            assert report.loss is not None  # of logits
            logged |= {"val_top1": report.top1, "val_mean_class": report.mean_class, "val_loss": report.loss}
        run.write(logged | {"images_per_s": len(images) / logged["seconds"]})
    finally:
        run.close()


def check(recipe: Recipe) -> None:
    """Raises :class:`RecipeError` for fields that would have no effect."""
    plain = Recipe(epochs=1)
    unused = {name for name in Recipe.__struct_fields__ if getattr(recipe, name) != getattr(plain, name)} - USED
    if unused:
        raise RecipeError(
            f"{recipe.name}: {', '.join(sorted(unused))} have no effect: a classifier is fitted in one pass.",
            hint="Leave them at their defaults, and say epochs = 1.",
        )
    if not recipe.weight_decay:
        raise RecipeError(f"{recipe.name}: weight_decay = 0, expected more: an SVM's C is 1 / (weight_decay x images).")


def fit_linear_svm(features: Tensor, labels: Tensor, C: float) -> tuple[Tensor, Tensor, Tensor]:  # noqa: N803  # its name in the field
    """Fits one-vs-rest linear SVMs to ``features`` N D; returns float64 weights K D, biases K, and the K classes."""
    chosen = classifiers.LinearSvm(C=C, standardize=False)
    _, svm = classifiers.fit("linear_svm", chosen, features.double(), labels)
    weight, bias = torch.from_numpy(svm.coef_), torch.from_numpy(svm.intercept_)
    if len(svm.classes_) == 2:  # scikit-learn keeps the second class's alone
        weight, bias = torch.cat([-weight, weight]), torch.cat([-bias, bias])
    return weight, bias, torch.from_numpy(svm.classes_)


@torch.no_grad()
def set_rows(layer: nn.Linear, weight: Tensor, bias: Tensor, classes: Tensor) -> None:
    """Makes ``layer`` answer for ``classes`` with ``weight`` K D and ``bias`` K.

    Other classes answer -1, as an SVM does that has seen no positive.
    """
    layer.weight.zero_()
    layer.bias.fill_(-1)
    layer.weight[classes] = weight.to(layer.weight)
    layer.bias[classes] = bias.to(layer.bias)


def _describe(
    model: Any, images: ImageSet, preprocess: Preprocess, batch_size: int, run: Run, device: torch.device
) -> Tensor:
    """Computes the features of each image, float32 N num_features on the CPU; ``run`` shows the progress."""
    run.display.start(1, 1, -(-len(images) // batch_size))
    features = torch.empty(len(images), model.num_features)
    done = 0
    with in_eval_mode(model), torch.inference_mode():
        for number, (inputs, _) in enumerate(batches(images, Transform(preprocess), batch_size), start=1):
            features[done : done + len(inputs)] = model.forward_features(inputs.to(device))
            done += len(inputs)
            run.display.step(1, number, loss=0.0, lr=0.0)  # there is neither
    return features


def _score(model: Any, features: Tensor, labels: Tensor, device: torch.device) -> dict[str, float]:
    """Returns the training images' part of the log's only row; ``loss`` is the logits' cross-entropy, as in scoring."""
    with torch.inference_mode():
        logits = torch.cat([model.forward_head(batch.to(device)).cpu() for batch in torch.split(features, 1024)])
    return {
        "epoch": 1,
        "loss": float(F.cross_entropy(logits, labels)),
        "train_top1": 100 * float((logits.argmax(dim=1) == labels).double().mean()),
        "lr": 0.0,
    }

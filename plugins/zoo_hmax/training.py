"""The train hook: prototypes are cut out of training images, a linear SVM is fitted to what they match.

Nothing descends a gradient, and one pass over the images is all: of the recipe count ``weight_decay``,
``seed``, ``validation``, ``batch_size`` and ``input_size``.
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
from zoo_hmax.model import HMAX, S2

USED = {"name", "note", "weight_decay", "seed", "validation", "batch_size", "input_size"}
"""The fields of a recipe that have a say."""


def train(
    model: HMAX,
    data: TrainingData,
    recipe: Recipe,
    run: Run,
    *,
    preprocess: Preprocess,
    device: torch.device | str | None = None,
) -> nn.Module:
    """Fits ``model`` in place and returns it.

    Prototypes are drawn with the recipe's seed, unless ``run.init`` brought some of other images (the
    paper's universal ones). The SVM's C is 1 / (``weight_decay`` x images): then ``weight_decay`` / 2
    weighs the squared norm against the mean loss, as everywhere. A run that was broken off starts anew.

    Raises :class:`RecipeError` where the recipe asks for what there is none of here, and
    :class:`DataError` for a stream and for images too small to cut prototypes from.
    """
    check(recipe)
    images, head = data.train, model.get_classifier()
    if not isinstance(images, ImageSet):
        raise DataError(f"{images.name} is read as a stream; prototypes are cut out of images of any place.")
    assert isinstance(head, nn.Linear)  # as built for classes
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model.to(device)
    run.open(record.describe(model, data, recipe, preprocess, run, device))
    run.rewind(0)
    started = time.perf_counter()
    try:
        if run.init is None:
            imprint(model, images, preprocess, recipe.seed)
        features = compute_c2(model, images, preprocess, recipe.batch_size, run)
        C = 1 / (recipe.weight_decay * len(features))  # noqa: N806  # its name in the field
        fit(head, features, images.labels, C)
        logged = score(model, features, images.labels) | {"seconds": time.perf_counter() - started}
        if data.validation is not None:
            report = evaluate(model, data.validation, preprocess=preprocess, batch_size=recipe.batch_size)
            logged |= {"val_top1": report.top1, "val_mean_class": report.mean_class, "val_loss": report.loss}
        run.write(logged | {"images_per_s": len(images) / logged["seconds"]})
    finally:
        run.close()
    return model


def check(recipe: Recipe) -> None:
    """Raises :class:`RecipeError` for fields that would be without effect."""
    plain = Recipe(epochs=1)
    unused = {name for name in Recipe.__struct_fields__ if getattr(recipe, name) != getattr(plain, name)} - USED
    if unused:
        raise RecipeError(
            f"{recipe.name}: {', '.join(sorted(unused))} mean nothing where a linear SVM is fitted in one pass.",
            hint="Leave them at their defaults, and say epochs = 1.",
        )
    if not recipe.weight_decay:
        raise RecipeError(
            f"{recipe.name}: weight_decay = 0, expected more: the SVM's C is 1 / (weight_decay x images)."
        )


@torch.inference_mode()
def imprint(model: HMAX, images: ImageSet, preprocess: Preprocess, seed: int) -> None:
    """Sets the prototypes: one of each size from an image drawn at random, at a random place of a random band.

    Of the bands, those count whose map is large enough; raises :class:`DataError` where none is.
    """
    generator, transform = generator_at(seed, "prototypes"), Transform(preprocess)
    device = model.luma.device

    def draw(below: int) -> int:
        return int(torch.randint(below, (), generator=generator))

    for number in range(model.num_prototypes):
        maps = model.forward_c1(transform(images.image(draw(len(images))))[None].to(device))
        for s2 in model.s2:
            assert isinstance(s2, S2)
            fitting = [band for band in maps if min(band.shape[-2:]) >= s2.side]
            if not fitting:
                raise DataError(
                    f"{images.name}: an input of {preprocess.input_size[1:]} pixels has no map of C1 to cut a "
                    f"prototype of {s2.side} x {s2.side} from.",
                    hint="Use a larger --set input_size=N.",
                )
            band = fitting[draw(len(fitting))]
            top, left = (draw(length - s2.side + 1) for length in band.shape[-2:])
            s2.prototypes[number] = band[0, :, top : top + s2.side, left : left + s2.side]


def compute_c2(model: HMAX, images: ImageSet, preprocess: Preprocess, batch_size: int, run: Run) -> Tensor:
    """C2 of each image, float32 N num_features on the CPU; ``run`` shows how far it is."""
    run.display.start(1, 1, -(-len(images) // batch_size))
    parts: list[Tensor] = []
    with in_eval_mode(model), torch.inference_mode():
        for inputs, _ in batches(images, Transform(preprocess), batch_size):
            parts.append(model.forward_features(inputs.to(model.luma.device)).float().cpu())
            run.display.step(1, len(parts), loss=0.0, lr=0.0)  # there is neither
    return torch.cat(parts)


def fit(head: nn.Linear, features: Tensor, labels: Tensor, C: float) -> None:  # noqa: N803  # its name in the field
    """Makes ``head``, a linear layer, the one-vs-all linear SVM of standardised ``features`` N D.

    (x - mean) / std . w + b becomes x . (w / std) + (b - mean . w / std). A class without images answers
    -1, as an SVM that has seen no positive does.
    """
    from sklearn.svm import LinearSVC

    features = features.double()
    std, mean = torch.std_mean(features, dim=0, correction=0)
    std[std == 0] = 1  # says nothing: standardised, it is 0
    svm = LinearSVC(C=C, random_state=0).fit(((features - mean) / std).numpy(), labels.numpy())
    weight, bias = torch.from_numpy(svm.coef_), torch.from_numpy(svm.intercept_)
    if len(svm.classes_) == 2:  # scikit-learn keeps the second class's alone
        weight, bias = torch.cat([-weight, weight]), torch.cat([-bias, bias])
    weight = weight / std
    seen = torch.from_numpy(svm.classes_)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(-1)
        head.weight[seen] = weight.to(head.weight)
        head.bias[seen] = (bias - weight @ mean).to(head.bias)


def score(model: HMAX, features: Tensor, labels: Tensor) -> dict[str, float]:
    """What the log's one row says of the training images; ``loss`` is the margins' cross-entropy, as in scoring."""
    with torch.inference_mode():
        logits = model.forward_head(features.to(model.luma.device)).cpu()
    return {
        "epoch": 1,
        "loss": float(F.cross_entropy(logits, labels)),
        "train_top1": 100 * float((logits.argmax(dim=1) == labels).double().mean()),
        "lr": 0.0,
    }

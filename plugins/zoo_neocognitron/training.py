"""The train hook: layer after layer, on so many digits as the network's ``learning`` says; no gradients."""

import logging
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.data import ImageSet, ImageStream, Transform
from zoo.errors import DataError, RecipeError
from zoo.evaluation import evaluate
from zoo.spec import Preprocess
from zoo.training import Recipe, Run, TrainingData, record
from zoo_neocognitron import learning
from zoo_neocognitron.answers import Labels, References
from zoo_neocognitron.model import Neocognitron, parts

log = logging.getLogger("zoo")

BATCH = 50
"""Digits that pass through settled layers at once."""


def train(
    model: Neocognitron,
    data: TrainingData,
    recipe: Recipe,
    run: Run,
    *,
    preprocess: Preprocess,
    device: torch.device | str | None = None,
) -> nn.Module:
    """Trains ``model`` in place from nothing and returns it; its ``zoo_info`` learns the numbers of planes.

    Of ``recipe`` only ``seed``, ``epochs`` and ``validation`` apply. Raises :class:`DataError` for a stream
    and :class:`RecipeError` for adversarial training and distillation.
    """
    for field in ("adversarial", "distill"):
        if getattr(recipe, field) is not None:
            raise RecipeError(f"{recipe.name}: {field} has no effect: this family learns without gradients.")
    device = torch.device(device or "cpu")
    run.open(record.describe(model, data, recipe, preprocess, run, device))
    run.rewind(0)
    began = time.monotonic()
    model.to(device).eval()
    images, labels = drawn(data.train, preprocess, model.plan.digits, recipe.seed)
    with torch.no_grad():
        images = images.to(device)
        teach(model, images, labels.to(device), seed=recipe.seed, epochs=recipe.epochs)
        answers = torch.cat([model(part).argmax(dim=1).cpu() for part in parts(images, BATCH)])
    share = float((answers == labels).float().mean())
    row = {"epoch": 1, "loss": 1 - share, "train_top1": 100 * share, "lr": 0.0}
    row["images_per_s"] = len(labels) / (time.monotonic() - began)
    if data.validation is not None:
        row["val_top1"] = evaluate(model, data.validation, preprocess=preprocess, device=device).top1
    run.write(row)
    run.close()
    if (info := getattr(model, "zoo_info", None)) is not None:
        model.zoo_info = info._replace(args={**info.args, "planes": list(model.planes)})
    return model


def drawn(images: ImageSet | ImageStream, preprocess: Preprocess, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Returns ``count`` images that the seed draws, as the network sees them: float32 N C H W, labels int64 N."""
    if isinstance(images, ImageStream):
        raise DataError(f"{images.name} is read as a stream; growing planes needs its images in memory.")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:count]
    return Transform(preprocess).take(images, order), images.labels[order]


def teach(model: Neocognitron, images: Tensor, labels: Tensor, *, seed: int, epochs: int) -> None:
    """Trains all layers of ``model`` with N images, the first ones of which seed the planes."""
    plan = model.plan

    def seen_by(name: str, count: int) -> learning.Batches:
        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            for digits, their_labels in zip(parts(images[:count], BATCH), parts(labels[:count], BATCH), strict=True):
                yield model.before(name, digits), their_labels

        return batches

    if plan.rule == "1980":
        for name, q in zip(model.learners, plan.q, strict=True):
            cells = model.s_cells(name)
            for _ in range(epochs):
                learning.compete(cells, seen_by(name, plan.digits), q=q)
            log.info("%s: %d planes, %d of them learnt", name, cells.planes, int((cells.inhibition() > 0).sum()))
        won = torch.cat(
            [model.forward_features(digits).amax(dim=(2, 3)).argmax(dim=1) for digits in parts(images, BATCH)]
        )
        wins = F.one_hot(won, model.num_features).T.float() @ F.one_hot(labels, model.num_classes).float()
        connect(model, wins.argmax(dim=1))  # a plane has the label of most digits that it wins
        return
    for index, theta in enumerate(plan.theta, 1):
        before, name = model.learners[index - 1 : index + 1]
        cells = model.s_cells(name)
        cells.clear(model.s_cells(before).planes)
        grow = learning.add_if_silent if plan.rule == "ais" else learning.compete_and_grow
        grow(cells, seen_by(name, plan.seeding), theta=theta, activity=plan.activity)
        log.info("%s: %d planes", name, cells.planes)
    last = model.cells("s4")
    if isinstance(last, References):
        vectors = torch.cat([last.vectors(maps) for maps, _ in seen_by("s4", plan.digits)()])
        gram = vectors @ vectors.T
        chosen = learning.choose_references(
            gram, labels, classes=model.num_classes, passes=epochs, nearness=plan.nearness
        )
        planes = model.s_cells("s3").planes
        last.weight = nn.Parameter(vectors[chosen].view(len(chosen), planes, last.side, last.side))
        connect(model, labels[chosen])
    else:
        cells = model.s_cells("s4")
        cells.clear(model.s_cells("s3").planes)
        connect(model, learning.label_cells(cells, seen_by("s4", plan.digits), passes=epochs))
    log.info("s4: %d planes", model.num_features)


def connect(model: Neocognitron, labels: Tensor) -> None:
    """Gives the last planes these ``labels``, int64 K."""
    model.count_planes()
    model.reset_classifier(model.num_classes)
    head = model.get_classifier()
    assert isinstance(head, Labels)
    head.weight.data.copy_(F.one_hot(labels, model.num_classes).T)

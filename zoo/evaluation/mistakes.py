"""Which classes a network confuses, and which images it is most certain and wrong about."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from zoo.data.image_set import ImageSet
from zoo.data.preprocess import Transform
from zoo.evaluation.batching import batches
from zoo.evaluation.forward import device_of
from zoo.evaluation.modes import in_eval_mode
from zoo.spec import Preprocess


class Mistake(NamedTuple):
    """Image ``number``, its class, and the class that the network gives the highest ``probability``, if known."""

    number: int
    true: int
    predicted: int
    probability: float | None


class Answers(NamedTuple):
    """``confusion``, int64 K K, counts images by true and by predicted class; ``mistakes``, most certain first."""

    confusion: Tensor
    mistakes: list[Mistake]


def find_mistakes(
    model: nn.Module, data: ImageSet, *, preprocess: Preprocess, is_bfloat16: bool = False, batch_size: int = 256
) -> Answers:
    """The answers of ``model``, where it is, to all images of ``data``."""
    device = device_of(model)
    predicted: list[Tensor] = []
    probabilities: list[Tensor] = []
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=is_bfloat16)
    with in_eval_mode(model), torch.inference_mode(), autocast:
        for images, _ in batches(data, Transform(preprocess), batch_size):
            logits = model(images.to(device, memory_format=torch.channels_last)).float().cpu()
            best = logits.softmax(dim=1).max(dim=1)
            predicted.append(best.indices)
            probabilities.append(best.values)
    return answers(torch.cat(predicted), torch.cat(probabilities), data.labels, len(data.classes))


def answers(predicted: Tensor, probabilities: Tensor | None, labels: Tensor, classes: int) -> Answers:
    """The classes ``predicted``, int64 N, with their ``probabilities``, float32 N, against ``labels``.

    Without probabilities, mistakes are in the order of the images.
    """
    confusion = torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes)
    wrong = (predicted != labels).nonzero()[:, 0]
    certain = [None] * len(wrong) if probabilities is None else probabilities[wrong].tolist()
    found = zip(wrong.tolist(), labels[wrong].tolist(), predicted[wrong].tolist(), certain, strict=True)
    mistakes = [Mistake(*row) for row in found]
    mistakes.sort(key=lambda mistake: -(mistake.probability or 0.0))
    return Answers(confusion, mistakes)

"""Which classes a network confuses, and which images it is most certain and wrong about."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from zoo.data.image_set import ImageSet
from zoo.data.preprocess import Transform
from zoo.evaluation.batching import batches
from zoo.evaluation.modes import in_eval_mode
from zoo.spec import Preprocess


class Mistake(NamedTuple):
    """Image ``number``, its class, and the class that the network gives the highest ``probability``."""

    number: int
    true: int
    predicted: int
    probability: float


class Answers(NamedTuple):
    """``confusion``, int64 K K, counts images by true and by predicted class; ``mistakes``, most certain first."""

    confusion: Tensor
    mistakes: list[Mistake]


def find_mistakes(
    model: nn.Module, data: ImageSet, *, preprocess: Preprocess, is_bfloat16: bool = False, batch_size: int = 256
) -> Answers:
    """The answers of ``model``, where it is, to all images of ``data``."""
    device = next((tensor.device for tensor in model.state_dict().values()), torch.device("cpu"))
    count = len(data.classes)
    confusion = torch.zeros(count * count, dtype=torch.int64)
    mistakes: list[Mistake] = []
    done = 0
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=is_bfloat16)
    with in_eval_mode(model), torch.inference_mode(), autocast:
        for images, labels in batches(data, Transform(preprocess), batch_size):
            logits = model(images.to(device, memory_format=torch.channels_last)).float().cpu()
            probabilities, predicted = logits.softmax(dim=1).max(dim=1)
            confusion += torch.bincount(labels * count + predicted, minlength=count * count)
            for row in (predicted != labels).nonzero()[:, 0].tolist():
                mistakes.append(Mistake(done + row, int(labels[row]), int(predicted[row]), float(probabilities[row])))
            done += len(labels)
    mistakes.sort(key=lambda mistake: -mistake.probability)
    return Answers(confusion.view(count, count), mistakes)

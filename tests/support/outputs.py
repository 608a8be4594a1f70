"""Files of outputs of a network that is as certain as it is asked to be."""

from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.data import ImageSet
from zoo.evaluation.outputs import Outputs, write_outputs


def sample(n: int, temperature: float, seed: int = 0, classes: int = 5) -> tuple[Tensor, Tensor]:
    """Logits of a network whose probabilities are right once its logits are divided by ``temperature``; labels."""
    generator = torch.Generator().manual_seed(seed)
    right = 2 * torch.randn(n, classes, generator=generator)
    labels = right.softmax(1).multinomial(1, generator=generator)[:, 0]
    return right * temperature, labels


def write(file: Path, logits: Tensor, labels: Tensor) -> Path:
    """Returns what ``zoo evaluate --outputs`` writes."""
    names = tuple(map(str, range(logits.shape[1])))
    data = ImageSet("noise", "test", names, labels, torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8))
    outputs = Outputs.of(logits)
    write_outputs(file, outputs, data, outputs.report(nn.Linear(1, 1), data, 1.0, {}), "")
    return file

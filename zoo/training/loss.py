"""The loss that is learnt from unless a family says otherwise."""

from typing import Any

from torch import Tensor, nn

from zoo.errors import TrainingError


class CrossEntropy(nn.CrossEntropyLoss):
    """Of networks with one output."""

    def __init__(self, label_smoothing: float) -> None:
        super().__init__(label_smoothing=label_smoothing)

    def forward(self, output: Any, labels: Tensor) -> Tensor:
        if not isinstance(output, Tensor):
            raise TrainingError(
                f"In training the network gives {len(output)} outputs, and cross-entropy is learnt from one.",
                hint="Build it without auxiliary classifiers, or give zoo.training.train a criterion.",
            )
        return super().forward(output, labels)

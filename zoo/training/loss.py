"""The default loss."""

from typing import Any

from torch import Tensor, nn

from zoo.errors import TrainingError


class CrossEntropy(nn.CrossEntropyLoss):
    """Cross-entropy for networks with one output; labels are int64 B or shares of the classes, float B K."""

    def __init__(self, label_smoothing: float) -> None:
        super().__init__(label_smoothing=label_smoothing)

    def forward(self, output: Any, labels: Tensor) -> Tensor:
        if not isinstance(output, Tensor):
            raise TrainingError(
                f"In training the network has {len(output)} outputs, but cross-entropy expects one.",
                hint="Build it without auxiliary classifiers, or pass a criterion to zoo.training.train.",
            )
        return super().forward(output, labels)

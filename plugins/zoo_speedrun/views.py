"""The evaluate hook: six views of each image."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

import zoo.evaluation as default
from zoo.data import Images
from zoo.spec import Preprocess


class Views(nn.Module):
    """The mean of ``network``'s logits over mirrors and shifts of an image.

    Half for the image itself, a quarter each for it shifted by a pixel up and left, and down and
    right, over a reflected border; and of each, half for its mirror image.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Maps images B C H W to logits B classes."""
        height, width = images.shape[2:]
        padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
        up, down = padded[:, :, 2:, 2:], padded[:, :, :height, :width]
        return 0.5 * self._mirrored(images) + 0.25 * (self._mirrored(up) + self._mirrored(down))

    def _mirrored(self, images: Tensor) -> Tensor:
        logits: Tensor = 0.5 * (self.network(images) + self.network(images.flip(-1)))
        return logits


def evaluate(model: nn.Module, data: Images, *, preprocess: Preprocess, **options: Any) -> Tensor:
    """Returns the logits N K for six views of each image of ``data``; ``options`` are those of
    ``zoo.evaluation.logits``."""
    return default.logits(Views(model), data, preprocess=preprocess, **options)

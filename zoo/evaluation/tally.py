"""Counts of right answers, from which every score follows."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.manifest.interval import wilson
from zoo.system.distributed import Processes

TOP = 5
"""Classes of which one must be right for top-5. It says nothing about fewer than six classes."""


class Tally:
    """Takes in a network's logits, or its classes, for images whose labels number ``classes`` classes."""

    def __init__(self, classes: int) -> None:
        self.done = 0
        self._of_class, self._right_of_class = torch.zeros(2, classes, dtype=torch.int64)
        self._right5 = 0
        self._loss = 0.0
        self._has_top5 = self._has_loss = False

    def add_logits(self, logits: Tensor, labels: Tensor) -> None:
        """Takes in logits, float32 B K, of images with these labels, int64 B."""
        classes = logits.shape[1]
        self._count(logits.topk(min(TOP, classes), dim=1).indices, labels, classes > TOP)
        self._loss += float(F.cross_entropy(logits.double(), labels, reduction="sum"))
        self._has_loss = True

    def add_classes(self, ranked: Tensor, labels: Tensor) -> None:
        """Takes in the classes of images, int64 B k, the likeliest first. Of fewer than five, there is no top-5."""
        self._count(ranked[:, :TOP], labels, ranked.shape[1] >= TOP and len(self._of_class) > TOP)

    def _count(self, ranked: Tensor, labels: Tensor, has_top5: bool) -> None:
        is_right = ranked == labels[:, None]  # B k
        self._of_class += labels.bincount(minlength=len(self._of_class))
        self._right_of_class += labels[is_right[:, 0]].bincount(minlength=len(self._of_class))
        self._right5 += int(is_right.any(dim=1).sum())
        self._has_top5 = has_top5
        self.done += len(labels)

    def share(self, group: Processes) -> None:
        """Makes the counts of all processes those of each."""
        counts = (self._right5, *self._of_class.tolist(), *self._right_of_class.tolist())
        self._loss, right5, *of_classes = group.totals(self._loss, *counts)
        self._right5 = int(right5)
        self._of_class, self._right_of_class = torch.tensor(of_classes).long().view(2, -1)
        self.done = int(self._of_class.sum())
        # A process may have got no image.
        self._has_top5, self._has_loss = group.any(self._has_top5), group.any(self._has_loss)

    def scores(self) -> dict[str, Any]:
        """The fields of a report that follow from the counts."""
        right = int(self._right_of_class.sum())
        low, high = wilson(right, self.done)
        of_each = self._right_of_class.double() / self._of_class
        return {
            "correct": right,
            "top1": 100 * right / self.done,
            "mean_class": 100 * float(of_each[self._of_class > 0].mean()),
            "top5": 100 * self._right5 / self.done if self._has_top5 else None,
            "interval": (100 * low, 100 * high),
            "loss": self._loss / self.done if self._has_loss else None,
        }

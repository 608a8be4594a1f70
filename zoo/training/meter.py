"""Loss and accuracy of an epoch in progress, and the watch over losses that are not numbers."""

import torch
from torch import Tensor

from zoo.errors import TrainingError


class Meter:
    """Sums over the images seen so far in an epoch.

    Values stay on the device until :meth:`settle`, so that an accelerator is not made to wait.
    """

    def __init__(self, loss: float = 0.0, correct: int = 0, seen: int = 0, seconds: float = 0.0) -> None:
        self.loss = loss
        self.correct = correct
        self.seen = seen
        self.seconds = seconds
        self._pending: list[tuple[int, float, int, Tensor, Tensor]] = []

    def add(self, step: int, lr: float, images: int, loss: Tensor, correct: Tensor) -> None:
        """One step: its mean ``loss`` and the count of ``correct`` answers, scalars both."""
        self._pending.append((step, lr, images, loss, correct))

    def settle(self, epoch: int) -> float:
        """Takes in what is pending; returns the last loss; raises :class:`TrainingError` at NaN or infinity."""
        if not self._pending:
            return self.loss / max(self.seen, 1)
        losses = torch.stack([loss for *_, loss, _ in self._pending]).double().tolist()
        counts = torch.stack([correct for *_, correct in self._pending]).tolist()
        for (step, lr, images, *_), loss, correct in zip(self._pending, losses, counts, strict=True):
            if loss != loss or abs(loss) == float("inf"):
                raise TrainingError(
                    f"The loss became {loss} at epoch {epoch + 1}, step {step + 1}, learning rate {lr:g}.",
                    hint="The last checkpoint is from before it. Start again with a lower lr, a longer warm-up "
                    "(warmup_epochs) or clip_grad=1.",
                )
            self.loss += loss * images
            self.correct += correct
            self.seen += images
        self._pending.clear()
        return float(losses[-1])

    def state(self) -> dict[str, float]:
        """What the constructor takes to go on from here."""
        return {"loss": self.loss, "correct": self.correct, "seen": self.seen, "seconds": self.seconds}

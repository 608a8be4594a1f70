"""Loss and accuracy of the current epoch, and the check for NaN and infinity."""

import torch
from torch import Tensor

from zoo.errors import TrainingError
from zoo.system.distributed import Processes

DIVERGED = (
    "The last checkpoint, if any, is from before that. Start again with a lower lr, a longer warm-up "
    "(warmup_epochs) or clip_grad=1."
)
"""What to do if numbers stopped being numbers."""


class Meter:
    """Sums over the images seen so far in an epoch.

    Values stay on the device until :meth:`settle`, so that an accelerator does not have to wait; then they are summed
    over all ``processes``.
    """

    def __init__(
        self,
        processes: Processes,
        loss: float = 0.0,
        correct: int = 0,
        seen: int = 0,
        seconds: float = 0.0,
    ) -> None:
        self._processes = processes
        self.loss = loss
        self.correct = correct
        self.seen = seen
        self.seconds = seconds
        self._pending: list[tuple[int, float, int, Tensor, Tensor]] = []

    def add(self, step: int, lr: float, images: int, loss: Tensor, correct: Tensor) -> None:
        """Adds one step of ``images``: this process's part of the mean ``loss`` and the ``correct`` count."""
        self._pending.append((step, lr, images, loss, correct))

    def settle(self, epoch: int) -> float:
        """Adds pending values; returns the last loss; raises :class:`TrainingError` at NaN or infinity."""
        if not self._pending:
            return self.loss / max(self.seen, 1)
        parts = torch.stack([torch.stack([loss.double(), correct.double()]) for *_, loss, correct in self._pending])
        losses, counts = self._processes.sum(parts).T.tolist()
        for (step, lr, images, *_), loss, correct in zip(self._pending, losses, counts, strict=True):
            if loss != loss or abs(loss) == float("inf"):
                raise TrainingError(
                    f"The loss became {loss} at epoch {epoch + 1}, step {step + 1}, learning rate {lr:g}.",
                    hint=DIVERGED,
                )
            self.loss += loss * images
            self.correct += int(correct)
            self.seen += images
        self._pending.clear()
        return float(losses[-1])

    def state(self) -> dict[str, float]:
        """The constructor's argument to continue from here."""
        return {"loss": self.loss, "correct": self.correct, "seen": self.seen, "seconds": self.seconds}

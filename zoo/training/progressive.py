"""Progressive resizing in a recipe; does not import torch."""

from typing import Annotated

import msgspec


class Progressive(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Progressive resizing, as in fastai and Composer: early epochs see smaller images, which cost less.

    The side of the images grows linearly from ``initial_scale`` of the full side to all of it, in steps of
    ``increment`` pixels; the last ``full_share`` of the epochs, at least one, see full images.

    Args:
        initial_scale: The side in the first epoch, as a share of the full side.
        full_share: Share of the epochs, at the end, with images of the full side.
        increment: Sides are multiples of this many pixels, apart from the full side.
    """

    initial_scale: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.625
    full_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.3
    increment: Annotated[int, msgspec.Meta(ge=1)] = 4

    def side(self, full: int, epoch: int, epochs: int) -> int:
        """Side in pixels of the images of ``epoch``, from 0, of which there are ``epochs``, where ``full`` is all."""
        growing = (1 - self.full_share) * epochs
        if epoch >= min(growing, epochs - 1):
            return full
        scale = self.initial_scale + (1 - self.initial_scale) * epoch / growing
        return min(full, max(1, round(scale * full / self.increment)) * self.increment)

    def share_of_pixels(self, full: int, epochs: int) -> float:
        """Pixels of a training of ``epochs`` as a share of those of one with full images."""
        return sum((self.side(full, epoch, epochs) / full) ** 2 for epoch in range(epochs)) / epochs

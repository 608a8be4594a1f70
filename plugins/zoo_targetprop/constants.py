"""The table ``hook_args`` of this family's recipes."""

from typing import Annotated

import msgspec

NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class Constants(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Constants, by default those of the authors' program (donghyunlee/dtp)."""

    step_size: NotNegative = 0.3277
    """Step of the last hidden layer's target down the gradient of an image's own loss.

    The authors' is down the gradient of the mean over a batch of 100: 0.003277 here.
    """
    noise: NotNegative = 0.360
    """Standard deviation of the noise that inverses learn to undo."""
    inverse_lr: NotNegative = 0.00501 / 0.01489
    """Learning rate of the inverses over that of the layers."""

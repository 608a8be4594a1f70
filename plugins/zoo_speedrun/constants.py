"""The table ``hook_args`` of this family's recipes."""

from typing import Annotated

import msgspec

Positive = Annotated[int, msgspec.Meta(ge=1)]


class Constants(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Constants, by default those of the author's scripts (KellerJordan/cifar10-airbench)."""

    whitened_images: Positive = 5000
    """Training images, from the first on, that the first layer whitens."""
    bias_epochs: Annotated[int, msgspec.Meta(ge=0)] = 3
    """Epochs during which that layer's bias learns."""
    norm_bias_scale: Annotated[float, msgspec.Meta(gt=0)] = 64.0
    """Learning rate of normalisation's biases over that of all other parameters; they decay no faster."""

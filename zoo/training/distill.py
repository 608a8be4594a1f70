"""The distillation settings of a recipe; does not import torch."""

from typing import Annotated

import msgspec


class Distill(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a network learns from a teacher (Hinton, Vinyals and Dean 2015, arXiv 1503.02531, section 2).

    The loss is (1 - ``alpha``) times that of the labels plus ``alpha`` T^2 KL(teacher || network), whose outputs are
    the softmax of the logits over the ``temperature`` T. T^2 keeps the gradient's size.

    Args:
        alpha: Weight of the teacher's outputs.
        temperature: T, by which logits are divided.
    """

    alpha: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    temperature: Annotated[float, msgspec.Meta(gt=0)] = 4.0

"""How a checkpoint of another project becomes a family's own."""

import re
from collections.abc import Mapping
from math import inf
from typing import Any, Literal

from zoo.spec.checked import Spec


class KeyMap(Spec, frozen=True):
    """How another lineage's checkpoint becomes this family's: for ``zoo convert``.

    Args:
        name: The name of the lineage, such as ``keras``.
        rename: Pairs of a regular expression and its replacement, applied to each key in order. All fields below refer
            to the new keys.
        drop: Regular expressions of keys that are not weights.
        transpose: A regular expression, a shape and a permutation: the tensor is viewed as that shape, unless it is
            empty, and its dimensions are permuted. Keras's convolutions, H W I O, have ``(3, 2, 0, 1)``.
        fold_bias: The regular expression of a convolution's bias, and a replacement with the name of the running mean
            behind it. The convolutions of this family have no bias, so it is subtracted from that mean.
        norm_eps: The epsilon of the lineage's batch normalisation and that of this family: the difference is added to
            the variances.
        ones: Regular expressions of keys that the lineage lacks because it multiplies by 1, such as Keras's
            normalisations with ``scale=False``.
        input_order: The order of colours that the lineage's first layer takes, the model's ``stem``. It is made to take
            RGB instead.
        input_scale: The largest value of a pixel that this layer takes. It is made to take [0, 1] instead, less the
            mean in ``preprocess``.
        args: Arguments of the build function that the lineage assumes.
        preprocess: Fields of ``Preprocess`` that the lineage assumes.
        classes: The data set whose classes it knows.
        origin: Where its weights come from, for their manifest.
    """

    name: str
    rename: tuple[tuple[str, str], ...] = ()
    drop: tuple[str, ...] = ()
    transpose: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    fold_bias: tuple[tuple[str, str], ...] = ()
    norm_eps: tuple[float, float] | None = None
    ones: tuple[str, ...] = ()
    input_order: Literal["rgb", "bgr"] = "rgb"
    input_scale: float = 1.0
    args: Mapping[str, Any] = {}
    preprocess: Mapping[str, Any] = {}
    classes: str = ""
    origin: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        rewritten = [old for old, _ in (*self.rename, *self.fold_bias)]
        for pattern in (*rewritten, *self.drop, *self.ones, *(pattern for pattern, _, _ in self.transpose)):
            try:
                re.compile(pattern)
            except re.error as error:
                self.require(False, f"{pattern!r} is not a regular expression: {error}")
        for pattern, _, order in self.transpose:
            self.require(sorted(order) == [*range(len(order))], f"{order} for {pattern!r} is not a permutation")
        self.require(0 < self.input_scale < inf, f"input_scale {self.input_scale} must be positive and finite")

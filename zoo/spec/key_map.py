"""How a checkpoint of another project becomes a family's own."""

import re
from collections.abc import Mapping
from math import inf
from typing import Any, Literal

from zoo.spec.checked import Spec


class KeyMap(Spec, frozen=True):
    """How another lineage's checkpoint becomes this family's: for ``zoo convert``.

    ``rename`` holds (regular expression, replacement) pairs, applied to each key in order; ``drop``
    regular expressions of keys that carry no weights. All other fields refer to the new keys:

    ``transpose`` holds (regular expression, shape, permutation): the tensor is viewed as ``shape``, as it
    is where that is empty, and its dimensions permuted. Keras's convolutions, H W I O, are ``(3, 2, 0, 1)``.
    ``fold_bias`` holds (regular expression of a convolution's bias, replacement that gives the running mean
    behind it): ours have no bias there, so it is taken off that mean. ``norm_eps`` is the epsilon of the
    lineage's batch normalisation and ours: the difference is added to the variances.
    ``ones`` holds regular expressions of keys that the lineage lacks because it multiplies by 1: Keras's
    normalisations with ``scale=False``.
    ``input_order`` and ``input_scale`` are what the lineage's first layer, the model's ``stem``, takes; it is
    made to take RGB in [0, 1] instead, less the mean that ``preprocess`` gives.

    ``args`` and ``preprocess`` are what the lineage assumes of the build and of the input, ``classes`` the
    data set whose classes it knows.
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

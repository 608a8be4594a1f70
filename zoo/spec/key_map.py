"""How a checkpoint of another project becomes a family's own."""

import re
from collections.abc import Mapping
from math import inf
from typing import Any, Literal

from zoo.spec.checked import Spec


class KeyMap(Spec, frozen=True):
    """How another lineage's checkpoint becomes this family's: for ``zoo convert``.

    Patterns are regular expressions of keys. ``models`` apart, all fields but ``rename`` and ``drop``
    refer to the new keys.

    Args:
        name: The name, for ``zoo convert --from NAME``.
        models: Patterns of the models that it is for, ``resnet*`` or ``plugin/arch``; needed for models of another
            plugin, whose conversions use it if it is asked for. By default all models of its own plugin.
        rename: (pattern, replacement) pairs, applied to each key in order.
        drop: Patterns of keys that carry no weights.
        transpose: (pattern, shape, permutation): the tensor is viewed as ``shape``, as it is if that is empty, and its
            dimensions are permuted. Keras's convolutions, H W I O, are ``(3, 2, 0, 1)``.
        fold_bias: (pattern of a convolution's bias, replacement that gives the running mean behind it). Ours have no
            bias there, so it is subtracted from that mean.
        norm_eps: The epsilon of the lineage's batch normalisation and ours. The difference is added to the variances.
        ones: Patterns of keys that the lineage lacks because it multiplies by 1: Keras's normalisations with
            ``scale=False``.
        input_order: The order of channels that the lineage's first layer, the model's ``stem``, takes. It is made to
            take RGB in [0, 1], less the mean that ``preprocess`` states.
        input_scale: The largest value of a pixel that it takes.
        args: What the lineage assumes of the build function's arguments.
        preprocess: What it assumes of the preprocessing.
        classes: The data set whose classes it knows.
        origin: Where such checkpoints are from.
    """

    name: str
    models: tuple[str, ...] = ()
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

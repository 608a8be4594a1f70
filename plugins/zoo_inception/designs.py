"""The widths of GoogLeNet's modules, and what else sets its forms apart.

Szegedy et al. 2014, "Going Deeper with Convolutions", table 1; torchvision's network.
"""

from typing import Literal, NamedTuple


class Widths(NamedTuple):
    """Maps of one module: of each branch, and of the 1x1 reductions before 3x3 and 5x5 (``_reduce``)."""

    one: int
    three_reduce: int
    three: int
    five_reduce: int
    five: int
    pool: int


Modules = dict[str, Widths]

PAPER: Modules = {
    "3a": Widths(64, 96, 128, 16, 32, 32),
    "3b": Widths(128, 128, 192, 32, 96, 64),
    "4a": Widths(192, 96, 208, 16, 48, 64),
    "4b": Widths(160, 112, 224, 24, 64, 64),
    "4c": Widths(128, 128, 256, 24, 64, 64),
    "4d": Widths(112, 144, 288, 32, 64, 64),
    "4e": Widths(256, 160, 320, 32, 128, 128),
    "5a": Widths(256, 160, 320, 32, 128, 128),
    "5b": Widths(384, 192, 384, 48, 128, 128),
}
"""Table 1."""
SMALL: Modules = {
    "3a": Widths(16, 16, 24, 8, 8, 8),
    "3b": Widths(24, 16, 32, 8, 16, 16),
    "4a": Widths(40, 24, 40, 8, 16, 16),
    "4b": Widths(32, 24, 48, 8, 16, 16),
    "4c": Widths(32, 24, 48, 8, 16, 16),
    "4d": Widths(24, 32, 64, 8, 16, 16),
    "4e": Widths(48, 32, 64, 8, 24, 24),
    "5a": Widths(96, 56, 112, 16, 48, 48),
    "5b": Widths(128, 72, 144, 16, 56, 56),
}
"""Widths for 32x32 images: about a fifth of table 1's widths, a third in the last two modules, in multiples of 8."""

SMALL_NAIVE: Modules = {
    "3a": Widths(8, 0, 12, 0, 4, 0),
    "3b": Widths(8, 0, 12, 0, 4, 0),
    "4a": Widths(12, 0, 16, 0, 4, 0),
    "4b": Widths(12, 0, 16, 0, 4, 0),
    "4c": Widths(12, 0, 16, 0, 4, 0),
    "4d": Widths(12, 0, 16, 0, 4, 0),
    "4e": Widths(16, 0, 16, 0, 8, 0),
    "5a": Widths(24, 0, 28, 0, 8, 0),
    "5b": Widths(28, 0, 28, 0, 8, 0),
}
"""``SMALL`` without reductions, at about the same parameters and multiply-adds."""


class Design(NamedTuple):
    """The choices that set one of the networks apart from another.

    ``stem`` is ``imagenet`` (7x7 of stride 2, pool, 1x1, 3x3, pool) or ``cifar`` (3x3, to ``stem_chans``).
    ``five`` is the side of the filters in the branch of 5x5. ``last_pool`` that of the pool before 5a.
    ``norm`` is batch normalisation in every convolution, ``lrn`` response normalisation in the stem.
    ``naive`` leaves out the reductions of all modules. ``adaptive`` averages maps for the
    auxiliary heads over 4x4 places, where the paper does over 5x5 with stride 3.
    """

    modules: Modules
    stem: Literal["imagenet", "cifar"] = "imagenet"
    stem_chans: int = 192
    five: int = 5
    last_pool: int = 3
    norm: bool = True
    lrn: bool = False
    naive: bool = False
    adaptive: bool = False


DESIGNS: dict[str, Design] = {
    "2014": Design(PAPER, norm=False, lrn=True),
    "2014_naive": Design(PAPER, norm=False, lrn=True, naive=True),
    "torchvision": Design(PAPER, five=3, last_pool=2, adaptive=True),
    "small": Design(SMALL, stem="cifar", stem_chans=32),
    "small_naive": Design(SMALL_NAIVE, stem="cifar", stem_chans=16, naive=True),
}

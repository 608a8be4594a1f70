"""The definition of an attack within a ball around an image; does not import torch."""

from typing import Annotated, Literal

import msgspec

from zoo.errors import SpecError
from zoo.registry import extensions
from zoo.spec import AttackMethod, Spec

METHODS = ("fgsm", "pgd", "pgd_l2", "autoattack", "random_sign")
"""Zoo's own; plugins bring others. ``random_sign`` needs no gradient: it is the control of the others."""


class Method(Spec, frozen=True, forbid_unknown_fields=True):
    """The way in which an image is changed within ``epsilon`` of itself; ``epsilon`` is not part of it.

    ``fgsm`` is one step along the sign of the gradient (Goodfellow, Shlens and Szegedy 2014, arXiv 1412.6572). ``pgd``
    and ``pgd_l2`` take ``steps`` of ``step_size`` times epsilon, each projected back onto the ball in L-inf or L2, from
    a random point of it unless ``random_start`` is off (Madry et al. 2017, arXiv 1706.06083). ``step_size`` 0 means 2.5
    / steps, with which any point of the ball can be reached. ``autoattack`` is an ensemble in L-inf, see
    :mod:`zoo_attack.gradient`. ``random_sign`` adds epsilon with a random sign to each value. Other names are those
    of plugins (:class:`zoo.spec.AttackMethod`). ``seed`` determines all random numbers.

    Raises :class:`zoo.SpecError` for other values, and :class:`zoo.errors.UnknownNameError` for an unknown name.
    """

    name: str = "pgd"
    steps: Annotated[int, msgspec.Meta(ge=1)] = 20
    step_size: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    random_start: bool = True
    seed: int = 0

    def _check(self) -> None:
        _ = self.own

    @property
    def own(self) -> AttackMethod | None:
        """The plugin's row of this method; None for Zoo's own."""
        if self.name in METHODS:
            return None
        own: AttackMethod = extensions.require("attacks", self.name, METHODS).spec
        return own

    @property
    def norm(self) -> Literal["linf", "l2"]:
        """The norm in which epsilon is measured."""
        own = self.own
        return own.norm if own is not None else "l2" if self.name == "pgd_l2" else "linf"

    @property
    def relative_step(self) -> float:
        """The size of a step, in units of epsilon."""
        return self.step_size or 2.5 / self.steps


def read_epsilon(text: str) -> float:
    """Returns ``8/255`` or ``0.03`` as a number; raises :class:`SpecError` unless it is finite and at least 0."""
    above, slash, below = text.partition("/")
    try:
        value = float(above) / (float(below) if slash else 1.0)
    except (ValueError, ZeroDivisionError):
        value = -1.0
    if not 0 <= value < float("inf"):
        raise SpecError(f"epsilon {text!r} is invalid: expected a number of at least 0, such as 8/255 or 0.03.")
    return value

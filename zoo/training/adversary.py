"""The adversarial training settings of a recipe; does not import torch."""

from typing import Annotated, Literal

import msgspec

NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class Adversary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Training images are attacked with the network as it is, and learnt from.

    Attacks are made in eval mode, so that they do not change the network's running statistics.

    Args:
        attack: ``fgsm`` (Goodfellow, Shlens and Szegedy 2014, section 6), or ``pgd`` and ``pgd_l2`` (Madry et al.
            2017).
        epsilon: Largest change, in pixel units before normalisation, values in [0, 1] (8/255 = 0.0314).
        steps: Steps of the attack.
        step_size: Size of a step in units of epsilon; 0 means 2.5 / steps, with which any point can be reached.
        random_start: Whether the attack starts at a random point.
        clean: Weight of the loss of the unchanged images; the attacked ones have the rest. By default 0.5 with ``fgsm``
            and 0 with ``pgd`` and ``pgd_l2``.
    """

    attack: Literal["fgsm", "pgd", "pgd_l2"] = "pgd"
    epsilon: NotNegative = 8 / 255
    steps: Annotated[int, msgspec.Meta(ge=1)] = 7
    step_size: NotNegative = 0.0
    random_start: bool = True
    clean: Annotated[float, msgspec.Meta(ge=0, lt=1)] | None = None

    @property
    def clean_share(self) -> float:
        """``clean``, or what it is by default."""
        return self.clean if self.clean is not None else 0.5 if self.attack == "fgsm" else 0.0

    @property
    def name(self) -> str:
        """``attack``, as :class:`zoo.training.perturbation.Steps` calls it."""
        return self.attack

    @property
    def norm(self) -> Literal["linf", "l2"]:
        """The norm in which epsilon is measured."""
        return "l2" if self.attack == "pgd_l2" else "linf"

    @property
    def relative_step(self) -> float:
        """The size of a step, in units of epsilon; 2.5 / steps if ``step_size`` is 0."""
        return self.step_size or 2.5 / self.steps

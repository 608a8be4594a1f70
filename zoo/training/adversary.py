"""The adversarial training settings of a recipe; does not import torch."""

from typing import Annotated, Literal

import msgspec

from zoo.attack.method import Method

NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class Adversary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Training images are attacked within ``epsilon``, as the network stands, and learnt from.

    ``epsilon`` is in pixel units before normalisation, values in [0, 1] (8/255 = 0.0314). The loss is
    ``clean`` times that of the images plus (1 - ``clean``) times that of the attacked ones: by default 0.5
    with ``fgsm`` (Goodfellow, Shlens and Szegedy 2014, section 6), and 0, attacked images alone, with
    ``pgd`` and ``pgd_l2`` (Madry et al. 2017). ``steps``, ``step_size`` and ``random_start`` are those of
    :class:`zoo.attack.Method`. Attacks are made in eval mode, so that they leave no trace in the network.
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
    def method(self) -> Method:
        return Method(self.attack, self.steps, self.step_size, self.random_start)

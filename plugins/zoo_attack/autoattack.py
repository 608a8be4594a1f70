"""AutoAttack, implemented by the distribution pyautoattack: the strongest and slowest attack here."""

import logging
from typing import Any

import torch
from torch import Tensor

from zoo.errors import AttackError, MissingExtraError
from zoo.training.perturbation import PixelModel


def run_autoattack(model: PixelModel, images: Tensor, labels: Tensor, epsilon: float, seed: int) -> Tensor:
    """``images`` B C H W under the standard ensemble in L-inf: APGD-CE, targeted APGD-DLR, FAB and Square.

    Images that none of them fools are returned unchanged. The targeted attacks need at least ten classes. The state of
    the caller's random generators is restored. Croce and Hein 2020, arXiv 2003.01690.
    """
    try:
        from pyautoattack import AutoAttack
    except ImportError:
        raise MissingExtraError.of("AutoAttack", "pyautoattack", "zoo-vision[autoattack]") from None
    with torch.no_grad():
        classes = model(images[:1]).shape[1]
    if classes < 10:
        raise AttackError(f"AutoAttack's targeted attacks need at least 10 classes, but the network has {classes}.")
    logging.getLogger("auto-attack").setLevel(logging.ERROR)  # it tells each step
    with torch.random.fork_rng():
        attack: Any = AutoAttack(model, norm="Linf", eps=epsilon, seed=seed, device=images.device)
        changed, _ = attack.run_standard_evaluation(images, labels, batch_size=len(images))
    found: Tensor = changed.detach().to(images)
    return found

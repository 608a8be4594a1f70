"""A check of ``zoo.attack`` for the conformance kit: an attack works, or says why not, and leaves nothing behind."""

import torch

from zoo.errors import AttackError
from zoo.testing.subject import BATCH, Subject, expect
from zoo.testing.values import is_same, trace_of
from zoo.training.perturbation import under_attack
from zoo_attack.gradient import fgsm

EPSILON = 8 / 255
"""The epsilon of the attack, in pixel units."""


def attack(subject: Subject) -> str:
    """Checks that FGSM changes images within epsilon, or says that there is no gradient; the network stays as it was.

    Fix: a forward in evaluation mode must not change the network.
    """
    module, preprocess = subject.module, subject.model.preprocess
    noise = torch.rand((BATCH, *preprocess.input_size), generator=torch.Generator().manual_seed(0))
    before, reason = trace_of(module), ""
    try:
        with under_attack(module, preprocess) as pixel_model:
            with torch.no_grad():  # of the least likely class the gradient is never 0, as where softmax is saturated
                labels = pixel_model(noise).argmin(dim=1)
            changed = fgsm(pixel_model, noise, labels, EPSILON)
            largest = float((changed.double() - noise.double()).abs().max())
            expect(0 < largest <= EPSILON, f"FGSM within {EPSILON:.5f} changes pixels by up to {largest:.5f}")
            expect(0 <= changed.min() <= changed.max() <= 1, "FGSM leaves [0, 1]")
    except AttackError as error:
        reason = str(error)
    after = trace_of(module)
    different = [key for key in {*before, *after} if not is_same(before.get(key), after.get(key))]
    expect(not different, f"an attack changes {', '.join(sorted(different))}")
    return reason

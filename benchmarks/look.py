"""Images per second of deconvnets and attribution in Zoo and captum, for the same networks and images.

Both compute the same values up to rounding (tests/look). They alternate, after a warm-up run. Values are
medians of CPU time of one thread, so that other programs have little effect.
Run with ``make bench`` or ``python benchmarks/look.py [ROUNDS]``.
"""

import statistics
import sys
import time
import warnings
from collections.abc import Callable

import torch
from captum import attr
from measure import table
from torch import Tensor, nn

from zoo_look import attribution
from zoo_look.network import Deconvolution, Rectifiers, opened

BATCH = 8
Question = Callable[[nn.Module, Tensor, Tensor], Tensor]

WEIGHTS = {"resnet20.c10": "layer3", "alexnet_small.c10": "features.11", "googlenet_small.c10": "inception5b"}
"""And the layer of Grad-CAM."""


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)  # captum announces its hooks
    rows = []
    for name, layer in WEIGHTS.items():
        with opened(name) as network:
            images = torch.randn(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(0))
            targets = torch.arange(BATCH) % 10
            for question, (ours, theirs) in questions(layer).items():
                rows.append((name, question, *compare(ours, theirs, network, images, targets, rounds)))
                print(*rows[-1], sep=", ", file=sys.stderr)
    head = ("weights", "question", "Zoo images/s", "range", "captum images/s", "range", "times faster")
    print(table(head, rows))


def compare(
    ours: Question, theirs: Question, network: nn.Module, images: Tensor, targets: Tensor, rounds: int
) -> tuple[str, ...]:
    taken: dict[Question, list[float]] = {ours: [], theirs: []}
    for round_ in range(rounds + 1):
        for ask, seconds in taken.items():
            started = time.process_time()
            ask(network, images, targets)
            if round_:
                seconds.append(time.process_time() - started)
    rates = [sorted(BATCH / s for s in seconds) for seconds in taken.values()]
    own, other = (statistics.median(found) for found in rates)
    spans = [f"{found[0]:,.0f} to {found[-1]:,.0f}" for found in rates]
    return f"{own:,.0f}", spans[0], f"{other:,.0f}", spans[1], f"{own / other:.2f}"


def deconvnet(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    with Rectifiers(Deconvolution):
        return attribution.gradient(network, images, targets)


def questions(layer: str) -> dict[str, tuple[Question, Question]]:
    return {
        "deconvnet of a logit": (deconvnet, lambda n, x, t: attr.Deconvolution(n).attribute(x, t)),
        "gradient": (attribution.gradient, lambda n, x, t: attr.Saliency(n).attribute(x, t, abs=False)),
        "input x gradient": (attribution.input_x_gradient, lambda n, x, t: attr.InputXGradient(n).attribute(x, t)),
        "guided backpropagation": (
            attribution.guided_backprop,
            lambda n, x, t: attr.GuidedBackprop(n).attribute(x, t),
        ),
        "Grad-CAM": (
            lambda n, x, t: attribution.grad_cam(n, x, t, layer),
            lambda n, x, t: attr.LayerGradCam(n, n.get_submodule(layer)).attribute(x, t, relu_attributions=True),
        ),
        "guided Grad-CAM": (
            lambda n, x, t: attribution.guided_grad_cam(n, x, t, layer),
            lambda n, x, t: attr.GuidedGradCam(n, n.get_submodule(layer)).attribute(x, t, interpolate_mode="bilinear"),
        ),
        "occlusion, 8 x 8 every 4": (
            lambda n, x, t: attribution.occlusion(n, x, t, window=8, stride=4, batch_size=4 * len(x)),
            lambda n, x, t: attr.Occlusion(n).attribute(
                x, (x.shape[1], 8, 8), strides=(x.shape[1], 4, 4), target=t, perturbations_per_eval=4
            ),
        ),
    }


if __name__ == "__main__":
    main()

"""Attribution methods: each computes scores from a network, inputs B C H W and targets B."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import MissingExtraError, SpecError, WeightsError
from zoo_look.network import name_of, submodule
from zoo_look.rectifiers import Guided, Rectifiers
from zoo_look.top_patches import Progress
from zoo_look.units import downward


def gradient(network: nn.Module, inputs: Tensor, targets: Tensor, layer: str = "") -> Tensor:
    """Of each image's target logit by its input, B C H W."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = inputs.detach().clone().requires_grad_()
        logits = network(leaf.clone())  # the first layer may work in place
        return downward(logits, leaf, F.one_hot(targets, logits.shape[1]).to(logits), "")


def input_x_gradient(network: nn.Module, inputs: Tensor, targets: Tensor, layer: str = "") -> Tensor:
    return inputs * gradient(network, inputs, targets)


def guided_backprop(network: nn.Module, inputs: Tensor, targets: Tensor, layer: str = "") -> Tensor:
    """Raises :class:`WeightsError` for a network without a ReLU."""
    with Rectifiers(Guided) as seen:
        found = gradient(network, inputs, targets)
    if not seen.relus:
        raise WeightsError(f"{name_of(network)} has no ReLU, so guided backpropagation would equal the gradient.")
    return found


def grad_cam(network: nn.Module, inputs: Tensor, targets: Tensor, layer: str) -> Tensor:
    """B h w: the positive part of the layer's maps, each weighed by its mean gradient."""
    with torch.inference_mode(False), torch.enable_grad(), _cut_off(network, layer) as kept:
        logits = network(inputs)
        if not kept or kept[-1].ndim != 4:
            raise WeightsError(f"{layer} does not output maps, which Grad-CAM needs.")
        maps = kept[-1]
        slope = downward(logits, maps, F.one_hot(targets, logits.shape[1]).to(logits), "")
        return (slope.mean((2, 3), keepdim=True) * maps.detach()).sum(1).relu()


def guided_grad_cam(network: nn.Module, inputs: Tensor, targets: Tensor, layer: str) -> Tensor:
    cam = enlarged(grad_cam(network, inputs, targets, layer), inputs.shape[2:])
    return guided_backprop(network, inputs, targets) * cam[:, None]


def occlusion(
    network: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    window: int | None = None,
    stride: int | None = None,
    fill: float = 0.0,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Tensor:
    """B H W: for each pixel the mean, over the windows that hold it, of the logit's fall when the window is covered."""
    height, width = inputs.shape[2:]
    window = max(1, min(height, width) // 8) if window is None else window
    stride = max(1, window // 2) if stride is None else stride
    if not (1 <= stride <= window <= min(height, width)):
        raise SpecError(f"window = {window}, stride = {stride}: expected 1 <= stride <= window <= the image's side.")
    rows, columns = (range(0, side - window + stride, stride) for side in (height, width))
    places = [(slice(row, row + window), slice(column, column + window)) for row in rows for column in columns]
    total = torch.zeros(len(inputs), height, width, device=inputs.device)
    seen = torch.zeros(height, width, device=inputs.device)
    at_once = max(1, batch_size // len(inputs))
    with torch.no_grad():
        before = network(inputs).gather(1, targets[:, None])
        for first in range(0, len(places), at_once):
            part = places[first : first + at_once]
            covered = inputs.repeat(len(part), 1, 1, 1, 1)  # windows B C H W
            for images, (down, right) in zip(covered, part, strict=True):
                images[:, :, down, right] = fill
            after = network(covered.flatten(0, 1)).gather(1, targets.repeat(len(part))[:, None])
            for fall, (down, right) in zip(before - after.view(len(part), -1, 1), part, strict=True):
                total[:, down, right] += fall[:, :, None]
                seen[down, right] += 1
            if progress is not None:
                progress(min(first + at_once, len(places)), len(places))
    return total / seen


def enlarged(maps: Tensor, size: Sequence[int]) -> Tensor:
    """B h w to B H W, bilinearly."""
    return F.interpolate(maps[:, None], size=tuple(size), mode="bilinear", align_corners=False)[:, 0]


@contextmanager
def _cut_off(network: nn.Module, layer: str) -> Iterator[list[Tensor]]:
    """The outputs of ``layer`` as the start of the graph: no gradient goes further down."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, _: object, output: object) -> object:
        if not isinstance(output, Tensor):
            raise WeightsError(f"{layer} outputs {type(output).__name__}, not maps.")
        kept.append(output.detach().clone().requires_grad_())
        return kept[-1].clone()  # what comes next may work in place

    handle = submodule(network, layer).register_forward_hook(keep)
    try:
        yield kept
    finally:
        handle.remove()


def integrated_gradients(
    network: nn.Module, inputs: Tensor, targets: Tensor, samples: int, noise: float, seed: int
) -> Tensor:
    with _captum() as attr, torch.enable_grad():
        found: Tensor = attr.IntegratedGradients(network).attribute(
            inputs, target=targets, n_steps=samples, internal_batch_size=64
        )
    return found.detach()


def smooth_grad(network: nn.Module, inputs: Tensor, targets: Tensor, samples: int, noise: float, seed: int) -> Tensor:
    devices = [inputs.device] if inputs.device.type == "cuda" else []
    with _captum() as attr, torch.random.fork_rng(devices=devices), torch.enable_grad():
        torch.manual_seed(seed)
        tunnel = attr.NoiseTunnel(attr.Saliency(network))
        found: Tensor = tunnel.attribute(
            inputs, nt_type="smoothgrad", nt_samples=samples, stdevs=noise, target=targets, abs=False
        )
    return found.detach()


@contextmanager
def _captum() -> Iterator[Any]:
    import warnings

    try:
        from captum import attr
    except ImportError:
        raise MissingExtraError.of("This attribution", "captum", "zoo-vision[look]") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it asks inputs for gradients, which we want
        yield attr


BY_GRADIENT: dict[str, Callable[[nn.Module, Tensor, Tensor, str], Tensor]] = {
    "grad_cam": grad_cam,
    "gradient": gradient,
    "guided_backprop": guided_backprop,
    "guided_grad_cam": guided_grad_cam,
    "input_x_gradient": input_x_gradient,
}
BY_CAPTUM: dict[str, Callable[[nn.Module, Tensor, Tensor, int, float, int], Tensor]] = {
    "integrated_gradients": integrated_gradients,
    "smooth_grad": smooth_grad,
}

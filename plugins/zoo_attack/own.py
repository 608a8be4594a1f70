"""Attack methods that plugins bring."""

import torch
from torch import Tensor

from zoo import registry
from zoo.errors import PluginError
from zoo.registry import roles
from zoo.registry.hooks import blaming
from zoo.training.perturbation import PixelModel
from zoo_attack.method import Method


def run_own(
    method: Method, model: PixelModel, images: Tensor, labels: Tensor, epsilon: float, is_targeted: bool
) -> Tensor:
    """``images`` B C H W as the hook of ``method`` changed them; raises :class:`PluginError` for anything else."""
    own = method.own
    assert own is not None
    hook = registry.hook(own.run, own.requires, role=roles.ATTACK, of=method.name)
    with blaming(own.run, method.name), torch.enable_grad():
        changed = hook(model, images.clone(), labels, epsilon, method=method, is_targeted=is_targeted)
    if not isinstance(changed, Tensor) or changed.shape != images.shape or not changed.is_floating_point():
        got = f"{changed.dtype} {tuple(changed.shape)}" if isinstance(changed, Tensor) else type(changed).__name__
        raise PluginError(f"{own.run} returned {got}, expected the images {images.dtype} {tuple(images.shape)}.")
    if not changed.isfinite().all():
        raise PluginError(f"{own.run} returned images that contain NaN or infinity.")
    return changed.detach().to(images)

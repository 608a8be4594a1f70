"""Networks for inference whose convolutions carry their batch normalisation: the same outputs in fewer passes."""

import copy
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

RTOL = 1e-4
"""The share of the largest output that the probes allow in float32 (``zoo.verify.probe``). Rounding makes 1e-6 of
it."""

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)

_CHANGE_NOTHING = {
    "__get__",
    "size",
    "dim",
    "stride",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "feature_dropout",
}
"""Functions that read no values, and those that are the identity in eval mode."""


def folded(model: nn.Module, images: Tensor) -> nn.Module:
    """Returns a copy of ``model``, which is in eval mode, with each normalisation that only a convolution feeds folded
    into it.

    ``model`` itself if there is none, if it has hooks, which a copy would not call, or if the outputs for ``images``,
    B C H W, differ by more than :data:`RTOL`.
    """
    if not any(isinstance(module, _NORMS) for module in model.modules()) or _has_hooks(model):
        return model
    expected, pairs = _observe(model, images)
    if not pairs or not isinstance(expected, Tensor):
        return model
    try:
        other = copy.deepcopy(model)
    except Exception:  # a stranger's network may hold what cannot be copied
        return model
    for convolution, norm in pairs:
        fused = fuse_conv_bn_eval(other.get_submodule(convolution), other.get_submodule(norm))  # type: ignore[arg-type, type-var]  # known by type
        _put(other, convolution, fused)
        _put(other, norm, nn.Identity())
    with torch.inference_mode():
        got = other(images)
    is_close = got.shape == expected.shape and float((got - expected).abs().max()) <= RTOL * float(expected.abs().max())
    return other if is_close else model


class _Uses(TorchFunctionMode):
    """Counts the functions that compute with each tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[int] = Counter()
        self._alive: list[Tensor] = []  # an identity is a tensor's own only while it lives

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") not in _CHANGE_NOTHING:
            for tensor in {id(leaf): leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}.values():
                self.counts[id(tensor)] += 1
                self._alive.append(tensor)
        return func(*args, **kwargs)


def _observe(model: nn.Module, images: Tensor) -> tuple[object, list[tuple[str, str]]]:
    """Returns the outputs for ``images``, and the names of each convolution and the normalisation that alone takes its
    output.

    Modules that run more than once are left out.
    """
    made: dict[int, str] = {}
    norm_inputs: list[tuple[int, str]] = []
    calls: Counter[str] = Counter()
    outputs: list[Tensor] = []

    def after_convolution(name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        calls[name] += 1
        made[id(output)] = name
        outputs.append(output)

    def after_dropout(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if id(inputs[0]) in made and not module.training:
            made[id(output)] = made[id(inputs[0])]
            outputs.append(output)

    def before_norm(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        calls[name] += 1
        norm_inputs.append((id(inputs[0]), name))

    with ExitStack() as stack:
        for name, module in model.named_modules():
            if type(module) in _CONVOLUTIONS:
                stack.callback(module.register_forward_hook(partial(after_convolution, name)).remove)
            elif type(module) in _DROPOUTS:
                stack.callback(module.register_forward_hook(after_dropout).remove)
            elif type(module) in _NORMS and module.track_running_stats and module.affine:
                stack.callback(module.register_forward_pre_hook(partial(before_norm, name)).remove)
        uses = stack.enter_context(_Uses())
        with torch.inference_mode():
            expected = model(images)
    pairs = [(made[key], norm) for key, norm in norm_inputs if key in made and uses.counts[key] == 1]
    return expected, [pair for pair in pairs if calls[pair[0]] == calls[pair[1]] == 1]


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def _has_hooks(model: nn.Module) -> bool:
    return any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())

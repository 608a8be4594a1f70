"""Traces a torch network: one forward pass, of which every call of a torch function is seen."""

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from zoo.convert import layers
from zoo.convert.layers import Layer, Norm, Trace, Value

_ARGUMENTS: Mapping[Callable[..., Any], tuple[str, ...]] = {
    F.conv2d: ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    F.linear: ("input", "weight", "bias"),
    F.batch_norm: ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
}
_CONCATENATE = {torch.cat, torch.concat, torch.concatenate, torch.stack}
_SAME = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.feature_alpha_dropout, torch.dropout, Tensor.contiguous}
"""Do nothing in evaluation."""


def trace(module: nn.Module, images: Tensor) -> Trace:
    """The trace of ``module`` in evaluation; both may be on the meta device, and then it computes nothing."""
    watch = _Watch(module)
    with torch.inference_mode(), watch:
        output = module.eval()(images)
    first = next((leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)), None)
    watch.trace.output = watch.value(first).parts
    return watch.trace


class _Watch(TorchFunctionMode):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        named = chain(module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False))
        self._keys = {id(tensor): key for key, tensor in named}
        self._values: dict[int, tuple[Tensor, Value]] = {}  # with the tensor, or another would get its id
        self.trace = Trace()

    def value(self, tensor: Any) -> Value:
        held = self._values.get(id(tensor))
        return held[1] if held is not None else Value()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if made:
            given = [self.value(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            value = self._of(func, args, kwargs, given)
            for tensor in made:
                self._values[id(tensor)] = (tensor, value)
        return result

    def _of(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], given: list[Value]) -> Value:
        if func in _SAME:
            return given[0]
        self.trace.use(*given)
        if func in _CONCATENATE:
            return layers.concatenated(given)
        if func in _ARGUMENTS:
            bound = dict(zip(_ARGUMENTS[func], args, strict=False)) | dict(kwargs)
            if layer := self._layer(func, bound):
                return self.trace.add(layer)
        return layers.merged(given)

    def _layer(self, func: Any, bound: Mapping[str, Any]) -> Layer | None:
        """The layer of a call whose tensors are the module's own."""
        keys = {name: self._keys.get(id(tensor)) for name, tensor in bound.items() if isinstance(tensor, Tensor)}
        source = self.value(bound["input"])
        if func is F.batch_norm:
            if bound.get("running_mean") is None:
                return None
            norm = Norm(
                keys.get("weight"), keys.get("bias"), keys["running_mean"], keys["running_var"], bound.get("eps", 1e-5)
            )
            form = layers.normalisation(len(bound["running_mean"]))
            return Layer(form, source.parts, norm=norm, follows=source.layer)
        if keys["weight"] is None:  # computed from others, or a constant
            return None
        shape = bound["weight"].shape
        form = layers.convolution(shape)
        if func is F.conv2d:
            stride = bound.get("stride", 1)
            sides = (stride, stride) if isinstance(stride, int) else stride
            form = layers.convolution(shape, sides, bound.get("groups", 1))
        return Layer(form, source.parts, keys["weight"], keys.get("bias"))

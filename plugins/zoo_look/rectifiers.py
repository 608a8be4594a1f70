"""Finds the ReLUs of a network: modules, functions, methods, in place or not, every call of each.

A hook on :class:`torch.nn.ReLU` misses those that a forward calls by name. A torch function mode sees them all, and
nothing of the network is touched.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary


class Deconvolution(torch.autograd.Function):
    """ReLU whose backward pass is a ReLU too: what comes down is rectified, whatever went up.

    Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2013, section 2.1.
    """

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return torch.relu(x)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return torch.relu(gradients[0])


class Guided(torch.autograd.Function):
    """ReLU whose backward pass lets through what is positive both in the gradient and in the forward pass.

    Springenberg et al., "Striving for simplicity", 2014, section 3.4.
    """

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        output = torch.relu(x)
        context.save_for_backward(output)
        return output

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        (output,) = context.saved_tensors
        found: Tensor = torch.ops.aten.threshold_backward(torch.relu(gradients[0]), output, 0)  # where it was open
        return found


_RELUS: set[Any] = {F.relu, torch.relu, Tensor.relu}
_IN_PLACE: set[Any] = {F.relu_, torch.relu_, Tensor.relu_}
_CLAMPS: set[Any] = {torch.clamp, Tensor.clamp, torch.clamp_min, Tensor.clamp_min, torch.clip, Tensor.clip}
_CLAMPS_IN_PLACE: set[Any] = {torch.clamp_, Tensor.clamp_, torch.clamp_min_, Tensor.clamp_min_, Tensor.clip_}
_JOINS: set[Any] = {torch.cat, torch.concat, torch.concatenate}

_OTHERS: Mapping[Any, str] = {
    F.gelu: "GELU",
    F.silu: "SiLU",
    F.mish: "Mish",
    F.hardswish: "Hardswish",
    F.hardsigmoid: "Hardsigmoid",
    F.relu6: "ReLU6",
    F.hardtanh: "Hardtanh",
    F.elu: "ELU",
    F.celu: "CELU",
    F.selu: "SELU",
    F.leaky_relu: "LeakyReLU",
    F.prelu: "PReLU",
    torch.prelu: "PReLU",
    F.rrelu: "RReLU",
    F.softplus: "Softplus",
    F.logsigmoid: "LogSigmoid",
    F.sigmoid: "Sigmoid",
    torch.sigmoid: "Sigmoid",
    Tensor.sigmoid: "Sigmoid",
    F.tanh: "Tanh",
    torch.tanh: "Tanh",
    Tensor.tanh: "Tanh",
}


class Rectifiers(TorchFunctionMode):
    """Within it, ``rule`` computes every ReLU; forward passes stay what they are, bit by bit.

    Without a rule, ReLUs are only watched. ``relus`` counts their calls, ``others`` those of other activations
    by name; :meth:`before` knows what went into a ReLU.
    """

    def __init__(self, rule: type[torch.autograd.Function] | None = None) -> None:
        super().__init__()
        self.rule = rule
        self.relus = 0
        self.others: Counter[str] = Counter()
        self._before: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _OTHERS:
            self.others[_OTHERS[func]] += 1
        if func in _JOINS and self.rule is None:
            return self._join(func, args, kwargs)
        is_in_place = _is_relu(func, args, kwargs)
        if is_in_place is None:
            return func(*args, **kwargs)
        self.relus += 1
        x: Tensor = args[0] if args else kwargs["input"]
        if self.rule is None:
            before = x.clone() if is_in_place else x
            output: Tensor = func(*args, **kwargs)
            self._before[output] = before
            return output
        output = self.rule.apply(x)  # type: ignore[no-untyped-call]  # torch's own is not typed
        return x.copy_(output) if is_in_place else output

    def _join(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """A concatenation, of which it is known too what went into the ReLUs of its parts."""
        output = func(*args, **kwargs)
        parts = list(args[0] if args else kwargs["tensors"])
        if any(part in self._before for part in parts):
            before = [self.before(part) for part in parts]
            self._before[output] = func(before, *args[1:], **{k: v for k, v in kwargs.items() if k != "tensors"})
        return output

    def before(self, output: Tensor) -> Tensor:
        """What a ReLU, or several that were concatenated, made ``output`` of; ``output`` itself if none did."""
        if output not in self._before:
            return output
        found: Tensor = self._before[output]
        return found


def _is_relu(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool | None:
    """Whether this call is a ReLU in place (True), a ReLU (False) or something else (None)."""
    if func in _RELUS:
        return bool(kwargs.get("inplace", args[1] if len(args) > 1 else False))
    if func in _IN_PLACE:
        return True
    if func in _CLAMPS or func in _CLAMPS_IN_PLACE:
        low = kwargs.get("min", args[1] if len(args) > 1 else None)
        high = kwargs.get("max", args[2] if len(args) > 2 else None)
        if isinstance(low, int | float) and low == 0 and high is None:
            return func in _CLAMPS_IN_PLACE
    return None

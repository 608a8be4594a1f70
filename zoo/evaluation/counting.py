"""The size of a network: its parameters, and the multiply-adds that it performs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import addmm_flop, conv_flop, mm_flop

from zoo.evaluation.forward import device_of
from zoo.spec import Model

_FLOPS: dict[object, Callable[..., int]] = {
    torch.ops.aten.convolution: conv_flop,
    torch.ops.aten.mm: mm_flop,
    torch.ops.aten.addmm: addmm_flop,
}


class MultiplyAdds(TorchDispatchMode):
    """A mode within which ``total`` grows by the multiply-adds of convolutions and linear layers, ``outputs`` by their
    elements.

    Counted below the modules, so that ``F.conv2d`` in a forward counts as much as ``nn.Conv2d``.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own is not typed
        self.total = 0
        self.outputs = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if count := _FLOPS.get(func.overloadpacket):
            self.total += count(*args, **kwargs, out_val=output) // 2
            self.outputs += output.numel()
        return output


def params(module: nn.Module) -> int:
    """Counts the elements of all parameters of ``module``, also of frozen ones, as timm and torchvision do."""
    return sum(parameter.numel() for parameter in module.parameters())


def macs(module: nn.Module, input_size: tuple[int, int, int]) -> int:
    """Counts the multiply-adds of ``module`` for one image of ``input_size``, C H W."""
    return work(module, input_size)[0]


def work(module: nn.Module, input_size: tuple[int, int, int]) -> tuple[int, int]:
    """Multiply-adds and activations (outputs of convolutions and linear layers) for one image of ``input_size``."""
    was_training = module.training
    place = device_of(module)
    with torch.no_grad(), MultiplyAdds() as counted:
        module.eval()(torch.zeros(1, *input_size, device=place))
    module.train(was_training)
    return counted.total, counted.outputs


def differing(module: nn.Module, model: Model, input_size: tuple[int, int, int]) -> dict[str, Any]:
    """Returns what of ``params`` and ``macs`` differs from the row's: fields of a manifest's entry."""
    found = {"params": params(module)}
    if model.macs:
        found["macs"] = macs(module, input_size)
    return {name: count for name, count in found.items() if count != getattr(model, name)}

"""Multiply-adds, as a network really asks for them."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import addmm_flop, conv_flop, mm_flop

_FLOPS: dict[object, Callable[..., int]] = {
    torch.ops.aten.convolution: conv_flop,
    torch.ops.aten.mm: mm_flop,
    torch.ops.aten.addmm: addmm_flop,
}


class MultiplyAdds(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own is not typed
    """Within it, ``total`` grows by the multiply-adds of convolutions and linear layers.

    Counted below the modules, so that ``F.conv2d`` in a forward counts as much as ``nn.Conv2d``.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own is not typed
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if count := _FLOPS.get(func.overloadpacket):
            self.total += count(*args, **kwargs, out_val=output) // 2
        return output

"""The processes that train or score one network together: one alone, or those that a launcher started.

``accelerate launch -m zoo train ...`` and ``torchrun -m zoo train ...`` start several; what is done
together goes through Accelerate then. A process alone needs none of it.
"""

import contextlib
import os
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from zoo.errors import MissingExtraError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Processes:
    """This process among ``count``, of which it is number ``rank``; here, the only one."""

    rank = 0
    count = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def device(self, asked: "torch.device | str | None") -> "torch.device":
        """Where this process computes: as ``asked``, else on a GPU where there is one."""
        import torch

        return torch.device(asked or ("cuda" if torch.cuda.is_available() else "cpu"))

    def share(self, total: int) -> range:
        """Which of ``total`` things are this process's: as many for each as can be, in order."""
        return range(self.rank * total // self.count, (self.rank + 1) * total // self.count)

    def wrap(self, module: "nn.Module", *, sync_norm: bool = False) -> "nn.Module":
        """``module``, whose gradients become the mean over processes; with batch statistics over all of them."""
        return module

    def hold_back(self, module: "nn.Module") -> AbstractContextManager[Any]:
        """A context in which the gradients of the wrapped ``module`` stay this process's own sums."""
        return contextlib.nullcontext()

    def sum(self, values: "Tensor") -> "Tensor":
        """``values`` summed over processes, which all call this."""
        return values

    def wait(self) -> None:
        """Returns once every process is here."""


ALONE = Processes()


class _Launched(Processes):
    """One of several, through Accelerate."""

    def __init__(self) -> None:
        self._accelerator: Any = None
        self.rank = int(os.environ["RANK"])
        self.count = int(os.environ["WORLD_SIZE"])

    def _join(self, *, on_cpu: bool) -> Any:
        if self._accelerator is None:
            try:
                from accelerate import Accelerator
            except ImportError:
                raise MissingExtraError.of("Several processes", "accelerate", "zoo-vision[train]") from None
            self._accelerator = Accelerator(cpu=on_cpu)
        return self._accelerator

    def device(self, asked: "torch.device | str | None") -> "torch.device":
        import torch

        on_cpu = torch.device(asked).type == "cpu" if asked else not torch.cuda.is_available()
        device: torch.device = self._join(on_cpu=on_cpu).device
        return device

    def wrap(self, module: "nn.Module", *, sync_norm: bool = False) -> "nn.Module":
        from torch import nn

        if sync_norm:
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]  # torch's stubs
        wrapped: nn.Module = self._accelerator.prepare_model(module, device_placement=False)
        return wrapped

    def hold_back(self, module: "nn.Module") -> AbstractContextManager[Any]:
        held: AbstractContextManager[Any] = self._accelerator.no_sync(module)
        return held

    def sum(self, values: "Tensor") -> "Tensor":
        total: Tensor = self._accelerator.reduce(values, reduction="sum")
        return total

    def wait(self) -> None:
        self._accelerator.wait_for_everyone()


_launched: list[Processes] = []


def current() -> Processes:
    """What a launcher said in RANK and WORLD_SIZE of this process."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    if not _launched:
        _launched.append(_Launched())
    return _launched[0]

"""The processes that train or score one network together: a single one, or several from a launcher.

``torchrun -m zoo train ...`` and ``accelerate launch -m zoo train ...`` start several, which communicate
through Accelerate. A single process does not need it.
"""

import contextlib
import os
import warnings
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from zoo.errors import MissingExtraError, PluginError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Processes:
    """A process, this one, among ``count``, of which it is number ``rank``; here, the only one.

    In ``wrap``, ``sum``, ``totals``, ``average``, ``any``, ``agree`` and ``wait`` each waits for the others:
    all call them, in the same order.
    """

    rank = 0
    count = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def device(self, asked: "torch.device | str | None") -> "torch.device":
        """Returns where this process computes: ``asked``, or else a GPU if there is one."""
        import torch

        return torch.device(asked or ("cuda" if torch.cuda.is_available() else "cpu"))

    def share(self, total: int) -> range:
        """Returns which of ``total`` things are this process's: as many for each as can be, in order."""
        return range(self.rank * total // self.count, (self.rank + 1) * total // self.count)

    def wrap(self, module: "nn.Module") -> "nn.Module":
        """Returns ``module``, whose gradients become the mean over processes; it starts everywhere as in the first."""
        return module

    def no_sync(self, module: "nn.Module") -> AbstractContextManager[Any]:
        """Returns a context in which the gradients of the wrapped ``module`` stay this process's own sums."""
        return contextlib.nullcontext()

    def release(self) -> None:
        """Ends what :meth:`wrap` began, once nobody holds the wrapped modules any more."""

    def sum(self, values: "Tensor") -> "Tensor":
        """Returns ``values`` summed over processes."""
        return values

    def totals(self, *numbers: float) -> list[float]:
        """Returns each of ``numbers`` summed over processes, in float64."""
        return list(numbers)

    def average(self, tensors: "Iterable[Tensor]") -> None:
        """Makes each of ``tensors``, floating-point, its mean over processes, exactly if they are equal."""

    def any(self, claim: bool) -> bool:
        """Returns whether ``claim`` holds in one of the processes."""
        return self.totals(claim) != [0]

    def agree(self, *numbers: int) -> bool:
        """Returns whether all processes hold the same ``numbers``."""
        totals, squares = self.totals(*numbers), self.totals(*(number**2 for number in numbers))
        return all(self.count * square == total**2 for total, square in zip(totals, squares, strict=True))

    def wait(self) -> None:
        """Returns once every process is here."""
        self.totals(0)

    def leave(self) -> None:
        """Leaves the process group; each process continues alone."""


ALONE = Processes()


class _Launched(Processes):
    """One of several, through Accelerate."""

    def __init__(self) -> None:
        self._accelerator: Any = None
        self.rank = int(os.environ["RANK"])
        self.count = int(os.environ["WORLD_SIZE"])

    def device(self, asked: "torch.device | str | None") -> "torch.device":
        import torch

        if self._accelerator is None:
            self._accelerator = _join(on_cpu=super().device(asked).type == "cpu")
        device: torch.device = self._accelerator.device
        return torch.device("cpu") if device.type == "cpu" else device  # not "cpu:0"

    def wrap(self, module: "nn.Module") -> "nn.Module":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch renames broadcast_buffers
            wrapped: nn.Module = self._accelerator.prepare_model(module, device_placement=False)
        return wrapped

    def no_sync(self, module: "nn.Module") -> AbstractContextManager[Any]:
        held: AbstractContextManager[Any] = self._accelerator.no_sync(module)
        return held

    def release(self) -> None:
        import gc

        if self._accelerator is not None:
            self._accelerator.free_memory()
        gc.collect()  # the wrapper is part of a cycle, and its hooks on parameters go with it

    def sum(self, values: "Tensor") -> "Tensor":
        import torch

        total = values.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total

    def totals(self, *numbers: float) -> list[float]:
        import torch

        totals: list[float] = self.sum(torch.tensor(numbers, dtype=torch.float64, device=self.device(None))).tolist()
        return totals

    def average(self, tensors: "Iterable[Tensor]") -> None:
        import torch

        tensors = list(tensors)
        if not tensors:
            return
        # In float64, where the sum of equal float32 numbers is exact.
        means = self.sum(torch.cat([tensor.flatten().double() for tensor in tensors])) / self.count
        parts = torch.split(means, [tensor.numel() for tensor in tensors])
        for tensor, mean in zip(tensors, parts, strict=True):
            tensor.copy_(mean.view_as(tensor))

    def leave(self) -> None:
        _leave()


def _join(*, on_cpu: bool) -> Any:
    """Returns the Accelerator of this process, once all have come together."""
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs
    except ImportError:
        raise MissingExtraError.of("Several processes", "accelerate", "zoo-vision[train]") from None
    import atexit

    # A network may skip layers at random. Of its buffers, zoo.training averages those that change.
    settings = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
    # The recipe says in which precision; `accelerate config` must not change the results.
    accelerator = Accelerator(cpu=on_cpu, mixed_precision="no", dynamo_backend="no", kwargs_handlers=[settings])
    kind = accelerator.distributed_type.value
    if not kind.startswith("MULTI_"):
        raise PluginError(
            f"Accelerate's distributed type is {kind}, expected MULTI_GPU or MULTI_CPU.",
            hint="Choose data parallelism in accelerate config, or use torchrun; without a GPU, do not set --device.",
        )
    if on_cpu:  # gloo's threads abort a process that ends without this
        atexit.register(_leave)
    return accelerator


def _leave() -> None:
    import torch

    if torch.distributed.is_initialized():
        current().release()  # what still knows the group would keep its threads alive
        torch.distributed.destroy_process_group()


def is_about_another(error: Exception) -> bool:
    """Returns whether ``error`` is what a process gets to see when another one has ended."""
    import torch

    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error) or "by peer" in str(error)


_launched: list[Processes] = []


def current() -> Processes:
    """Returns what a launcher said in RANK and WORLD_SIZE of this process."""
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    if not _launched:
        _launched.append(_Launched())
    return _launched[0]

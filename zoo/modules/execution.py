"""The ways in which a network runs: compiled, or with less memory for more time, by computing activations again for the
gradient.

Chen, Xu, Zhang, Guestrin 2016, "Training Deep Nets with Sublinear Memory Cost".
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from zoo.errors import SpecError

log = logging.getLogger("zoo")


def compiled(model: nn.Module, *, is_frozen: bool = False, is_whole: bool = False) -> nn.Module:
    """Returns ``model`` through ``torch.compile``; run it within :func:`compiler_errors`.

    ``is_frozen``, for inference on a processor, makes its weights constants of the program, which must not change
    afterwards: they are packed once for the kernels, and what follows a convolution is computed together with it.
    ``is_whole`` demands one graph, without Python in between: the first call raises torch's ``TorchDynamoException``
    if that is not possible.
    """
    options: dict[str, Any] = {"freezing": True} if is_frozen else {}
    made: Any = torch.compile(model, dynamic=False, fullgraph=is_whole, options=options)
    return made  # type: ignore[no-any-return]  # a module as well


@contextlib.contextmanager
def compiler_errors() -> Iterator[None]:
    """Makes a context in which a network that cannot be compiled, which its first call finds, raises
    :class:`SpecError`."""
    from torch._dynamo.exc import BackendCompilerFailed  # slow to import

    try:
        yield
    except BackendCompilerFailed as error:
        raise SpecError(
            f"The network cannot be compiled: {str(error).strip().partition(chr(10))[0]}",
            hint="On a processor, torch.compile needs a C++ compiler such as g++. Without compile, none is needed.",
        ) from error


def recompute(function: Callable[..., Any], *args: Any, within: nn.Module, is_random: bool = True) -> Any:
    """Returns ``function(*args)``, whose activations are not kept but computed again for the gradient.

    Args:
        function: Computes with modules of ``within``.
        args: Its arguments.
        within: Contains the normalisations that must not count the batch twice.
        is_random: Whether ``function`` draws random numbers, which are then drawn again.

    Returns:
        What ``function`` returns, with the same gradients.
    """
    if not torch.is_grad_enabled():
        return function(*args)
    return checkpoint(
        function, *args, use_reentrant=False, preserve_rng_state=is_random, context_fn=partial(_contexts, within)
    )


def _contexts(
    within: nn.Module,
) -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
    """Returns the contexts of the first computation and of the second, which must not count the batch once more."""
    norms = [module for module in within.modules() if isinstance(module, _BatchNorm)]
    return contextlib.nullcontext(), _statistics_set_aside(norms)


@contextlib.contextmanager
def _statistics_set_aside(norms: list[_BatchNorm]) -> Iterator[None]:
    """Makes a context in which ``norms`` compute the same, and what they note of the batch is thrown away."""
    kept: list[tuple[_BatchNorm, dict[str, Tensor]]] = [(norm, dict(norm.named_buffers())) for norm in norms]
    for norm, buffers in kept:
        for name, value in buffers.items():
            setattr(norm, name, value.clone())
    try:
        yield
    finally:
        for norm, buffers in kept:
            for name, value in buffers.items():
                setattr(norm, name, value)


# ---- What a network does with an image's size --------------------------------------------------------------------


class _Part(nn.Module):
    """A forward that computes ``method`` of ``network``."""

    def __init__(self, network: nn.Module, method: str) -> None:
        super().__init__()
        self.network, self.method = network, method

    def forward(self, x: Tensor) -> Any:
        return getattr(self.network, self.method)(x)


def input_facts(network: nn.Module, input_size: tuple[int, int, int]) -> dict[str, Any]:
    """Returns timm's ``fixed_input_size`` and ``pool_size``, by forwards without values of ``input_size``, C H W.

    A network takes one size alone if images twice as large are an error, or if it cannot be run without values.
    """
    chans, height, width = input_size
    tensors = [*network.named_parameters(), *network.named_buffers()]
    state = {f"network.{name}": torch.empty_like(tensor, device="meta") for name, tensor in tensors}

    def run(method: str, *size: int) -> Any:
        images = torch.empty(1, chans, *size, device="meta", dtype=next(iter(floats), torch.get_default_dtype()))
        return torch.func.functional_call(_Part(network, method), state, (images,))

    floats = [tensor.dtype for tensor in state.values() if tensor.is_floating_point()]
    modes = {module: module.training for module in network.modules()}
    is_fixed, pool_size = True, None
    network.eval()
    try:
        with torch.no_grad():
            maps = run("forward_features", height, width)
            pool_size = tuple(maps.shape[2:]) if maps.ndim == 4 else None
            run("forward", 2 * height, 2 * width)
            is_fixed = False
    except Exception as error:  # a network may raise anything at a size that is not its own
        log.debug("%s takes images of %d x %d alone: %s", type(network).__name__, height, width, error)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return {"fixed_input_size": is_fixed, "pool_size": pool_size}


class Recomputed:
    """The forward of ``module``, in whose place it stands, computed again for the gradient."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, *args: Any) -> Any:
        return recompute(partial(type(self.module).forward, self.module), *args, within=self.module)


def set_recomputed(parts: list[nn.Module], enable: bool) -> None:
    """Switches whether the activations of each of ``parts`` are computed again for the gradient."""
    for part in parts:
        part.__dict__.pop("forward", None)
        if enable:
            part.forward = Recomputed(part)


def blocks_of(module: nn.Module, apart: tuple[nn.Module, ...] = ()) -> list[nn.Module]:
    """Returns the largest submodules with parameters that consist of several layers and compute more than a chain of
    them.

    Those that lie in one of ``apart`` or contain one do not count.
    """
    found: list[nn.Module] = []
    for child in module.children():
        if child in apart or not any(True for _ in child.parameters()):
            continue
        is_container = isinstance(child, nn.Sequential | nn.ModuleList | nn.ModuleDict)
        is_split = is_container or any(module in apart for module in child.modules())
        is_block = not is_split and any(True for _ in child.children())
        found += [child] if is_block else blocks_of(child, apart)
    return found

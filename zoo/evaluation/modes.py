"""A network's modes, put back afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Puts ``model`` in eval mode and every module back into its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, is_training in modes:
            module.training = is_training


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Within it, ``model`` is in eval mode and its parameters are constants, whose gradients nobody asks for.

    Modes and ``requires_grad`` come back as they were, whatever happens inside; ``grad`` is never touched.
    """
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with in_eval_mode(model):
        try:
            model.requires_grad_(False)
            yield
        finally:
            for parameter, asks in flags:
                parameter.requires_grad_(asks)

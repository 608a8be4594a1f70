"""Sets a network's training mode and restores it."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """A context in which a network is in eval mode. Every module's own mode is put back afterwards.

    Args:
        model: The network.

    Example:
        >>> import zoo
        >>> model = zoo.create("resnet20")
        >>> with zoo.evaluation.in_eval_mode(model):
        ...     model.training
        False
        >>> model.training
        True
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, is_training in modes:
            module.training = is_training


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """A context in which a network is in eval mode and its parameters need no gradients.

    Modes and ``requires_grad`` are put back afterwards, whatever happens inside; ``grad`` is never touched.

    Args:
        model: The network.

    Example:
        >>> import zoo
        >>> model = zoo.create("resnet20")
        >>> with zoo.evaluation.frozen(model):
        ...     any(parameter.requires_grad for parameter in model.parameters())
        False
    """
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with in_eval_mode(model):
        try:
            model.requires_grad_(False)
            yield
        finally:
            for parameter, asks in flags:
                parameter.requires_grad_(asks)

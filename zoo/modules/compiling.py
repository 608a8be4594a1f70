"""torch.compile, for networks whose batches have one size."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from zoo.errors import SpecError


def compiled(model: nn.Module, *, is_frozen: bool = False, is_whole: bool = False) -> nn.Module:
    """``model`` through ``torch.compile``; run it within :func:`compiler_errors`.

    ``is_frozen``, for inference on a processor, makes its weights constants of the program, which must not change
    afterwards: they are packed once for the kernels, and what follows a convolution is computed together with it.
    ``is_whole`` demands one graph, without Python in between: the first call raises torch's ``TorchDynamoException``
    if that is not possible.
    """
    options: dict[str, Any] = {"freezing": True} if is_frozen else {}
    made: Any = torch.compile(model, dynamic=False, fullgraph=is_whole, options=options)
    return made  # type: ignore[no-any-return]  # a module as well


@contextmanager
def compiler_errors() -> Iterator[None]:
    """Within it, a network that cannot be compiled, which its first call finds, raises :class:`SpecError`."""
    from torch._dynamo.exc import BackendCompilerFailed  # slow to import

    try:
        yield
    except BackendCompilerFailed as error:
        raise SpecError(
            f"The network cannot be compiled: {str(error).strip().partition(chr(10))[0]}",
            hint="On a processor, torch.compile needs a C++ compiler such as g++. Without compile, none is needed.",
        ) from error

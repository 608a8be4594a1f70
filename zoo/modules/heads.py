"""Global pools and linear layers behind them."""

from torch import Tensor, nn

from zoo.errors import SpecError
from zoo.modules.arguments import check_choice

_POOLS = {"avg": nn.AdaptiveAvgPool2d, "max": nn.AdaptiveMaxPool2d}


def create_pool(pool: str, num_classes: int = 0) -> nn.Module:
    """A global pool, B C h w to B C: ``avg`` or ``max``; the empty string is none.

    Raises :class:`SpecError` for anything else, and for none in front of classes.
    """
    check_choice("global_pool", pool, (*_POOLS, ""))
    if num_classes and not pool:
        raise SpecError(f"A classifier of {num_classes} classes needs a global pool: 'avg' or 'max'.")
    return nn.Sequential(_POOLS[pool](1), nn.Flatten(1)) if pool else nn.Identity()


def create_linear(
    num_features: int, num_classes: int, *, bias: bool = True, like: Tensor | None = None
) -> nn.Linear | nn.Identity:
    """A linear layer on the device and of the type of ``like``; with 0 classes, the identity."""
    if not num_classes:
        return nn.Identity()
    device, dtype = (None, None) if like is None else (like.device, like.dtype)
    return nn.Linear(num_features, num_classes, bias=bias, device=device, dtype=dtype)


def create_classifier(
    num_features: int, num_classes: int, pool: str = "avg", *, bias: bool = True, like: Tensor | None = None
) -> tuple[nn.Module, nn.Linear | nn.Identity]:
    """Makes a global pool and a linear layer behind it, as timm's function of this name does.

    Args:
        num_features: Channels of the maps that are pooled.
        num_classes: Outputs of the linear layer; 0 leaves it out.
        pool: ``avg``, ``max``, or the empty string for none, which needs 0 classes.
        bias: Whether the linear layer has one.
        like: The linear layer gets its device and type.

    Returns:
        The pool, B C h w to B C, and the linear layer; each the identity if it is left out.

    Raises:
        SpecError: There is no such pool, or there are classes and no pool.
    """
    return create_pool(pool, num_classes), create_linear(num_features, num_classes, bias=bias, like=like)

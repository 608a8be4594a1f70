"""Layers, heads and initializations that several families use, and checks of their build functions' arguments."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import SpecError


def check_share(**arguments: float) -> None:
    """Checks that each of a build function's ``arguments`` is in [0, 1].

    Raises:
        SpecError: One is not.
    """
    for argument, value in arguments.items():
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise SpecError(f"{argument} = {value!r} must be a number in [0, 1].")


def check_choice(argument: str, value: object, choices: Iterable[object]) -> None:
    """Checks that a build function's ``argument`` is one of its ``choices``.

    Raises:
        SpecError: It is not; the message lists the choices.
    """
    allowed = tuple(choices)
    if value not in allowed:
        is_timms = argument == "global_pool" and value in ("avgmax", "catavgmax", "fast", "fastavg", "fastmax")
        raise SpecError(
            f"{argument} = {value!r} is not one of {', '.join(map(repr, allowed))}.",
            hint=f"timm's networks may have it: zoo.create('timm/NAME', {argument}={value!r})." if is_timms else "",
        )


def check_positive(**arguments: float) -> None:
    """Checks that each of a build function's ``arguments`` is at least 1.

    Raises:
        SpecError: One of them is not.
    """
    for name, value in arguments.items():
        if not value >= 1:
            raise SpecError(f"{name} = {value!r} must be at least 1.")


def count_units(depth: int, *, layers: int, others: int, hint: str = "") -> int:
    """Counts the units of a network of ``depth`` layers.

    Args:
        depth: Layers in all.
        layers: Layers that one more unit adds.
        others: Layers outside the units.
        hint: What the error suggests.

    Returns:
        n in ``depth`` = ``layers`` n + ``others``, at least 1.

    Raises:
        SpecError: There is no such n.
    """
    units, rest = divmod(depth - others, layers)
    if units < 1 or rest:
        examples = ", ".join(str(layers * n + others) for n in (1, 2, 3))
        raise SpecError(f"depth = {depth!r} is not {layers}n + {others}: {examples}, ...", hint=hint)
    return units


# ---- Heads ---------------------------------------------------------------------------------------------------

_POOLS = {"avg": nn.AdaptiveAvgPool2d, "max": nn.AdaptiveMaxPool2d}


def create_pool(pool: str, num_classes: int = 0) -> nn.Module:
    """Returns a global pool, B C h w to B C: ``avg`` or ``max``; the empty string is none.

    Raises :class:`SpecError` for anything else, and for none in front of classes.
    """
    check_choice("global_pool", pool, (*_POOLS, ""))
    if num_classes and not pool:
        raise SpecError(f"A classifier of {num_classes} classes needs a global pool: 'avg' or 'max'.")
    return nn.Sequential(_POOLS[pool](1), nn.Flatten(1)) if pool else nn.Identity()


def create_linear(
    num_features: int, num_classes: int, *, bias: bool = True, like: Tensor | None = None
) -> nn.Linear | nn.Identity:
    """Returns a linear layer on the device and of the type of ``like``; with 0 classes, the identity."""
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


# ---- Layers --------------------------------------------------------------------------------------------------


def he_initialize(network: nn.Module, fan: Literal["fan_in", "fan_out"]) -> None:
    """Draws He's normal weights for convolutions, by the ``fan``; their biases and linear layers' become 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=fan, nonlinearity="relu")
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


class ZeroPadShortcut(nn.Module):
    """Takes every ``stride``-th pixel, or with ``averages`` means, and fills new channels with zeros. No parameters.

    ``zero_channels`` says where the zeros go: ``end`` appends them (fb.resnet.torch), ``split`` puts half in front
    and half behind (akamaster/pytorch_resnet_cifar10). Weights trained with one are wrong with the other.
    """

    def __init__(
        self, in_chans: int, out_chans: int, *, stride: int, zero_channels: str = "end", averages: bool = False
    ) -> None:
        super().__init__()
        added = out_chans - in_chans
        front = added // 2 if zero_channels == "split" else 0
        self.stride = stride
        self.padding = (0, 0, 0, 0, front, added - front)
        self.average = nn.AvgPool2d(stride) if averages else None

    def forward(self, x: Tensor) -> Tensor:
        # B C H W -> B C H/stride W/stride
        x = x[:, :, :: self.stride, :: self.stride] if self.average is None else self.average(x)
        return F.pad(x, self.padding)  # B C h w -> B C' h w

    def extra_repr(self) -> str:
        return f"stride={self.stride}, zeros_in_front={self.padding[4]}, zeros_behind={self.padding[5]}"


def make_shortcut(
    option: str, in_chans: int, out_chans: int, *, stride: int, norm: bool = True, zero_channels: str = "end"
) -> nn.Module:
    """Makes the shortcut of a residual unit (He et al. 2015, section 3.3).

    Args:
        option: If the shape changes, ``A`` pads with zeros, ``A_avg`` averages and pads (Huang et al. 2016), ``B``
            projects; if it stays, all three are the identity. ``C`` always projects.
        in_chans: Channels of the unit's input.
        out_chans: Channels of its output.
        stride: How much smaller its output is.
        norm: Whether batch normalisation follows a projection.
        zero_channels: Where ``A`` puts zeros (:class:`ZeroPadShortcut`).

    Returns:
        A module B in_chans H W to B out_chans H/stride W/stride.
    """
    if in_chans == out_chans and stride == 1 and option != "C":
        return nn.Identity()
    if option in ("A", "A_avg"):
        averages = option == "A_avg"
        return ZeroPadShortcut(in_chans, out_chans, stride=stride, zero_channels=zero_channels, averages=averages)
    projection = nn.Conv2d(in_chans, out_chans, kernel_size=1, stride=stride, bias=False)
    return nn.Sequential(projection, nn.BatchNorm2d(out_chans)) if norm else projection


class ResponseNorm(nn.Module):
    """Divides each value by (k + 1e-4 / 5 * the sum of squares over the five maps around its own) ** 0.75.

    Krizhevsky et al. 2012, section 3.3, with the sum divided by the number of maps, as in Caffe. torch's own has
    no bfloat16 on a CPU and takes twice the time; this one computes in float32, or in float64 if the maps are.
    """

    maps = 5
    alpha = 1e-4
    beta = 0.75

    def __init__(self, k: float) -> None:
        super().__init__()
        self.k = k

    def forward(self, x: Tensor) -> Tensor:
        return normalize_responses(x, self.maps, self.alpha, self.beta, self.k)


@torch.fx.wrap  # a tracer would ask for the type of no tensor
def normalize_responses(x: Tensor, maps: int, alpha: float, beta: float, k: float) -> Tensor:
    """Computes :class:`ResponseNorm`."""
    chans, reach = x.shape[1], maps // 2
    values = x if x.dtype == torch.float64 else x.float()
    squares = F.pad(values.square(), (0, 0, 0, 0, reach, reach))
    total = squares[:, :chans]
    for shift in range(1, maps):
        total = total + squares[:, shift : shift + chans]
    return (values / (k + alpha / maps * total) ** beta).to(x.dtype)


def luma_weights(in_chans: int) -> Tensor:
    """Weights ``in_chans`` 1 1 that make an image grey: ITU-R 601-2 for three channels, else the mean."""
    weights = torch.tensor((0.299, 0.587, 0.114)) if in_chans == 3 else torch.full((in_chans,), 1 / in_chans)
    return weights[:, None, None]


def fit_channels(tensor: Tensor, before: int, channels: int, *, dim: int) -> Tensor:
    """Changes a trained ``tensor`` from ``before`` channels of the image to ``channels``, as timm does.

    Args:
        tensor: Values along ``dim``: those of the first channel, then those of the second, ...
        before: Channels that it is for.
        channels: Channels that it shall be for.
        dim: 1 for the weights of a layer that sums over channels: their sum is kept. 0 for values of each channel: one
            channel gets their mean.

    Returns:
        The sum or the mean for one channel; the channels in turn for more, scaled where sums are kept.

    Example:
        >>> import torch
        >>> from zoo.modules import fit_channels
        >>> fit_channels(torch.ones(8, 3, 5, 5), 3, 1, dim=1).unique()
        tensor([3.])
    """
    values = tensor.float().unflatten(dim, (before, -1))
    if channels == 1:
        fitted = values.sum(dim, keepdim=True) if dim else values.mean(dim, keepdim=True)
    else:
        fitted = values.index_select(dim, torch.arange(channels) % before)
        fitted = fitted * (before / channels) if dim else fitted
    merged: Tensor = fitted.flatten(dim, dim + 1)
    return merged.to(tensor.dtype)


class DropPath(nn.Module):
    """Stochastic depth: in training, drops an image's residual with probability ``rate`` and scales the others.

    Huang et al. 2016; drawn per image, as in timm and torchvision.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        check_share(drop_path_rate=rate)
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return drop_paths(x, self.rate) if self.rate and self.training else x

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"


@torch.fx.wrap  # a tracer does not know the number of axes
def drop_paths(x: Tensor, rate: float) -> Tensor:
    """Computes :class:`DropPath` in training."""
    kept = x.new_empty([x.shape[0]] + [1] * (x.ndim - 1)).bernoulli_(1 - rate)
    return x * (kept / (1 - rate) if rate < 1 else kept)

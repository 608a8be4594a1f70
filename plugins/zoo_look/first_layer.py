"""The first layer: its filters as images, with the nearest Gabor filters."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zoo.errors import SpecError
from zoo_look.gabor_fit import PARAMETERS, Fit, fit
from zoo_look.network import blank, name_of, opened
from zoo_look.result import Look, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Scaling = Literal["each", "shared"]

_COLUMNS = 16
"""Filters side by side in a figure."""

_NOISE = 32
"""Filters of noise are fitted for comparison, no more than that: large kernels take a second each."""

_SMALLEST = 5
"""Pixels a side of the smallest kernel that is fitted: the nine of 3x3 fit nearly any Gabor filter."""


@dataclass(frozen=True, eq=False)
class FirstLayer:
    """The first convolution as it is computed: ``weight`` float32 N C H W, its ``stride`` down and across."""

    weight: Tensor
    stride: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Filters(Look):
    """``weight`` N C H W, each filter's strongest one-colour ``patterns`` N H W and the ``share`` N that they are.

    ``nearest`` are the Gabor filters that fit the patterns best, ``noise`` the errors with which filters of noise
    of the same size are fitted: a kernel of few pixels is fitted by nearly any filter, and only the difference
    to noise says something. Both are None for kernels below 5 x 5, of which the fit says nothing.
    """

    weight: Tensor
    patterns: Tensor
    share: Tensor
    nearest: Fit | None
    noise: Tensor | None
    scaling: Scaling

    def orientations(self, bins: int = 8) -> Tensor:
        """How many filters have their wave's direction in each of ``bins`` equal parts of 0 to pi, int64.

        The first part is centred on 0: upright stripes. Raises :class:`SpecError` for filters that were not fitted.
        """
        if self.nearest is None:
            raise SpecError(
                f"Filters of {_size(self.weight)} have no direction: expected {_SMALLEST}x{_SMALLEST} or more."
            )
        width = math.pi / bins
        index = ((self.nearest.orientation / width + 0.5).floor() % bins).long()
        return index.bincount(minlength=bins)

    def facts(self) -> dict[str, Any]:
        about = {"filters": len(self.weight), "shape": list(self.weight.shape[1:])}
        if self.nearest is None or self.noise is None:
            return about
        fitted = self.nearest
        rows = zip(*(value.tolist() for value in fitted), self.share.tolist(), strict=True)
        names = (*Fit._fields, "one_pattern")
        return {
            **about,
            "median_error": float(fitted.error.median()),
            "median_error_of_noise": float(self.noise.median()),
            "parameters_of_a_gabor_filter": PARAMETERS,
            "orientations": self.orientations().tolist(),
            "fits": [dict(zip(names, row, strict=True)) for row in rows],
        }

    def figure(self) -> "Figure":
        """Each filter, below it the nearest Gabor filter and the error; at the end the orientations.

        Of kernels too small to be fitted, the filters alone.
        """
        count = len(self.weight)
        columns = min(count, _COLUMNS)
        rows = math.ceil(count / columns)
        if self.nearest is None or self.noise is None:
            figure = new_figure(max(0.62 * columns, 5.0), 0.75 * rows + 0.5, self.caption)
            plain = figure.subplots(rows, columns, squeeze=False)
            self._draw_filters(plain)
            return figure
        figure = new_figure(max(0.62 * columns, 5.0), 1.5 * rows + 2.3, self.caption)
        above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.5 * rows, 1.6)).flat
        axes = above.subplots(2 * rows, columns, squeeze=False)
        self._draw_filters(axes[::2])
        rendered = self.nearest.render(*self.weight.shape[2:])
        for axis in axes[1::2].flat:
            axis.set_axis_off()
        for index in range(count):
            row, column = divmod(index, columns)
            limit = float(max(self.patterns[index].abs().max(), rendered[index].abs().max())) or 1.0
            axes[2 * row + 1, column].imshow(
                rendered[index].numpy(), cmap="gray", vmin=-limit, vmax=limit, interpolation="nearest"
            )
            axes[2 * row + 1, column].set_title(f"{self.nearest.error[index]:.2f}", fontsize=6, pad=1)
        turned, errors = below.subplots(1, 2)
        counts = self.orientations()
        turned.bar([180 * index / len(counts) for index in range(len(counts))], counts.tolist(), width=18)
        turned.set_xlabel("direction of the wave, degrees", fontsize=7)
        turned.set_ylabel("filters", fontsize=7)
        both = [self.nearest.error.tolist(), self.noise.tolist()]
        errors.hist(
            both, bins=12, range=(0, 1), label=["the network's", "noise"], weights=[[1 / len(v)] * len(v) for v in both]
        )
        errors.set_ylabel("share of filters", fontsize=7)
        errors.set_xlabel("residual of the nearest Gabor filter (norm)", fontsize=7)
        errors.legend(fontsize=7, frameon=False)
        for axis in (turned, errors):
            axis.tick_params(labelsize=6)
        return figure

    def _draw_filters(self, axes: Any) -> None:
        """Each filter as a picture, row by row."""
        for axis in axes.flat:
            axis.set_axis_off()
        for axis, picture in zip(axes.flat, as_pictures(self.weight, self.scaling), strict=False):
            axis.imshow(picture.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def filters(model: str | nn.Module, *, scaling: Scaling = "each", **args: Any) -> Filters:
    """The filters of a network's first convolution, and the Gabor filters nearest to them.

    Filters of three channels are shown in colour, others as their strongest pattern. Kernels below 5 x 5 are not
    fitted: the eight parameters of a Gabor filter fit almost any nine pixels.

    Args:
        model: A name, for which trained weights are used, or a network that :func:`zoo.create` returned.
        scaling: ``each`` shows each filter on its own scale, ``shared`` all on one.
        args: ``device``, and, if ``model`` is a name, ``weights`` and arguments of the family's build function.

    Returns:
        Filters, patterns and fits, with a figure.

    Raises:
        SpecError: The network has no convolution with learnt filters.

    Example:
        >>> import zoo
        >>> zoo.look.filters("resnet20.digits").weight.shape
        torch.Size([16, 1, 3, 3])
    """
    with opened(model, **args) as network:
        weight = find_first_layer(network).weight
        found, share = patterns(weight)
        caption = f"{name_of(network)}, first layer: {len(weight)} filters of {_size(weight)}"
        if min(weight.shape[2:]) < _SMALLEST:
            return Filters(caption, weight, found, share, None, None, scaling)
        noise = torch.randn(min(len(weight), _NOISE), *weight.shape[1:], generator=torch.Generator().manual_seed(0))
        caption += ", below each the nearest Gabor filter and its residual"
        return Filters(caption, weight, found, share, fit(found), fit(patterns(noise)[0]).error, scaling)


def find_first_layer(model: nn.Module) -> FirstLayer:
    """The first two-dimensional convolution that ``model`` computes, with the weights that it is given then.

    Of filters that are modulated or standardised these are the results. Raises :class:`SpecError`.
    """
    try:
        with _FirstConvolution(), torch.no_grad():
            model(blank(model))
    except _Found as found:
        return found.layer
    raise SpecError(f"{name_of(model)} has no convolution with learned filters.")


def patterns(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Filters N C H W as one grey pattern each, N H W, and the share N of their energy that it holds.

    The nearest filter whose channels are all multiples of one pattern: the first singular vector, of the
    filter's norm if all energy is in it. Its sign is that of the strongest channel.
    """
    matrices = weight.detach().double().cpu().flatten(2)  # N C H W -> N C HW
    colours, strengths, rows = torch.linalg.svd(matrices, full_matrices=False)
    strongest = colours[:, :, 0].abs().argmax(1, keepdim=True)
    sign = colours[:, :, 0].gather(1, strongest).sign()
    energy = strengths.square()
    share = energy[:, 0] / energy.sum(1).clamp_min(torch.finfo(torch.float64).tiny)
    return (sign * strengths[:, :1] * rows[:, 0]).view(-1, *weight.shape[2:]), share


def as_pictures(weight: Tensor, scaling: Scaling = "each") -> Tensor:
    """Filters N C H W as N 3 H W or N 1 H W in [0, 1]; zero is mid-grey, the largest value of ``scaling`` an end."""
    shown = weight.float() if weight.shape[1] in (1, 3) else patterns(weight)[0].float()[:, None]
    limit = shown.abs().amax((1, 2, 3), keepdim=True) if scaling == "each" else shown.abs().amax()
    return 0.5 + 0.5 * shown / limit.clamp_min(torch.finfo(torch.float32).tiny)


def _size(weight: Tensor) -> str:
    return f"{weight.shape[2]}x{weight.shape[3]}"


class _Found(Exception):  # noqa: N818  # no error: it ends the run as soon as the question is answered
    def __init__(self, layer: FirstLayer) -> None:
        self.layer = layer


class _FirstConvolution(TorchFunctionMode):
    """Ends the run at the first convolution whose filters are parameters, or are made of them."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__name__", "") == "conv2d":
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            stride = args[3] if len(args) > 3 else kwargs.get("stride", 1)
            down, across = (stride, stride) if isinstance(stride, int) else (*stride, *stride)[:2]
            raise _Found(FirstLayer(weight.detach().float().cpu().clone(), (int(down), int(across))))
        return function(*args, **kwargs)

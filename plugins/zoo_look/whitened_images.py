"""Images before and after whitening."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zoo import data as datasets
from zoo.data import ImageSet
from zoo.data.whitening import ZCA
from zoo.errors import DataError
from zoo_look.maps import show
from zoo_look.result import Look, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Whitened(Look):
    """Some ``images`` N C H W in [0, 1], the same with the ``mean`` C H W subtracted (``centred``) and ``white``.

    ``spectrum`` holds the eigenvalues' share of variance before and after, float64 2 CHW, in falling order:
    after exact whitening all are equal.
    """

    images: Tensor
    centred: Tensor
    white: Tensor
    mean: Tensor
    spectrum: Tensor
    n: int
    eps: float

    def facts(self) -> dict[str, Any]:
        before, after = (_facts(images) for images in (self.centred, self.white))
        return {"n": self.n, "eps": self.eps, "centred": before, "whitened": after}

    def figure(self) -> "Figure":
        """Images, images less their mean, whitened ones; the spectra below."""
        count = len(self.images)
        figure = new_figure(0.8 * count + 0.6, 5.2, self.caption)
        above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(3, 2.2)).flat
        axes = above.subplots(3, count, squeeze=False)
        for row, (title, images) in enumerate(
            (("image", self.images), ("mean subtracted", self.centred), ("whitened", self.white))
        ):
            for axis, image in zip(axes[row], images, strict=True):
                show(axis, image if row == 0 else 0.5 + 0.5 * image / image.abs().max().clamp_min(1e-12))
            axes[row, 0].set_title(title, fontsize=7, loc="left", pad=2)
        axis = below.subplots()
        for name, values in zip(("before", "after"), self.spectrum, strict=True):
            axis.semilogy(range(1, len(values) + 1), values.clamp_min(1e-12).tolist(), label=name)
        axis.set_xlabel("principal component", fontsize=7)
        axis.set_ylabel("share of variance", fontsize=7)
        axis.tick_params(labelsize=6)
        axis.legend(fontsize=7, frameon=False)
        return figure


def whitening(
    data: str | Path | ImageSet, split: str = "test", *, eps: float = 1e-3, limit: int = 1000, shown: int = 8
) -> Whitened:
    """Images before and after their mean is subtracted, and after ZCA whitening.

    Args:
        data: A data set's name or path, or its images.
        split: The split to load, if ``data`` is not images.
        eps: Added to the variances, in units of [0, 1] squared: it limits how far directions with little variance are
            amplified.
        limit: Fit to the first images of the split, this many.
        shown: How many images to return.

    Returns:
        The images at each stage and their spectra, with a figure.

    Raises:
        DataError: The images are not of one size.

    Example:
        >>> import zoo
        >>> zoo.look.whitening("digits", shown=4).white.shape
        torch.Size([4, 1, 8, 8])
    """
    images = datasets.load(data, split) if not isinstance(data, ImageSet) else data
    if images.pixels is None:
        raise DataError(f"{images.name} has images of several sizes, but whitening needs one size.")
    pixels = images.pixels[:limit].float() / 255
    zca = ZCA.fit(pixels, eps)
    white = zca(pixels)
    spectrum = torch.stack([_spectrum(pixels), _spectrum(white)])
    caption = f"{images.name}/{images.split}: mean subtraction and ZCA whitening of {len(pixels):,} images, eps {eps:g}"
    return Whitened(
        caption, pixels[:shown], (pixels - zca.mean)[:shown], white[:shown], zca.mean, spectrum, len(pixels), eps
    )


def _spectrum(images: Tensor) -> Tensor:
    """The share of variance along each principal component, float64, in falling order."""
    flat = images.flatten(1).double()
    values = torch.linalg.eigvalsh(torch.cov(flat.T)).flip(0).clamp_min(0)
    shares: Tensor = values / values.sum().clamp_min(torch.finfo(torch.float64).tiny)
    return shares


def _facts(images: Tensor) -> dict[str, float]:
    return {"mean": float(images.mean()), "std": float(images.std())}

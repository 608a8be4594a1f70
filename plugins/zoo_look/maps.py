"""Images on their way through a network: whitened, and as the feature maps of a layer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo import data as datasets
from zoo.data import ImageSet
from zoo.data.whitening import ZCA
from zoo.errors import DataError, WeightsError
from zoo_look.network import Picture, as_input, as_maps, as_pixels, captured, name_of, opened, title_of, titles_of
from zoo_look.result import Look, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class FeatureMaps(Look):
    """``maps`` float32 C H W that ``layer`` makes of ``image``, C H W in [0, 1]."""

    layer: str
    maps: Tensor
    image: Tensor
    titles: tuple[str, ...]
    """Names of the channels: their numbers, or classes."""

    def strongest(self, count: int) -> list[int]:
        """Returns the channels with the highest activation anywhere, the highest first."""
        peaks = self.maps.flatten(1).amax(1)
        return peaks.topk(min(count, len(peaks))).indices.tolist()

    def facts(self) -> dict[str, Any]:
        flat = self.maps.flatten(1)
        return {
            "layer": self.layer,
            "shape": list(self.maps.shape),
            "silent": int((flat == 0).all(1).sum()),
            "channels": [
                {"channel": index, "mean": float(row.mean()), "max": float(row.max())} for index, row in enumerate(flat)
            ],
        }

    def figure(self) -> "Figure":
        """Returns the image and the 32 strongest channels, each on a scale of its own, numbered; bars of those of a
        vector.
        """
        shown = self.strongest(32)
        if self.maps[0].numel() == 1:
            return self._bars(shown)
        columns = min(len(shown) + 1, 11)
        rows = math.ceil((len(shown) + 1) / columns)
        figure = new_figure(columns, 1.15 * rows + 0.5, self.caption)
        axes = figure.subplots(rows, columns, squeeze=False).flat
        for axis in axes:
            axis.set_axis_off()
        show(axes[0], self.image)
        for axis, channel in zip(list(axes)[1:], shown, strict=False):
            axis.imshow(self.maps[channel].numpy(), cmap="gray", interpolation="nearest")
            axis.set_title(self.titles[channel], fontsize=7, pad=2)
        return figure

    def _bars(self, shown: list[int]) -> "Figure":
        """Returns the image, and how strong each of the channels ``shown`` is."""
        figure = new_figure(6.5, max(2.2, 0.16 * len(shown) + 0.8), self.caption)
        image, bars = figure.subplots(1, 2, width_ratios=(1, 2.5))
        show(image, self.image)
        bars.barh([self.titles[channel] for channel in shown], [float(self.maps[channel]) for channel in shown])
        bars.invert_yaxis()
        bars.tick_params(labelsize=7)
        return figure


def features(model: str | nn.Module, image: Picture, layer: str, **args: Any) -> FeatureMaps:
    """Computes what a layer of a network returns for an image.

    A vector is shown as maps of one pixel, and tokens as a row.

    Args:
        model: A name, for which trained weights are used, or a network that :func:`zoo.create` returned.
        image: A file, a Pillow image, or the network's input as a tensor.
        layer: The layer's name; :func:`layers` lists them.
        args: ``device``, and, if ``model`` is a name, ``weights`` and arguments of the family's build function.

    Returns:
        The maps C H W, with a figure.

    Raises:
        UnknownNameError: There is no such layer; the nearest names are suggested.
        WeightsError: The layer does not return a tensor.
        DataError: The image cannot be read.

    Example:
        >>> import zoo
        >>> image = zoo.data.load("digits", "test").image(0)
        >>> zoo.look.features("resnet20.digits", image, "layer1").maps.shape
        torch.Size([16, 8, 8])
    """
    with opened(model, **args) as network, captured(network, [layer]) as outputs, torch.no_grad():
        inputs = as_input(network, image)[:1]
        network(inputs)
        maps = as_maps(outputs[layer], layer)[0].float().cpu()
        return FeatureMaps(
            f"{name_of(network)}, {layer}, {title_of(image)}: the strongest of {len(maps)} channels",
            layer,
            maps,
            as_pixels(network, inputs)[0],
            titles_of(network, layer, len(maps)),
        )


@dataclass(frozen=True, eq=False)
class BeforeAfter(Look):
    """Images ``before`` and ``after`` ``layer``, both B C H W in [0, 1]."""

    layer: str
    before: Tensor
    after: Tensor

    def facts(self) -> dict[str, Any]:
        changes = (self.after - self.before).abs().flatten(1).mean(1)
        return {"layer": self.layer, "shape": list(self.after.shape), "changes": changes.tolist()}

    def figure(self) -> "Figure":
        """Pairs, ten in a row: each image above what the layer makes of it."""
        count = len(self.before)
        columns = min(count, 10)
        rows = math.ceil(count / columns)
        figure = new_figure(max(columns, 4), 2.2 * rows + 0.5, self.caption)
        axes = figure.subplots(2 * rows, columns, squeeze=False)
        for axis in axes.flat:
            axis.set_axis_off()
        for index in range(count):
            row, column = divmod(index, columns)
            show(axes[2 * row, column], self.before[index])
            show(axes[2 * row + 1, column], self.after[index])
        return figure


def before_and_after(model: str | nn.Module, images: Sequence[Picture], layer: str, **args: Any) -> BeforeAfter:
    """Shows images beside what a layer that returns images makes of them, such as a spatial transformer.

    Both are shown with mean and standard deviation put back.

    Args:
        model: A name, for which trained weights are used, or a network that :func:`zoo.create` returned.
        images: Files, Pillow images, or the network's inputs as tensors.
        layer: The layer's name.
        args: ``device``, and, if ``model`` is a name, ``weights`` and arguments of the family's build function.

    Returns:
        The images before and after, with a figure.

    Raises:
        WeightsError: The layer's output has another shape than the network's input.
        UnknownNameError: There is no such layer; the nearest names are suggested.

    Example:
        >>> import zoo
        >>> image = zoo.data.load("digits", "test").image(0)
        >>> zoo.look.before_and_after("stn_cnn_mnist.mnist_rts", [image], "transformer").after.shape
        torch.Size([1, 1, 42, 42])
    """
    with opened(model, **args) as network, captured(network, [layer]) as outputs, torch.no_grad():
        inputs = torch.cat([as_input(network, image)[:1] for image in images])
        network(inputs)
        after = outputs[layer]
        if after.shape != inputs.shape:
            got, expected = (" x ".join(map(str, tensor.shape[1:])) for tensor in (after, inputs))
            raise WeightsError(
                f"{layer} outputs {got}, not images of {expected}.",
                hint="Pass one image (one --index) to see its maps.",
            )
        return BeforeAfter(
            f"{name_of(network)}: {len(images)} images, and below each the output of {layer}",
            layer,
            as_pixels(network, inputs),
            as_pixels(network, after),
        )


def show(axis: Any, pixels: Tensor) -> None:
    """Draws ``pixels``, C H W in [0, 1] with one channel or three, on a matplotlib axis."""
    axis.set_axis_off()
    image = pixels.permute(1, 2, 0).numpy()
    if image.shape[2] == 1:
        axis.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    else:
        axis.imshow(image, interpolation="nearest")


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
    """Shows images before and after their mean is subtracted, and after ZCA whitening.

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
    """Returns the share of variance along each principal component, float64, in falling order."""
    flat = images.flatten(1).double()
    values = torch.linalg.eigvalsh(torch.cov(flat.T)).flip(0).clamp_min(0)
    shares: Tensor = values / values.sum().clamp_min(torch.finfo(torch.float64).tiny)
    return shares


def _facts(images: Tensor) -> dict[str, float]:
    return {"mean": float(images.mean()), "std": float(images.std())}

"""The images that drive a channel most, and the patches that its units see."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo.data import ImageSet, Transform
from zoo.evaluation import batches
from zoo.evaluation.forward import device_of
from zoo.loading import Network
from zoo.loading.create import info_of
from zoo_look.maps import show
from zoo_look.network import as_pixels, blank, check_channel, chosen_layer, images_of, maps_of, name_of, opened, reached
from zoo_look.receptive import Box, boxes_of
from zoo_look.result import Look, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class TopActivations(Look):
    """The K images that, for each of U channels of ``layer``, drive one of its units most, the strongest first.

    One unit an image, as in Zeiler and Fergus 2013. ``activations`` float32 U K; ``images`` int64 U K numbers in
    the split; ``positions`` int64 U K 2, row and column in the map; ``boxes`` int64 U K 4, what the unit sees: top,
    left, bottom, right (outside); ``pixels`` float32 U K C H W in [0, 1], the whole images.
    """

    layer: str
    data: str
    channels: tuple[int, ...]
    activations: Tensor
    images: Tensor
    positions: Tensor
    boxes: Tensor
    pixels: Tensor
    inputs: Tensor = field(repr=False)
    """The images as the network takes them, float32 U K C H W."""

    def patch(self, unit: int, rank: int) -> Tensor:
        """Returns C h w in [0, 1]: what the ``rank``-th unit of the ``unit``-th channel here sees of its image."""
        return cut(self.pixels[unit, rank], self.boxes[unit, rank])

    def facts(self) -> dict[str, Any]:
        return {
            "layer": self.layer,
            "data": self.data,
            "channels": [
                {
                    "channel": channel,
                    "strongest": [
                        {"activation": activation, "image": image, "unit": unit, "box": box}
                        for activation, image, unit, box in zip(*rows, strict=True)
                    ],
                }
                for channel, *rows in zip(
                    self.channels,
                    self.activations.tolist(),
                    self.images.tolist(),
                    self.positions.tolist(),
                    self.boxes.tolist(),
                    strict=True,
                )
            ],
        }

    def figure(self) -> "Figure":
        """Returns a block a channel, the strongest patch at the top left."""
        return draw_blocks(self.caption, self.channels, [self._patches])

    def _patches(self, unit: int) -> list[Tensor]:
        return [self.patch(unit, rank) for rank in range(self.images.shape[1])]


def patches(
    model: str | nn.Module,
    layer: str | None = None,
    data: str | ImageSet | None = None,
    split: str = "test",
    *,
    channels: Sequence[int] | None = None,
    units: int = 9,
    count: int = 9,
    limit: int | None = 1000,
    batch_size: int = 256,
    progress: Progress | None = None,
    **args: Any,
) -> TopActivations:
    """Returns the image patches with the largest activations of a layer's channels, over a data set.

    A patch is the exact receptive field of the unit.

    Args:
        model: A name, for which trained weights are used, or a network that :func:`zoo.create` returned.
        layer: The layer's name. By default the last default layer.
        data: A data set's name, or its images. By default the data set whose classes the network knows.
        split: The split to load, if ``data`` is not images.
        channels: The channels. By default those with the largest activations.
        units: How many channels to take by default.
        count: How many images for each channel.
        limit: Only the first images of the split, this many. By default all.
        batch_size: Images per forward pass.
        progress: Called with (images done, images in all).
        args: ``device``, and, if ``model`` is a name, ``weights`` and arguments of the family's build function.

    Returns:
        Patches, activations and positions for each channel, with a figure.

    Raises:
        UnknownNameError: There is no such layer or channel.
        DataError: The network names no data set, and there is no ``data``.

    Example:
        >>> import zoo
        >>> digits = zoo.data.load("digits", "test")
        >>> found = zoo.look.patches("resnet20.digits", "layer1", digits, channels=[0, 3], count=4, limit=100)
        >>> found.activations.shape
        torch.Size([2, 4])
    """
    with opened(model, **args) as network:
        images = images_of(network, data, split)
        layer = chosen_layer(network, layer)
        ranked = ranking(network, layer, images, count=count, limit=limit, batch_size=batch_size, progress=progress)
        if channels is None:
            channels = sorted(ranked.activations[:, 0].topk(min(units, len(ranked.activations))).indices.tolist())
        with reached(network, layer) as run:
            fields, _ = boxes_of(run, blank(network), layer)
        return patches_of(network, layer, images, ranked, fields, channels, limit=limit)


class Ranking(NamedTuple):
    """The K images that drive a unit of each of C channels most, with that unit's place: each C K."""

    activations: Tensor
    images: Tensor
    rows: Tensor
    columns: Tensor


def ranking(
    network: Network,
    layer: str,
    images: ImageSet,
    *,
    count: int,
    limit: int | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Ranking:
    """Returns the ``count`` strongest images of every channel of ``layer``, among the first ``limit`` of ``images``."""
    numbered = range(min(limit or len(images), len(images)))
    transform = Transform(info_of(network).preprocess)
    best: Tensor | None = None
    done = 0
    with reached(network, layer) as run, torch.no_grad():
        for batch, _ in batches(images, transform, batch_size, images=numbered):
            maps = maps_of(run(batch.to(device_of(network))), layer)
            peaks, places = (values.cpu() for values in maps.flatten(2).max(2))  # B C
            numbers = torch.arange(done, done + len(batch))[:, None].expand_as(places)
            candidates = torch.stack([peaks.double(), numbers.double(), places.double()])  # 3 B C
            joined = candidates if best is None else torch.cat([best, candidates], dim=1)
            order = joined[0].sort(dim=0, descending=True, stable=True).indices[:count]
            best = joined.gather(1, order.expand(3, -1, -1))
            done += len(batch)
            if progress is not None:
                progress(done, len(numbered))
    assert best is not None  # a data set has an image
    activations, numbers, places = best.mT  # 3 C K
    width = maps.shape[3]
    return Ranking(activations.float(), numbers.long(), places.long() // width, places.long() % width)


def patches_of(
    network: Network,
    layer: str,
    images: ImageSet,
    ranked: Ranking,
    fields: Tensor,
    channels: Sequence[int],
    *,
    limit: int | None = None,
) -> TopActivations:
    """Returns the patches of ``channels`` in a :func:`ranking` among the first ``limit`` of ``images``.

    ``fields`` int64 C h w 4 are the boxes that the units see, as :func:`zoo_look.receptive.boxes_of` finds them.
    """
    chosen = [check_channel(channel, len(ranked.activations), layer) for channel in channels]
    activations, numbers, rows, columns = (values[chosen] for values in ranked)  # U K
    transform = Transform(info_of(network).preprocess)
    inputs = {int(i): transform(images.image(int(i))) for i in numbers.unique()}
    inputs_of = torch.stack([torch.stack([inputs[int(i)] for i in row]) for row in numbers])
    searched = min(limit or len(images), len(images))
    where = f"{images.name}/{images.split}" + (f" (first {searched:,})" if searched < len(images) else "")
    return TopActivations(
        f"{name_of(network)}, {layer}: the strongest patches of {where}",
        layer,
        where,
        tuple(chosen),
        activations,
        numbers,
        torch.stack([rows, columns], dim=-1),
        fields[torch.tensor(chosen)[:, None], rows, columns],
        as_pixels(network, inputs_of.flatten(0, 1)).view(inputs_of.shape),
        inputs_of,
    )


def cut(pixels: Tensor, box: Tensor | Box) -> Tensor:
    top, left, bottom, right = (int(edge) for edge in box)
    return pixels[:, top:bottom, left:right]


def draw_blocks(
    caption: str, channels: Sequence[int], kinds: Sequence[Callable[[int], list[Tensor]]], columns: int = 3
) -> "Figure":
    """Arranges for each channel a square block of images of each of ``kinds``, beside one another."""
    side = math.ceil(math.sqrt(len(kinds[0](0))))
    columns = min(columns, len(channels))
    rows = math.ceil(len(channels) / columns)
    figure = new_figure(1.5 * columns * len(kinds), 1.65 * rows + 0.4, caption)
    blocks = figure.subfigures(rows, columns, squeeze=False).flat
    for unit, (block, channel) in enumerate(zip(blocks, channels, strict=False)):
        block.suptitle(f"channel {channel}", fontsize=7)
        axes = block.subplots(side, side * len(kinds), squeeze=False)
        for axis in axes.flat:
            axis.set_axis_off()
        for number, kind in enumerate(kinds):
            for rank, image in enumerate(kind(unit)):
                if image.numel():
                    show(axes[rank // side, number * side + rank % side], image)
    return figure

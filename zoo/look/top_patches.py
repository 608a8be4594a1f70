"""The images that drive a channel most, and what of them its units see."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.creation import info_of
from zoo.data import ImageSet, Transform
from zoo.evaluation import batches
from zoo.look.maps import show
from zoo.look.network import as_pixels, blank, device_of, name_of, opened
from zoo.look.receptive import Box, boxes_of
from zoo.look.result import Look, new_figure
from zoo.look.units import Run, check_channel, chosen_layer, images_of, maps_of, reached

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Strongest(Look):
    """Of each of U channels of ``layer``, the K images that drive one of its units most, the strongest first.

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
        """C h w in [0, 1]: what the ``rank``-th unit of the ``unit``-th channel here sees of its image."""
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
        """A block a channel, the strongest patch at the top left."""
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
) -> Strongest:
    """The ``count`` image patches that drive each of ``channels`` of ``layer`` most, over a split of ``data``.

    A patch is the receptive field of the unit, cut out exactly (:mod:`zoo.look.receptive`). Without ``layer``, the last
    default layer; without ``channels``, the ``units`` with the strongest activation; without ``data``, the set whose
    classes the network knows. ``limit`` takes the first images alone. ``progress`` is told (images done, in all).
    Raises :class:`zoo.UnknownNameError` for a layer or channel that there is not.
    """
    with opened(model, **args) as network:
        images = images_of(network, data, split)
        layer = chosen_layer(network, layer)
        with reached(network, layer) as run:
            return strongest(network, run, layer, images, channels, units, count, limit, batch_size, progress)


def strongest(
    network: nn.Module,
    run: Run,
    layer: str,
    data: ImageSet,
    channels: Sequence[int] | None,
    units: int,
    count: int,
    limit: int | None,
    batch_size: int,
    progress: Progress | None,
) -> Strongest:
    """As :func:`patches`, of an opened ``network`` that ``run`` runs up to ``layer``."""
    images = range(min(limit or len(data), len(data)))
    count = min(count, len(images))
    best: Tensor | None = None
    device, done = device_of(network), 0
    transform = Transform(info_of(network).preprocess)
    with torch.no_grad():
        for batch, _ in batches(data, transform, batch_size, images=images):
            maps = maps_of(run(batch.to(device)), layer)
            peaks, places = (found.cpu() for found in maps.flatten(2).max(2))  # B C
            numbers = torch.arange(done, done + len(batch))[:, None].expand_as(places)
            found = torch.stack([peaks.double(), numbers.double(), places.double()])  # 3 B C
            joined = found if best is None else torch.cat([best, found], dim=1)
            order = joined[0].sort(dim=0, descending=True, stable=True).indices[:count]
            best = joined.gather(1, order.expand(3, -1, -1))
            done += len(batch)
            if progress is not None:
                progress(done, len(images))
    assert best is not None  # a data set has an image
    if channels is None:
        channels = sorted(best[0, 0].topk(min(units, best.shape[2])).indices.tolist())
    chosen = [check_channel(channel, best.shape[2], layer) for channel in channels]
    activations, numbers, places = best[:, :, chosen].mT  # 3 U K
    width = maps.shape[3]
    positions = torch.stack([places.long() // width, places.long() % width], dim=-1)
    fields, _ = boxes_of(run, blank(network), layer)
    boxes = fields[torch.tensor(chosen)[:, None], positions[..., 0], positions[..., 1]]
    inputs = {int(i): transform(data.image(int(i))) for i in numbers.unique()}
    taken = torch.stack([torch.stack([inputs[int(i)] for i in row]) for row in numbers])
    where = f"{data.name}/{data.split}" + (f" (first {len(images):,})" if len(images) < len(data) else "")
    return Strongest(
        f"{name_of(network)}, {layer}: the strongest of {where}",
        layer,
        where,
        tuple(chosen),
        activations.float(),
        numbers.long(),
        positions,
        boxes,
        as_pixels(network, taken.flatten(0, 1)).view(taken.shape),
        taken,
    )


def cut(pixels: Tensor, box: Tensor | Box) -> Tensor:
    top, left, bottom, right = (int(edge) for edge in box)
    return pixels[:, top:bottom, left:right]


def draw_blocks(
    caption: str, channels: Sequence[int], kinds: Sequence[Callable[[int], list[Tensor]]], columns: int = 3
) -> "Figure":
    """For each channel a square block of images of each of ``kinds``, beside one another."""
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

"""Deconvnet: projects what drives a unit back into pixels.

Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2013, sections 2.1 and 4. All activations
of a layer but one are set to zero and sent down: through the filters, flipped (a convolution's gradient), into the
places that max pools remember having chosen from (a pool's gradient), and through a ReLU wherever a ReLU was. So it is
the gradient with another rule for ReLUs, and that is how it is computed. Other layers, normalisation among
them, pass on their gradient; the paper leaves its contrast normalisation out.

A projection shows structure that drives a unit. It does not tell classes apart: Nie, Zhang and Patel ("A theoretical
explanation for perplexing behaviors of backpropagation-based visualizations", 2018) show that it restores the image.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.data import ImageSet
from zoo.errors import WeightsError
from zoo.evaluation.forward import device_of
from zoo_look.maps import show
from zoo_look.network import (
    Deconvolution,
    Picture,
    Rectifiers,
    Run,
    as_input,
    as_pixels,
    blank,
    check_channel,
    check_position,
    chosen_layer,
    downward,
    maps_of,
    name_of,
    one_hot,
    opened,
    reached,
)
from zoo_look.receptive import Box, boxes_of
from zoo_look.result import Look, new_figure
from zoo_look.top_patches import Progress, TopActivations, cut, draw_blocks, patches

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger("zoo")


@dataclass(frozen=True, eq=False)
class Projections(TopActivations):
    """The strongest images of each channel, and ``projections`` float32 U K C H W of the units that they drive.

    In units of the network's input. A projection starts with the unit's activation, and grows in proportion to it.
    """

    projections: Tensor

    def figure(self) -> "Figure":
        """Draws as in the paper: a block a channel, its projections on the left, the patches on the right."""
        return draw_blocks(self.caption, self.channels, [self._projected, self._patches], columns=2)

    def _projected(self, unit: int) -> list[Tensor]:
        pairs = zip(self.projections[unit], self.boxes[unit], strict=True)
        return [around_gray(cut(projection, box)) for projection, box in pairs]


@dataclass(frozen=True, eq=False)
class Projection(Look):
    """``projection`` float32 C H W of one unit for one ``image``, C H W in [0, 1]; ``box`` is what the unit sees."""

    layer: str
    channel: int
    position: tuple[int, int]
    activation: float
    box: Box
    projection: Tensor
    image: Tensor

    def facts(self) -> dict[str, Any]:
        return {
            "layer": self.layer,
            "channel": self.channel,
            "position": list(self.position),
            "activation": self.activation,
            "box": list(self.box),
            "norm": float(self.projection.norm()),
        }

    def figure(self) -> "Figure":
        """Draws the image and the projection, zero grey."""
        figure = new_figure(4.2, 2.5, self.caption)
        axes = figure.subplots(1, 2)
        show(axes[0], self.image)
        show(axes[1], around_gray(self.projection))
        return figure


def deconv(
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
) -> Projections:
    """Returns the images of :func:`zoo.look.patches`, and the projection of each unit back to pixels.

    Warns of activations other than ReLU below the layer: they pass on their gradient.

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
        Patches and projections for each channel, with a figure.

    Raises:
        UnknownNameError: There is no such layer or channel.
        WeightsError: The network has no ReLU.
        DataError: The network names no data set, and there is no ``data``.

    Example:
        >>> import zoo
        >>> digits = zoo.data.load("digits", "test")
        >>> found = zoo.look.deconv("resnet20.digits", "layer1", digits, channels=[0], count=2, limit=50)
        >>> found.channels
        (0,)
    """
    with opened(model, **args) as network:
        layer = chosen_layer(network, layer)
        check_rectifiers(network)
        strongest = patches(
            network, layer, data, split,
            channels=channels, units=units, count=count, limit=limit, batch_size=batch_size, progress=progress,
        )  # fmt: skip
        with reached(network, layer) as run:
            warn_of_strides(network, run, layer)
        return project_found(network, strongest, batch_size)


def project_found(network: nn.Module, strongest: TopActivations, batch_size: int = 256) -> Projections:
    """Returns ``strongest`` with the projection of each of its units."""
    inputs = strongest.inputs.flatten(0, 1)
    each = torch.tensor(strongest.channels)[:, None].expand(strongest.images.shape).flatten()
    projected: list[Tensor] = []
    with reached(network, strongest.layer) as run:
        for start in range(0, len(inputs), batch_size):
            some = slice(start, start + batch_size)
            batch, positions = inputs[some].to(device_of(network)), strongest.positions.flatten(0, 1)[some]
            projected.append(project_units(run, batch, strongest.layer, each[some], positions)[0])
    fields = {name: getattr(strongest, name) for name in TopActivations.__dataclass_fields__}
    fields["caption"] = (
        f"{name_of(network)}, {strongest.layer}: projections, and the strongest patches of {strongest.data}"
    )
    return Projections(**fields, projections=torch.cat(projected).cpu().view(strongest.inputs.shape))


def project(
    model: str | nn.Module,
    image: Picture,
    layer: str | None = None,
    channel: int | None = None,
    position: tuple[int, int] | None = None,
    **args: Any,
) -> Projection:
    """Returns the projection of one unit back to the pixels of an image.

    Args:
        model: A name, for which trained weights are used, or a network that :func:`zoo.create` returned.
        image: A file, a Pillow image, or the network's input as a tensor.
        layer: The layer's name. By default the last default layer.
        channel: The unit's channel. By default the one with the largest activation.
        position: The unit's (row, column). By default where the channel's activation is largest.
        args: ``device``, and, if ``model`` is a name, ``weights`` and arguments of the family's build function.

    Returns:
        The projection, with a figure.

    Raises:
        UnknownNameError: There is no such layer, channel or position.
        WeightsError: The network has no ReLU.
        DataError: The image cannot be read.

    Example:
        >>> import zoo
        >>> image = zoo.data.load("digits", "test").image(0)
        >>> zoo.look.project("resnet20.digits", image, "layer1", channel=3).channel
        3
    """
    with opened(model, **args) as network:
        layer = chosen_layer(network, layer)
        check_rectifiers(network)
        inputs = as_input(network, image)[:1]
        with reached(network, layer) as run:
            warn_of_strides(network, run, layer)
            with torch.no_grad():
                maps = maps_of(run(inputs), layer)[0]
            if channel is None:
                channel = int(maps.flatten(1).amax(1).argmax())
            check_channel(channel, len(maps), layer)
            position = check_position(position or divmod(int(maps[channel].argmax()), maps.shape[2]), maps, layer)
            where = torch.tensor([position])
            projection, activation = project_units(run, inputs, layer, torch.tensor([channel]), where)
            top, left, bottom, right = boxes_of(run, inputs, layer)[0][channel, *position].tolist()
        return Projection(
            f"{name_of(network)}, {layer}, channel {channel} at {position}",
            layer,
            channel,
            position,
            float(activation[0]),
            (top, left, bottom, right),
            projection[0].float().cpu(),
            as_pixels(network, inputs)[0],
        )


def project_units(run: Run, inputs: Tensor, layer: str, channels: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Projections B C H W and activations B: of image i the unit of ``channels[i]`` (B) at ``positions[i]`` (B 2).

    ``run`` gives the layer's output (:func:`zoo_look.network.reached`); the seed is the activation.
    """
    with torch.inference_mode(False), torch.enable_grad(), Rectifiers(Deconvolution):
        leaf = inputs.detach().clone().requires_grad_()
        output = run(leaf.clone())  # the first layer may work in place
        maps = maps_of(output, layer)
        channels, positions = channels.to(maps.device), positions.to(maps.device)
        places = positions[:, 0] * maps.shape[3] + positions[:, 1]
        values = maps.detach().flatten(2)[torch.arange(len(maps), device=maps.device), channels, places]
        return downward(maps, leaf, one_hot(maps, channels, places, values), layer), values


def check_rectifiers(network: nn.Module) -> None:
    """Raises :class:`WeightsError` for a network that computes no ReLU, warns of other activations."""
    with torch.no_grad(), Rectifiers() as seen:
        network(blank(network))
    others = ", ".join(seen.others)
    if not seen.relus:
        instead = f", but {others}" if others else ""
        raise WeightsError(
            f"{name_of(network)} has no ReLU{instead}, so a deconvnet would equal the gradient.",
            hint="zoo look attribute shows gradients.",
        )
    if seen.others:
        log.warning("%s: a deconvnet only changes ReLUs; %s uses its gradient", name_of(network), others)


def warn_of_strides(network: nn.Module, run: Run, layer: str) -> None:
    """Warns if maps were made smaller, and by no max pool: the rule for its places has nothing to apply to."""
    if any(isinstance(part, nn.MaxPool2d | nn.AdaptiveMaxPool2d) for part in network.modules()):
        return
    image = blank(network)
    with torch.no_grad():
        size = maps_of(run(image), layer).shape[-1]
    if 1 < size < image.shape[-1]:
        log.warning(
            "%s has strides but no max pool with positions, so the projection of %s consists of isolated pixels; "
            "try zoo look patches and zoo look maximize",
            name_of(network),
            layer,
        )


def around_gray(projection: Tensor) -> Tensor:
    """Returns ``projection`` C H W to be shown in [0, 1], zero at 0.5."""
    return 0.5 + 0.5 * projection / projection.abs().max().clamp(min=1e-12) if projection.numel() else projection

"""Deconvnet: what of an image makes a unit answer, projected back into pixels.

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
from zoo.look.maps import show
from zoo.look.network import Picture, as_input, as_pixels, blank, device_of, name_of, opened
from zoo.look.receptive import Box, boxes_of
from zoo.look.rectifiers import Deconvolution, Rectifiers
from zoo.look.result import Look, new_figure
from zoo.look.top_patches import Progress, Strongest, cut, draw_blocks, strongest
from zoo.look.units import (
    Run,
    check_channel,
    check_position,
    chosen_layer,
    downward,
    images_of,
    maps_of,
    one_hot,
    reached,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger("zoo")


@dataclass(frozen=True, eq=False)
class Projections(Strongest):
    """The strongest images of each channel, and ``projections`` float32 U K C H W of the units that they drive.

    In units of the network's input. A projection starts with the unit's activation, and grows in proportion to it.
    """

    projections: Tensor

    def figure(self) -> "Figure":
        """As in the paper: a block a channel, its projections on the left, the patches on the right."""
        return draw_blocks(self.caption, self.channels, [self._projected, self._patches], columns=2)

    def _projected(self, unit: int) -> list[Tensor]:
        pairs = zip(self.projections[unit], self.boxes[unit], strict=True)
        return [around_grey(cut(projection, box)) for projection, box in pairs]


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
        """The image and the projection, zero grey."""
        figure = new_figure(4.2, 2.5, self.caption)
        axes = figure.subplots(1, 2)
        show(axes[0], self.image)
        show(axes[1], around_grey(self.projection))
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
    """For each of ``channels``, the ``count`` strongest images of a data set, patches and projections of the unit.

    As :func:`zoo.look.patches`, and raises :class:`zoo.WeightsError` for a network without a ReLU: there the rule has
    nothing to apply to. Warns of other activations below the layer, which pass on their gradient.
    """
    with opened(model, **args) as network:
        images = images_of(network, data, split)
        layer = chosen_layer(network, layer)
        check_rectifiers(network)
        with reached(network, layer) as run:
            warn_of_strides(network, run, layer)
            found = strongest(network, run, layer, images, channels, units, count, limit, batch_size, progress)
            inputs = found.inputs.flatten(0, 1)
            each = torch.tensor(found.channels)[:, None].expand(found.images.shape).flatten()
            projected: list[Tensor] = []
            for start in range(0, len(inputs), batch_size):
                part = slice(start, start + batch_size)
                batch, positions = inputs[part].to(device_of(network)), found.positions.flatten(0, 1)[part]
                projected.append(project_units(run, batch, layer, each[part], positions)[0])
        fields = {name: getattr(found, name) for name in Strongest.__dataclass_fields__}
        fields["caption"] = f"{name_of(network)}, {layer}: projections, and the strongest of {found.data}"
        return Projections(**fields, projections=torch.cat(projected).cpu().view(found.inputs.shape))


def project(
    model: str | nn.Module,
    image: Picture,
    layer: str | None = None,
    channel: int | None = None,
    position: tuple[int, int] | None = None,
    **args: Any,
) -> Projection:
    """One image's projection: of the unit of ``channel`` at ``position`` (row, column) of the map.

    Without a ``position`` the channel's most active unit, without a ``channel`` the layer's. Errors as :func:`deconv`.
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

    ``run`` gives the layer's output (:func:`zoo.look.units.reached`); the seed is the activation.
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
            f"{name_of(network)} computes no ReLU{instead}: a deconvnet has nothing to change.",
            hint="zoo look attribute shows gradients.",
        )
    if seen.others:
        log.warning("%s: a deconvnet knows ReLUs; %s passes on its gradient", name_of(network), others)


def warn_of_strides(network: nn.Module, run: Run, layer: str) -> None:
    """Warns where maps were made smaller, and by no max pool: the rule for its places has nothing to apply to."""
    if any(isinstance(part, nn.MaxPool2d | nn.AdaptiveMaxPool2d) for part in network.modules()):
        return
    image = blank(network)
    with torch.no_grad():
        size = maps_of(run(image), layer).shape[-1]
    if 1 < size < image.shape[-1]:
        log.warning(
            "%s has strides and no max pool that remembers places: a projection of %s is specks more than structure; "
            "zoo look patches and maximize say more",
            name_of(network),
            layer,
        )


def around_grey(projection: Tensor) -> Tensor:
    """``projection`` C H W to be shown in [0, 1], zero at 0.5."""
    return 0.5 + 0.5 * projection / projection.abs().max().clamp(min=1e-12) if projection.numel() else projection

"""The atlas: what drives the channels of networks, in a folder of parts that are computed once.

``NAME/LAYER/00016.json`` describes the channels from 16 on; beside it are their pictures, of each kind those of all
channels below one another in one file. The JSON is written last, so a part whose JSON is there is complete.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from math import degrees
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from zoo.errors import DataError, UnknownNameError
from zoo.manifest import Weights
from zoo.registry import listing
from zoo.system import storage

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.data import ImageSet
    from zoo.loading import Network
    from zoo.look import Portraits

_COLUMNS = {"maximum": 1, "patches": 3, "projections": 3, "field": 2}
"""The pictures of a channel, by kind, with how many of them stand side by side."""

_TOGETHER = 16
"""Channels of a part: what is lost if the computation is ended, and what a page loads to show one of them."""
_LARGEST = {"maximum": 64, "patches": 40, "projections": 40, "field": 40}
"""Pixels a side to which larger pictures are reduced."""

_SELECTIVE = 0.5
"""Orientation selectivity from which on a channel is said to prefer an orientation."""
_STRIPES = {0.0: "vertical stripes", 90.0: "horizontal stripes", 45.0: "diagonal stripes", 135.0: "diagonal stripes"}
_GRAY = 0.75
"""The share of a filter's energy from which it is called grey, and of the rest from which it is called coloured."""
_COLORS = ("red and cyan", "yellow and blue", "green and magenta")
"""The axes of hue at 0, 60 and 120 degrees."""

Progress = Callable[[int, int], None]


VERSION = 2
"""The version of the files, which grows when what they hold changes: earlier ones are computed again."""


class Settings(msgspec.Struct, frozen=True):
    """The settings that a part depends on. A part with other settings is computed again."""

    weights: str
    sha256: str
    layer: str
    data: str
    split: str
    limit: int
    steps: int
    version: int = VERSION


class Gabor(msgspec.Struct, frozen=True):
    """The Gabor filter nearest to a unit's linear receptive field; ``error`` is the residual's share of the norm."""

    wavelength: float
    orientation: float
    phase: float
    error: float


class Channel(msgspec.Struct, frozen=True):
    """A channel: its strongest ``activations`` over the data, numbers and ``classes`` of these ``images``, the value
    of the maximising image, and what gratings add to its response, by wavelength and orientation.

    Of a first layer, ``gray`` is the share of the filter's energy that is the same in red, green and blue, and ``axis``
    that of the colours of the rest, in degrees: :meth:`zoo_look.portraits.Field.colors`.
    """

    number: int
    activations: tuple[float, ...]
    images: tuple[int, ...]
    classes: tuple[str, ...]
    maximum: float | None
    responses: tuple[tuple[float, ...], ...]
    best: tuple[float, float] | None
    """Wavelength and orientation of the strongest response."""
    selectivity: float
    gabor: Gabor | None
    gray: float | None
    axis: float | None


class Part(msgspec.Struct, frozen=True):
    """Channels of a layer that has ``total``. ``tiles`` are width and height of a channel's picture, by kind."""

    settings: Settings
    total: int
    data: str
    wavelengths: tuple[float, ...]
    orientations: tuple[float, ...]
    tiles: dict[str, tuple[int, int]]
    is_first: bool
    """Whether the layer is the first convolution, or what follows it up to the next."""
    channels: tuple[Channel, ...]

    def preferences(self, channel: Channel) -> list[str]:
        """Returns what a channel prefers, in words that readers search for; each from a measurement, or missing.

        - The class of most of its strongest patches; not of a first layer, whose units see a few pixels. Of nine
          patches from ten equal classes, five are of one class by chance in 0.8% of channels.
        - The grating that drives it most, if that is at least half as much as its strongest patch does: frequency by
          the bands of :mod:`zoo_look.diagnosis`, and the orientation of a selective channel.
        - The colours of a first layer's filter.
        """
        words = []
        ((name, count),) = Counter(channel.classes).most_common(1)
        if not self.is_first and 2 * count > len(channel.classes):
            words.append(name)
        most = max(value for row in channel.responses for value in row)
        if channel.best is not None and 2 * most >= channel.activations[0]:
            length, angle = channel.best
            if channel.selectivity >= _SELECTIVE:
                words.append(f"{_STRIPES.get(angle, 'oblique stripes')} {angle:g}°")
            words.append(f"{'high' if length <= 4 else 'middle' if length <= 8 else 'low'} frequency")
        if channel.gray is not None and channel.axis is not None:
            if channel.gray >= _GRAY:
                words.append("grey")
            elif channel.gray <= 1 - _GRAY:
                words.append(_COLORS[round(channel.axis / 60) % 3])
        return words


class Layer(NamedTuple):
    """The parts of one layer of one set of weights, in the order of their channels."""

    weights: str
    name: str
    parts: tuple[tuple[Path, Part], ...]

    @property
    def address(self) -> str:
        """Its folder in the atlas and in the site."""
        return f"{slug(self.weights)}/{self.name}"

    @property
    def channels(self) -> list[tuple[Part, Channel]]:
        return [(part, channel) for _, part in self.parts for channel in part.channels]

    @property
    def has_rest(self) -> bool:
        """Whether not all channels of the layer are there."""
        return len(self.channels) < self.parts[0][1].total


class Computed(msgspec.Struct, frozen=True):
    """The result of :func:`compute`: the channels of a network that are there, and parts that were computed now."""

    layers: int
    channels: int
    computed: int
    size: int


def compute(
    name: str,
    folder: Path,
    *,
    layers: Sequence[str] = (),
    is_first: bool = False,
    channels: int | None = None,
    data: str | None = None,
    split: str = "test",
    limit: int = 1000,
    steps: int = 64,
    progress: Progress | None = None,
) -> Computed:
    """Computes those parts of the atlas of a network that ``folder`` lacks.

    Args:
        name: The name of weights.
        folder: The atlas.
        layers: The layers. By default the network's default layers.
        is_first: Whether to take only the first of its default layers.
        channels: How many channels of each layer. By default all.
        data: The data set of the patches. By default that whose classes the network knows.
        split: Its split.
        limit: This many images of the split, at equal distances.
        steps: Steps of the ascent to the maximising images.
        progress: Called with (channels done, channels in all).

    Returns:
        The number of layers, channels, parts computed now, and bytes.

    Raises:
        UnknownNameError: There is no such network or layer.
        DataError: The data set is not available.
    """
    from zoo import look

    with look.opened(name) as network:
        info = network.zoo_info
        chosen = list(dict.fromkeys(layers)) or _default_layers(network, is_first)
        totals = {layer: look.channels_of(network, layer) for layer in chosen}
        counts = {layer: min(channels or total, total) for layer, total in totals.items()}
        images = look.images_of(network, data, split)
        searched = range(0, len(images), max(1, len(images) // limit))[:limit]  # a split may have its classes in a row
        found = images if len(searched) == len(images) else images.subset(searched, images.split)
        files: list[Path] = []
        computed = done = 0
        for layer, count in counts.items():
            sha256 = info.weights.sha256 if info.weights is not None else ""
            settings = Settings(info.name, sha256 or "", layer, images.name, images.split, limit, steps)
            parts = [range(start, min(start + _TOGETHER, count)) for start in range(0, count, _TOGETHER)]
            every = {folder / slug(info.name) / layer / f"{part.start:05}.json": part for part in parts}
            missing = {file: part for file, part in every.items() if not _is_there(file, settings, len(part))}
            done += sum(map(len, every.values())) - sum(map(len, missing.values()))
            made = look.portray(network, layer, found, missing.values(), steps=steps) if missing else ()
            for (file, part), portraits in zip(missing.items(), made, strict=True):
                _write(file, settings, totals[layer], part, portraits, images, searched)
                computed += 1
                done += len(part)
                if progress is not None:
                    progress(done, sum(counts.values()))
            files += every
    size = sum(part.stat().st_size for file in files for part in file.parent.glob(f"{file.stem}.*"))
    return Computed(len(counts), sum(counts.values()), computed, size)


def embedded() -> list[str]:
    """Returns the names of all weights that plugins bring within their packages."""
    lines = listing.select("*", family=None, dataset=None, license=None, max_params=None, pretrained=True)
    return [line.name for line in lines if line.weights is not None and _is_embedded(line.weights)]


def read(folder: Path) -> list[Layer]:
    """Returns the layers in an atlas, by name. Raises :class:`DataError` for a folder that holds none, or a damaged
    part.
    """
    layers: dict[tuple[str, str], list[tuple[Path, Part]]] = {}
    for file in sorted(folder.glob("*/*/*.json")):
        part = _read(file)
        if part is None or (slug(part.settings.weights), part.settings.layer) != file.parts[-3:-1]:
            raise DataError(
                f"{file} is not a part of an atlas.", hint="Remove it; zoo gallery atlas computes it again."
            )
        layers.setdefault((part.settings.weights, part.settings.layer), []).append((file, part))
    if not layers:
        raise DataError(f"{folder} holds no atlas.", hint=f"zoo gallery atlas NAME -o {folder} computes one.")
    return [Layer(weights, layer, tuple(parts)) for (weights, layer), parts in layers.items()]


def slug(name: str) -> str:
    return name.replace("/", ".")


def _is_embedded(weights: Weights) -> bool:
    return weights.hub.startswith("embedded:")


def _default_layers(network: "Network", is_first: bool) -> list[str]:
    names = [*getattr(network, "default_layers", ())]
    if not names:
        raise UnknownNameError(
            f"{network.zoo_info.name} has no default layers.", hint="--layer chooses some: zoo look layers lists them."
        )
    return names[:1] if is_first else names


def _read(file: Path) -> Part | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Part)
    except (OSError, msgspec.MsgspecError):
        return None


def _is_there(file: Path, settings: Settings, count: int) -> bool:
    part = _read(file)
    return part is not None and part.settings == settings and len(part.channels) >= count


def _write(
    file: Path, settings: Settings, total: int, numbers: range, portraits: "Portraits", images: "ImageSet",
    searched: range,
) -> None:  # fmt: skip
    """Writes a part: the pictures, then their description. Those of ``images`` were ``searched``."""
    from zoo.data import image_file

    file.unlink(missing_ok=True)  # of other pictures
    pictures: dict[str, list[Tensor]] = {kind: [] for kind in _COLUMNS}
    for unit in range(len(numbers)):
        pictures["maximum"] += [_small(image, "maximum") for image in portraits.maxima[unit : unit + 1]]
        for kind, parts in (("patches", portraits.patches(unit)), ("projections", portraits.projections(unit))):
            if parts:
                pictures[kind].append(image_file.block([_small(part, kind) for part in parts], _COLUMNS[kind]))
    for field in portraits.field.pictures() if portraits.field is not None else ():
        pictures["field"].append(image_file.block([_small(part, "field") for part in field], len(field)))
    tiles = {}
    for kind, every in pictures.items():
        target = file.with_suffix(f".{kind}.webp")
        if not every:
            target.unlink(missing_ok=True)
            continue
        height, width = every[0].shape[1:]
        storage.replace(target, image_file.webp(image_file.column(every), tile=width // _COLUMNS[kind]))
        tiles[kind] = (width, height)
    tuning = portraits.tuning
    some = f" ({len(searched):,} images at equal distances)" if len(searched) < len(images) else ""
    part = Part(
        settings, total, f"{images.name}/{images.split}{some}", tuning.wavelengths, tuning.orientations, tiles,
        portraits.field is not None and portraits.field.is_first,
        tuple(_channel(number, unit, portraits, images, searched) for unit, number in enumerate(numbers)),
    )  # fmt: skip
    storage.replace(file, msgspec.json.encode(part, order="deterministic"))


def _small(picture: "Tensor", kind: str) -> "Tensor":
    from zoo.data import image_file

    return image_file.within(picture, _LARGEST[kind])


def _channel(number: int, unit: int, it: "Portraits", images: "ImageSet", searched: range) -> Channel:
    gabor = gray = axis = None
    if it.field is not None and it.field.nearest is not None:
        fit = it.field.nearest
        wavelength, orientation, phase, error = (
            float(value[unit]) for value in (fit.wavelength, fit.orientation, fit.phase, fit.error)
        )
        gabor = Gabor(_short(wavelength), _short(degrees(orientation)), _short(degrees(phase)), _short(error))
    if it.field is not None and it.field.is_first and it.field.colors():
        gray, axis = map(_short, it.field.colors()[unit])
    numbers = [searched[place] for place in it.strongest.images[unit].tolist()]
    return Channel(
        number,
        tuple(map(_short, it.strongest.activations[unit].tolist())),
        tuple(numbers),
        tuple(images.classes[int(images.labels[image])].replace("_", " ") for image in numbers),
        _short(it.values[unit]) if it.values else None,
        tuple(tuple(map(_short, row)) for row in it.tuning.responses[unit].tolist()),
        it.tuning.best(unit),
        _short(it.tuning.selectivity(unit)),
        gabor,
        gray,
        axis,
    )


def _short(value: float) -> float:
    return float(f"{value:.4g}")

"""Invariance: how a network's accuracy and features change as its images are transformed."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import data as datasets
from zoo.data import ImageSet, Transform
from zoo.errors import SpecError, UnknownNameError
from zoo.evaluation import batches, check_classes
from zoo.evaluation.forward import device_of
from zoo.loading import Network
from zoo.loading.create import info_of, require_classes
from zoo.statistics import Z95, wilson
from zoo_look.network import name_of, opened, statistics
from zoo_look.result import Look, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Edges = Literal["reflection", "zeros", "border", "circular"]

STRENGTHS: Mapping[str, tuple[float, ...]] = {
    "translation": (0, 1 / 32, 2 / 32, 4 / 32, 8 / 32),
    "rotation": (0, 15, 30, 45, 60, 90, 135, 180),
    "scale": (0.5, 0.7, 0.85, 1, 1.2, 1.5, 2),
    "shear": (0, 10, 20, 30, 40),
    "brightness": (-0.4, -0.2, -0.1, 0, 0.1, 0.2, 0.4),
    "contrast": (0.2, 0.5, 0.75, 1, 1.5, 2),
    "blur": (0, 0.5, 1, 1.5, 2),
    "jpeg": (100, 75, 50, 25, 10, 5),
}
"""The strengths that are tried of each transformation, in its :data:`UNITS`."""

UNITS = {
    "translation": "share of the width",
    "rotation": "degrees, counter-clockwise",
    "scale": "factor",
    "shear": "degrees",
    "brightness": "added to pixels in [0, 1]",
    "contrast": "factor about the image's mean",
    "blur": "sigma of the Gaussian, pixels",
    "jpeg": "quality",
}


# ---- Transformations with one number as strength ---------------------------------------------------------------------


def transform(pixels: Tensor, name: str, strength: float, edges: Edges = "reflection") -> Tensor:
    """Returns ``pixels`` float B C H W in [0, 1], transformed; of the same shape, in [0, 1].

    ``strength`` is in the :data:`UNITS` of the transformation: translation goes to the right, scale 2 shows the
    middle half twice as large. Raises :class:`SpecError` for a strength that is none.
    """
    if not math.isfinite(strength):
        raise SpecError(f"{name} of strength {strength} is not a valid transformation.")
    if name == "brightness":
        return (pixels + strength).clamp(0, 1)
    if name == "contrast":
        mean = pixels.mean((1, 2, 3), keepdim=True)
        return ((pixels - mean) * strength + mean).clamp(0, 1)
    if name == "blur":
        return _blur(pixels, strength)
    if name == "jpeg":
        return _jpeg(pixels, strength)
    return _move(pixels, _matrix(name, strength), edges)


def _matrix(name: str, strength: float) -> Tensor:
    """Returns 2 x 3, from the place of a pixel to where it is taken from, in half-sides from the centre, y down."""
    angle = math.radians(strength)
    if name == "translation":
        return torch.tensor([[1.0, 0.0, -2 * strength], [0.0, 1.0, 0.0]])
    if name == "rotation":
        cos, sin = math.cos(angle), math.sin(angle)
        return torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0]])
    if name == "shear" and abs(strength) < 90:
        return torch.tensor([[1.0, math.tan(angle), 0.0], [0.0, 1.0, 0.0]])
    if name == "scale" and strength > 0:
        return torch.tensor([[1 / strength, 0.0, 0.0], [0.0, 1 / strength, 0.0]])
    raise SpecError(f"{name} of strength {strength} is not a valid transformation.")


def _move(pixels: Tensor, matrix: Tensor, edges: Edges) -> Tensor:
    """Samples bilinearly; distances are pixels on both axes, whatever the image's shape."""
    count, _, height, width = pixels.shape
    if torch.equal(matrix, torch.eye(2, 3)):
        return pixels
    y, x = torch.meshgrid(
        *(torch.arange(side, dtype=torch.float64) - (side - 1) / 2 for side in (height, width)), indexing="ij"
    )
    linear, shift = matrix[:, :2].double(), matrix[:, 2].double() * width / 2
    source = torch.stack([x, y], -1) @ linear.T + shift  # H W 2, pixels from the centre
    if edges == "circular":
        pixels = pixels.repeat(1, 1, 3, 3)
    sides = torch.tensor([pixels.shape[3], pixels.shape[2]], dtype=torch.float64)
    grid = (source * 2 / sides).to(pixels).expand(count, height, width, 2)
    mode = "border" if edges == "circular" else edges
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode=mode, align_corners=False).clamp(0, 1)


def _blur(pixels: Tensor, sigma: float) -> Tensor:
    if sigma < 0:
        raise SpecError(f"blur of sigma {sigma} is not a valid transformation.")
    if sigma == 0:
        return pixels
    reach = min(math.ceil(3 * sigma), min(pixels.shape[2:]) - 1)
    steps = torch.arange(-reach, reach + 1, dtype=pixels.dtype, device=pixels.device)
    kernel = torch.exp(-(steps**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(pixels.shape[1], 1, 1, -1)
    padded = F.pad(pixels, (reach, reach, reach, reach), mode="reflect")
    rows = F.conv2d(padded, kernel, groups=pixels.shape[1])
    return F.conv2d(rows, kernel.mT, groups=pixels.shape[1])


def _jpeg(pixels: Tensor, quality: float) -> Tensor:
    from io import BytesIO

    from PIL import Image

    from zoo.data.image_file import to_image, to_pixels

    if not 1 <= quality <= 100:
        raise SpecError(f"jpeg of quality {quality}: expected 1 to 100.")
    packed = []
    for image in (pixels * 255).round().to(torch.uint8):
        buffer = BytesIO()
        to_image(image).save(buffer, "JPEG", quality=round(quality))
        with Image.open(buffer) as opened_image:
            packed.append(to_pixels(opened_image))
    return torch.stack(packed).to(pixels) / 255


# ---- Curves ----------------------------------------------------------------------------------------------------------


class Point(msgspec.Struct, frozen=True):
    """One network under one strength of one transformation.

    ``top1`` and its Wilson ``interval`` (95%) are in per cent of ``n`` images. ``similarity`` is the cosine between
    the features (what the head is given) of an image and of the transformed one, averaged over images,
    ``similarity_interval`` that mean's 95% interval by the normal approximation.
    """

    model: str
    transformation: str
    strength: float
    n: int
    correct: int
    top1: float
    interval: tuple[float, float]
    similarity: float
    similarity_interval: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Invariance(Look):
    """``points`` of every network, transformation and strength on ``data``, in that order."""

    points: tuple[Point, ...]
    data: str
    fingerprint: str
    edges: Edges

    def curve(self, model: str, transformation: str) -> list[Point]:
        """Returns the points of one network and one transformation, by strength."""
        return [p for p in self.points if (p.model, p.transformation) == (model, transformation)]

    def facts(self) -> dict[str, Any]:
        return {
            "kind": "invariance",
            "data": self.data,
            "fingerprint": self.fingerprint,
            "edges": self.edges,
            "units": UNITS,
            "points": msgspec.to_builtins(self.points),
        }

    def figure(self) -> "Figure":
        """Returns a column a transformation: top-1 above, similarity of features below, bands of 95%."""
        kinds = list(dict.fromkeys(point.transformation for point in self.points))
        models = list(dict.fromkeys(point.model for point in self.points))
        columns = min(len(kinds), 4)
        blocks = math.ceil(len(kinds) / columns)
        figure = new_figure(2.7 * columns + 0.6, 4.0 * blocks + 0.8, self.caption)
        axes = figure.subplots(2 * blocks, columns, squeeze=False)
        for axis in axes.flat:
            axis.set_visible(False)
        for index, kind in enumerate(kinds):
            block, column = divmod(index, columns)
            scores, alike = axes[2 * block, column], axes[2 * block + 1, column]
            for model in models:
                points = self.curve(model, kind)
                strengths = [point.strength for point in points]
                scores.plot(strengths, [point.top1 for point in points], marker=".", label=model)
                scores.fill_between(strengths, *zip(*(point.interval for point in points), strict=True), alpha=0.2)
                alike.plot(strengths, [point.similarity for point in points], marker=".")
                alike.fill_between(
                    strengths, *zip(*(point.similarity_interval for point in points), strict=True), alpha=0.2
                )
            scores.set_title(kind, fontsize=9)
            alike.set_xlabel(UNITS[kind], fontsize=7)
            scores.set_ylim(0, 100)
            alike.set_ylim(min(0.0, *(point.similarity for point in self.points)), 1.02)
            for axis, label in ((scores, "top-1, %"), (alike, "similarity of features")):
                axis.set_visible(True)
                axis.tick_params(labelsize=6)
                axis.grid(color="#eeeeee")
                if column == 0:
                    axis.set_ylabel(label, fontsize=7)
                if kind == "jpeg":
                    axis.invert_xaxis()
        figure.legend(
            *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=7, frameon=False
        )
        return figure


def invariance(
    models: Sequence[str | nn.Module],
    data: str | Path | ImageSet,
    split: str = "test",
    *,
    strengths: Mapping[str, Sequence[float]] | None = None,
    edges: Edges = "reflection",
    limit: int = 1000,
    batch_size: int = 250,
    device: torch.device | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Invariance:
    """Measures how score and features change as images are transformed.

    Images are transformed in [0, 1] at the size of the network's input, before they are normalised.

    Args:
        models: Names, for which trained weights are used, or networks that :func:`zoo.create` returned.
        data: A data set's name or path, or its images.
        split: The split to load, if ``data`` is not images.
        strengths: What to try, by transformation. By default ``zoo_look.invariance_curves.STRENGTHS``.
        edges: What is beyond the edge of an image that is moved.
        limit: Only the first images of the split, this many.
        batch_size: Images per forward pass.
        device: Where to run. By default where each network is.
        progress: Called with (images done, images in all).

    Returns:
        A point for each network, transformation and strength, with a figure.

    Raises:
        UnknownNameError: There is no such model, data set or transformation.
        WeightsError: A network has no classes.
        DataError: A network knows none of the classes.

    Example:
        >>> import zoo
        >>> digits, tried = zoo.data.load("digits", "test"), {"rotation": [0, 90]}
        >>> found = zoo.look.invariance(["resnet20.digits"], digits, strengths=tried, limit=50)
        >>> [point.strength for point in found.points]
        [0.0, 90.0]
    """
    chosen = {name: tuple(values) for name, values in (strengths or STRENGTHS).items()}
    for name in chosen:
        if name not in STRENGTHS:
            raise UnknownNameError.of("transformation", name, STRENGTHS, hint=f"Available: {', '.join(STRENGTHS)}.")
    images = datasets.load(data, split) if not isinstance(data, ImageSet) else data
    n = min(limit, len(images))
    cases = [(name, float(strength)) for name, values in chosen.items() for strength in values]
    points: list[Point] = []
    for number, model in enumerate(models):
        with opened(model, device=device) as network, torch.no_grad():
            require_classes(network)
            numbered = check_classes(network, images)

            def report(done: int, number: int = number) -> None:
                if progress is not None:
                    progress(number * n + done, len(models) * n)

            points += _measure(network, numbered, n, cases, edges, batch_size, report)
    limited = images.subset(range(n), images.split)
    names = ", ".join(dict.fromkeys(point.model for point in points))
    caption = f"{names} on {n:,} images of {images.name}/{images.split}, transformed (95% intervals)"
    return Invariance(caption, tuple(points), f"{images.name}/{images.split}", limited.fingerprint, edges)


def _measure(
    network: Network,
    images: ImageSet,
    n: int,
    cases: Sequence[tuple[str, float]],
    edges: Edges,
    batch_size: int,
    report: Callable[[int], None],
) -> list[Point]:
    preprocess = info_of(network).preprocess
    device = device_of(network)
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in statistics(network))
    right = torch.zeros(len(cases), dtype=torch.int64)
    alike: list[list[Tensor]] = [[] for _ in cases]
    done = 0
    for batch, labels in batches(images, Transform(preprocess), batch_size, images=range(n)):
        pixels = (batch.to(device) * std + mean).clamp(0, 1)
        original, _ = _run(network, (pixels - mean) / std)
        for number, (name, strength) in enumerate(cases):
            features, logits = _run(network, (transform(pixels, name, strength, edges) - mean) / std)
            right[number] += int((logits.argmax(1).cpu() == labels).sum())
            alike[number].append(F.cosine_similarity(features, original, dim=1).cpu())
        done += len(batch)
        report(done)
    return [
        _point(name_of(network), *case, int(correct), torch.cat(values).double())
        for case, correct, values in zip(cases, right, alike, strict=True)
    ]


def _run(network: Network, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Returns what the head is given, B D, and what it makes of it, B classes."""
    if info_of(network).preprocess.whitening == "zca":  # hangs before ``forward``, which is not called here
        inputs = network.get_submodule("whitening")(inputs)
    maps = network.forward_features(inputs)
    before = network.forward_head(maps, pre_logits=True)
    return before.flatten(1).float(), network.forward_head(maps).float()


def _point(model: str, name: str, strength: float, correct: int, alike: Tensor) -> Point:
    n, mean = len(alike), float(alike.mean())
    low, high = wilson(correct, n)
    reach = Z95 * float(alike.std()) / math.sqrt(n) if n > 1 else math.inf
    return Point(
        model,
        name,
        strength,
        n,
        correct,
        100 * correct / n,
        (100 * low, 100 * high),
        mean,
        (mean - reach, mean + reach),
    )

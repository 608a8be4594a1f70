"""A training as it went: what a network answers, and how its layers change, from epoch to epoch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zoo import data as datasets
from zoo.data import ImageSet
from zoo.errors import DataError
from zoo.evaluation import logits
from zoo.loading.create import info_of
from zoo_look.alignment import cka, grams
from zoo_look.first_layer import find_first_layer
from zoo_look.network import opened
from zoo_look.result import Look, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ALIKE = 500
"""Images of which layers are compared at most: their product is as large as their number squared."""


@dataclass(frozen=True, eq=False)
class Trajectory(Look):
    """The networks of one training after ``epochs``, E of them.

    ``right``, bool E N, says which of N images each knows. ``cka``, float64 E E, is how alike ``layer`` is after one
    epoch to the same layer after another. ``filters``, float32 E F C H W, are those of the first layer.
    """

    right: Tensor
    cka: Tensor
    filters: Tensor
    epochs: tuple[int, ...]
    layer: str
    data: str

    def history(self) -> dict[str, list[float]]:
        """Returns a number for each epoch.

        ``top1``, per cent. ``learned``: images that are right now and stay right to the end, per cent; ``new`` of
        these came with this epoch. ``forgotten``: images that were right at the epoch before and are wrong now, per
        cent: forgetting events (Toneva et al., ICLR 2019), counted between the epochs there are.
        """
        share = 100 / self.right.shape[1]
        lasting = self.right.flip(0).long().cummin(0).values.flip(0).bool()  # right from here on
        before = torch.cat([torch.zeros_like(self.right[:1]), self.right[:-1]])
        new = lasting & ~torch.cat([torch.zeros_like(lasting[:1]), lasting[:-1]])
        rows = {"top1": self.right, "learned": lasting, "new": new, "forgotten": before & ~self.right}
        return {name: (row.sum(1) * share).tolist() for name, row in rows.items()}

    def facts(self) -> dict[str, Any]:
        """Returns the history, and how often images are forgotten."""
        events = (self.right[:-1] & ~self.right[1:]).sum(0)
        return {
            "epochs": self.epochs,
            **self.history(),
            "images": self.right.shape[1],
            "never_forgotten": int((self.right.any(0) & (events == 0)).sum()),
            "never_right": int((~self.right).all(0).sum()),
            "layer": self.layer,
            "cka": self.cka.tolist(),
        }

    def figure(self) -> "Figure":
        """Draws the shares of images, the likeness of the layer between epochs, and the filters as they form."""
        figure = new_figure(11, 3.4 + 0.32 * len(self.epochs), self.caption)
        rows = figure.add_gridspec(2, 2, height_ratios=(3.0, 0.32 * len(self.epochs)), width_ratios=(1.6, 1))
        history, ticks = self.history(), range(len(self.epochs))
        axis = figure.add_subplot(rows[0, 0])
        words = {"top1": "right", "learned": "right from here on", "forgotten": "forgotten since the epoch before"}
        for name, label in words.items():
            axis.plot(ticks, history[name], marker="o", markersize=3, label=label)
        axis.set_xticks(ticks, map(str, self.epochs), fontsize=7)
        axis.set_xlabel("epochs done", fontsize=8)
        axis.set_ylabel(f"% of {self.right.shape[1]:,} images", fontsize=8)
        axis.legend(fontsize=7)
        axis = figure.add_subplot(rows[0, 1])
        image = axis.imshow(self.cka.numpy(), vmin=0, vmax=1, origin="lower", cmap="magma")
        axis.set_xticks(ticks, map(str, self.epochs), fontsize=6)
        axis.set_yticks(ticks, map(str, self.epochs), fontsize=6)
        axis.set_title(f"CKA of {self.layer} between epochs", fontsize=8)
        figure.colorbar(image)
        axis = figure.add_subplot(rows[1, :])
        axis.imshow(_sheet(self.filters), interpolation="nearest", aspect="equal")
        height = self.filters.shape[3] + 1
        axis.set_yticks([height * row + height / 2 - 0.5 for row in ticks], map(str, self.epochs), fontsize=6)
        axis.set_xticks([])
        axis.set_title("first layer's filters, a row for each epoch", fontsize=8)
        return figure


def _sheet(filters: Tensor) -> Any:
    """Returns the filters E F C H W as one picture, an array of floats in [0, 1], each filter by its own range."""
    count, columns, channels, height, width = filters.shape
    shown = filters if channels == 3 else filters.mean(2, keepdim=True).expand(-1, -1, 3, -1, -1)
    low, high = shown.amin((2, 3, 4), keepdim=True), shown.amax((2, 3, 4), keepdim=True)
    shown = (shown - low) / (high - low).clamp_min(1e-12)
    sheet = torch.ones(3, count * (height + 1), columns * (width + 1))
    for row in range(count):
        for column in range(columns):
            top, left = row * (height + 1), column * (width + 1)
            sheet[:, top : top + height, left : left + width] = shown[row, column]
    return sheet.permute(1, 2, 0).numpy()


def trajectory(
    run: str | Path,
    data: str | Path | ImageSet,
    split: str = "test",
    *,
    layer: str | None = None,
    limit: int | None = None,
    device: torch.device | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Trajectory:
    """Looks at the networks that a training kept: when each image is learned and forgotten, and how layers settle.

    Args:
        run: The folder of a run of ``zoo train --keep-epochs``, or its folder ``epochs``.
        data: A data set's name or path, or its images.
        split: The split to load, if ``data`` is not images.
        layer: The layer to compare by linear CKA (:func:`representations`), on the first 500 images at most. By
            default the last stage.
        limit: Only the first images, this many. By default all.
        device: Where to run. By default the CPU.
        progress: Called with (networks done, networks in all).

    Returns:
        The trajectory, with a figure.

    Raises:
        DataError: The run kept fewer than two networks, or there are fewer than four images.
        UnknownNameError: There is no such data set or layer.

    Example:
        >>> import zoo
        >>> settings = {"epochs": 2}
        >>> _ = zoo.train("resnet8", "digits", settings=settings, keep_epochs=[0, 2], output="runs/kept", device="cpu")
        >>> found = zoo.look.trajectory("runs/kept", "digits")
        >>> found.epochs, found.right.shape
        ((0, 2), torch.Size([2, 360]))
    """
    folder = Path(run) / "epochs" if (Path(run) / "epochs").is_dir() else Path(run)
    files = {int(file.stem): file for file in folder.glob("*.safetensors") if file.stem.isdigit()}
    if len(files) < 2:
        raise DataError(
            f"{run} has the networks of {len(files)} epochs: expected at least two.",
            hint="zoo train --keep-epochs 0,1,2,5 keeps them; so does zoo reproduce.",
        )
    images = datasets.load(data, split) if not isinstance(data, ImageSet) else data
    images = images if limit is None else images.subset(range(min(limit, len(images))), images.split)
    if len(images) < 4:
        raise DataError(f"CKA of {len(images)} images is meaningless: expected at least four.")
    epochs = tuple(sorted(files))
    right, tables, filters, name = [], [], [], ""
    for done, epoch in enumerate(epochs):
        with opened(str(files[epoch]), device=device) as network:
            info = info_of(network)
            name, layer = info.model.name, layer or info.model.stages[-1]
            answers = logits(network, images, preprocess=info.preprocess).argmax(1)
            right.append(answers == images.labels)
            tables.append(grams(network, images, min(_ALIKE, len(images)), [layer], lambda *_: None)[layer])
            filters.append(find_first_layer(network).weight.detach().float().cpu().clone())
        if progress is not None:
            progress(done + 1, len(epochs))
    alike = torch.tensor([[float(cka(a, b)) for b in tables] for a in tables], dtype=torch.float64)
    where = f"{images.name}/{images.split}"
    caption = f"A training of {name}, {len(images):,} images of {where}"
    assert layer is not None
    return Trajectory(caption, torch.stack(right), alike, torch.stack(filters), epochs, layer, where)

"""Which classes a network confuses."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo.data import ImageSet, Transform
from zoo.data.image_file import column, webp, within
from zoo.errors import PluginError
from zoo.evaluation import check_classes, hook
from zoo.evaluation.outputs import Mistake
from zoo.loading.create import info_of, require_classes
from zoo_look.network import images_of, name_of, opened
from zoo_look.result import Look, new_figure

_PAIRS = 10
_LARGEST = 48
"""Pixels a side of an example's picture at most."""

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Pair(NamedTuple):
    """``images`` of the class ``true``, which has ``n``, are classified as ``predicted``."""

    true: str
    predicted: str
    images: int
    n: int


@dataclass(frozen=True, eq=False)
class Confusion(Look):
    """``counts``, int64 K K, of images of ``data`` by true and by predicted class.

    ``examples`` are images that were confused, and ``pictures`` uint8 N C H W, what the network saw of them.
    """

    weights: str
    data: str
    fingerprint: str
    classes: tuple[str, ...]
    counts: Tensor
    examples: tuple[Mistake, ...] = ()
    pictures: Tensor | None = None

    @property
    def pairs(self) -> list[Pair]:
        """The classes that are confused, the most frequent pair first."""
        totals = self.counts.sum(dim=1).tolist()
        confused = [
            Pair(self.classes[true], self.classes[predicted], int(self.counts[true, predicted]), totals[true])
            for true, predicted in self.counts.nonzero().tolist()
            if true != predicted
        ]
        return sorted(confused, key=lambda pair: -pair.images)

    def facts(self) -> dict[str, Any]:
        about = {} if self.pictures is None else {"examples": self._examples(self.pictures)}
        return {
            "kind": "confusion",
            "weights": self.weights,
            "data": self.data,
            "fingerprint": self.fingerprint,
            "n": int(self.counts.sum()),
            "correct": int(self.counts.trace()),
            "classes": list(self.classes),
            "counts": self.counts.tolist(),
            **about,
        }

    def _examples(self, pictures: Tensor) -> dict[str, Any]:
        """Returns the examples with their pictures below one another, as a WebP file in base64."""
        tiles = [within(picture.float() / 255, _LARGEST) for picture in pictures]
        height, width = tiles[0].shape[1:]
        return {
            "images": [
                {
                    "image": one.number,
                    "true": self.classes[one.true],
                    "predicted": self.classes[one.predicted],
                    "probability": None if one.probability is None else round(one.probability, 4),
                }
                for one in self.examples
            ],
            "tile": [width, height],
            "sheet": b64encode(webp(column(tiles), tile=width)).decode(),
        }

    def figure(self) -> "Figure":
        """Returns a row for each true class, a column for each predicted one; as dark as its share of the row."""
        side = 1.6 + 0.34 * min(len(self.classes), 40)
        figure = new_figure(side + 0.6, side, self.caption)
        axis = figure.subplots()
        shares = self.counts / self.counts.sum(dim=1, keepdim=True).clamp(min=1)
        axis.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
        axis.set_xlabel("predicted")
        axis.set_ylabel("true")
        if len(self.classes) <= 40:
            places = range(len(self.classes))
            axis.set_xticks(places, self.classes, rotation=90, fontsize=7)
            axis.set_yticks(places, self.classes, fontsize=7)
            for row, column in self.counts.nonzero().tolist():
                color = "white" if shares[row, column] > 0.5 else "black"
                text = str(int(self.counts[row, column]))
                axis.text(column, row, text, ha="center", va="center", fontsize=6, color=color)
        return figure


def confusion(
    model: str | nn.Module,
    data: str | Path | ImageSet | None = None,
    split: str = "test",
    *,
    limit: int = 1000,
    examples: int = 0,
    device: torch.device | str | None = None,
) -> Confusion:
    """Counts which classes a network confuses, by the model's own evaluate hook.

    Args:
        model: A name, for which trained weights are used, or a network that :func:`zoo.create` returned.
        data: A data set's name or path, or its images. By default the data set that the weights were trained on.
        split: The split to load, if ``data`` is not images.
        limit: Only the first images of the split, this many.
        examples: How many images to show of each of the ten pairs that are confused most, the most certain mistakes.
        device: Where to run. By default where the network is.

    Returns:
        The number of images by true and by predicted class, with a figure.

    Raises:
        UnknownNameError: There is no such model or data set.
        WeightsError: The network has no classes.
        DataError: The network knows none of the classes.
        PluginError: The model's evaluate hook returns only scores.

    Example:
        >>> import zoo
        >>> found = zoo.look.confusion("resnet20.digits", "digits", limit=50)
        >>> found.counts.shape, int(found.counts.sum())
        (torch.Size([10, 10]), 50)
    """
    with opened(model, device=device) as network:
        require_classes(network)
        images = images_of(network, str(data) if isinstance(data, Path) else data, split)
        images = check_classes(network, images)
        limited = images.subset(range(min(limit, len(images))), images.split)
        info = info_of(network)
        answers = hook.answers(info.model, network, limited, preprocess=info.preprocess, dtype=None)
        weights = name_of(network)
    if answers is None:
        raise PluginError(
            f"{info.model.evaluate}, which scores {info.model.name}, returns only scores; expected logits or classes.",
            hint="zoo evaluate shows the scores.",
        )
    where = f"{images.name}/{images.split}"
    caption = f"{weights} on {len(limited):,} images of {where}: true and predicted classes"
    result = Confusion(caption, weights, where, limited.fingerprint, tuple(images.classes), answers.confusion)
    chosen = _chosen(result, answers.mistakes, examples)
    if not chosen:
        return result
    transform = Transform(info.preprocess)
    pictures = torch.stack([transform.pixels(limited.image(one.number)) for one in chosen])
    return replace(result, examples=tuple(chosen), pictures=pictures)


def _chosen(result: Confusion, mistakes: Sequence[Mistake], count: int) -> list[Mistake]:
    """Returns ``count`` of ``mistakes`` for each of the pairs that are confused most."""
    of_pair: dict[tuple[str, str], list[Mistake]] = {}
    for one in mistakes:
        of_pair.setdefault((result.classes[one.true], result.classes[one.predicted]), []).append(one)
    return [one for pair in result.pairs[:_PAIRS] for one in of_pair.get((pair.true, pair.predicted), [])[:count]]

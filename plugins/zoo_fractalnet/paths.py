"""Drop-path: which columns each image of a batch goes through (Larsson et al. 2016, section 3).

All draws are made by torch's generator of the CPU: ``torch.manual_seed`` decides them, and no GPU waits.
"""

from collections.abc import Sequence
from functools import reduce
from itertools import accumulate
from typing import Literal, NamedTuple

import torch
from torch import Tensor

DrawnPer = Literal["sample", "batch"]


class Paths(NamedTuple):
    """The ways of the images of one batch through columns 1 (the shallowest), 2, ...

    The first ``shared`` images go through all columns and become one mean where these join. Then come
    ``alone[0]`` images for column 1, ``alone[1]`` for column 2, ..., which meet no other column. A join
    drops each of its inputs with probability ``drop_path``, never all: by a draw for each ``sample``,
    or by one for the ``batch``.
    """

    shared: int
    alone: tuple[int, ...]
    drop_path: float = 0.0
    drawn_per: DrawnPer = "sample"

    def part(self, x: Tensor) -> dict[int, Tensor]:
        """Returns by column the images B C H W that go through it: the shared ones, then its own; no column without
        any."""
        shared, *own = x.tensor_split(list(accumulate((self.shared, *self.alone)))[:-1])
        images = {column: _together(shared, part) for column, part in enumerate(own, start=1)}
        return {column: part for column, part in images.items() if len(part)}

    def join(self, images: dict[int, Tensor], columns: Sequence[int]) -> None:
        """Makes the shared images in these ``columns`` the mean of what was kept of them."""
        if self.shared and len(columns) > 1:
            mean = self._mean([images[column][: self.shared] for column in columns])
            for column in columns:
                images[column] = _together(mean, images[column][self.shared :])

    def merge(self, images: dict[int, Tensor]) -> Tensor:
        """Returns the batch in its order, once all columns were joined."""
        own = [part[self.shared :] for part in images.values()]
        shared = next(iter(images.values()))[: self.shared]
        return _together(shared, *own)

    def _mean(self, inputs: Sequence[Tensor]) -> Tensor:
        if not self.drop_path:
            return reduce(torch.add, inputs) / len(inputs)
        count = self.shared if self.drawn_per == "sample" else 1
        shares = draw_shares(len(inputs), count, self.drop_path).to(inputs[0])[..., None, None, None]  # k n 1 1 1
        mean = inputs[0] * shares[0]
        for image, share in zip(inputs[1:], shares[1:], strict=True):
            mean = torch.addcmul(mean, image, share)
        return mean


class Whole(NamedTuple):
    """All images through all of these ``columns``, with nothing dropped: however many there are."""

    columns: tuple[int, ...]

    def part(self, x: Tensor) -> dict[int, Tensor]:
        return dict.fromkeys(self.columns, x)

    def join(self, images: dict[int, Tensor], columns: Sequence[int]) -> None:
        if len(columns) > 1:
            mean = reduce(torch.add, [images[column] for column in columns]) / len(columns)
            images.update(dict.fromkeys(columns, mean))

    def merge(self, images: dict[int, Tensor]) -> Tensor:
        return next(iter(images.values()))


def draw(batch: int, *, columns: int, drop_path: float, global_share: float, drawn_per: DrawnPer) -> Paths:
    """Ways for a training batch: local drop-path for a part of it, global drop-path for the rest.

    Per ``sample``, the last ``global_share`` of the batch take one column each, drawn at random, and the
    others all columns with inputs of joins dropped. Per ``batch``, the whole batch takes one column with
    probability ``global_share``, else all columns with the same inputs dropped.
    """
    if drawn_per == "batch":
        is_global = float(torch.rand((), device="cpu")) < global_share
        column = int(torch.randint(1, columns + 1, (), device="cpu"))
        if is_global:
            return Paths(0, tuple(batch if number == column else 0 for number in range(1, columns + 1)))
        return Paths(batch, (0,) * columns, drop_path, drawn_per)
    alone = int(batch * global_share)
    drawn = torch.bincount(torch.randint(columns, (alone,), device="cpu"), minlength=columns)
    return Paths(batch - alone, tuple(drawn.tolist()), drop_path, drawn_per)


def through(column: int | None, columns: int) -> Whole:
    """Runs all images through one ``column``, or through all ``columns`` with nothing dropped."""
    return Whole(tuple(range(1, columns + 1)) if column is None else (column,))


def draw_shares(inputs: int, count: int, drop_path: float) -> Tensor:
    """Returns the share of each input in each of ``count`` means, float32 inputs x count: equal if kept, 0 if dropped.

    Each is dropped with probability ``drop_path``; where that drops all, one drawn at random is kept.
    """
    is_kept = torch.rand(inputs, count, device="cpu") >= drop_path
    rescued = torch.randint(inputs, (count,), device="cpu")
    is_kept[rescued, torch.arange(count, device="cpu")] |= ~is_kept.any(dim=0)
    return is_kept / is_kept.sum(dim=0)


def _together(*parts: Tensor) -> Tensor:
    """Returns the parts one after the other, copied only where there are several."""
    held = [part for part in parts if len(part)] or [parts[0]]
    return torch.cat(held) if len(held) > 1 else held[0]

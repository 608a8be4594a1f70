"""A drawing of a network: a box for each block, as high as its maps and as thick as it has channels."""

from collections.abc import Sequence
from itertools import groupby
from math import log2, prod, sqrt
from typing import NamedTuple

from zoo_gallery.markup import Markup, element
from zoo_gallery.outline import Block

_CELL, _TALLEST, _LABELS = 104.0, 120.0, 58.0
_SLANT = 0.3
"""How far a box reaches back, as a share of its height."""
_SINGLE = 14
"""Up to this many blocks have a box each; of more, neighbours with maps of one size share one."""
_MOST = 48
_TIMES = " \N{MULTIPLICATION SIGN} "


class Box(NamedTuple):
    """Neighbouring blocks with maps of one size."""

    blocks: tuple[Block, ...]

    @property
    def title(self) -> str:
        first, last = self.blocks[0].name, self.blocks[-1].name
        return first if first == last else f"{first} to {last}"

    @property
    def kinds(self) -> dict[str, int]:
        """How often each kind occurs, the most frequent first."""
        counts: dict[str, int] = {}
        for block in self.blocks:
            counts[block.kind] = counts.get(block.kind, 0) + block.count
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    @property
    def label(self) -> str:
        """The name of the first block of the most frequent kind."""
        return next(block.name for block in self.blocks if block.kind in [*self.kinds][:1])

    @property
    def contents(self) -> str:
        """``3 x BasicBlock``, with the sign; of several kinds, the most frequent."""
        (kind, count), *others = self.kinds.items()
        return (f"{count}{_TIMES}{kind}" if count > 1 else kind) + (f" +{len(others)}" if others else "")

    @property
    def shape(self) -> tuple[int, ...] | None:
        return self.blocks[-1].shape


def boxes(blocks: Sequence[Block]) -> list[Box]:
    """What is drawn: a box for each block, or for each size of maps if there are many blocks."""
    if len(blocks) <= _SINGLE:
        return [Box((block,)) for block in blocks]
    return [Box(tuple(run)) for _, run in groupby(blocks, key=lambda block: _size(block.shape)[1])]


def draw(blocks: Sequence[Block]) -> Markup:
    """The drawing of ``blocks`` as SVG, from the input on the left to the output on the right."""
    every = boxes(blocks)
    shown = every[:_MOST]
    width, height = _CELL * len(shown), _TALLEST * (1 + _SLANT) + _LABELS + 12
    largest = max((_size(box.shape)[1] for box in shown), default=1.0)
    left = f", the first {len(shown)} of {len(every)}" if len(shown) < len(every) else ""
    label = (
        f"Drawing of the network{left}: {len(shown)} boxes, as high as their maps and as thick as they have channels."
    )
    parts = [_box(box, number, largest) for number, box in enumerate(shown)]
    return element(
        "svg", *parts, viewBox=f"0 0 {width:.0f} {height:.0f}", width=width, height=height,
        role="img", aria_label=label, class_="drawing",
    )  # fmt: skip


def _box(box: Box, number: int, largest: float) -> Markup:
    channels, side = _size(box.shape)
    tall = 10 + (_TALLEST - 10) * sqrt(side / largest)
    thick = 5 + 3.4 * log2(1 + channels)
    back = tall * _SLANT
    x = number * _CELL + (_CELL - thick - back) / 2
    bottom = _TALLEST * (1 + _SLANT) + 6
    top = bottom - tall
    corners = {
        "top": [(x, top), (x + back, top - back), (x + thick + back, top - back), (x + thick, top)],
        "side": [
            (x + thick, top),
            (x + thick + back, top - back),
            (x + thick + back, bottom - back),
            (x + thick, bottom),
        ],
        "front": [(x, top), (x + thick, top), (x + thick, bottom), (x, bottom)],
    }
    faces = [
        element("polygon", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in points), class_=face)
        for face, points in corners.items()
    ]
    middle = number * _CELL + _CELL / 2
    words = [
        (_short(box.label, len(box.blocks) > 1), "name"),
        (_short(box.contents), ""),
        (_short(in_words(box.shape)), ""),
    ]
    lines = [
        element("text", text, x=middle, y=bottom + 18 + 15 * line, text_anchor="middle", class_=kind or None)
        for line, (text, kind) in enumerate(words)
    ]
    about = element("title", f"{box.title}: {box.contents}, {in_words(box.shape)}")
    return element("g", about, *faces, *lines, class_="box" if box.shape is not None else "box unknown")


def in_words(shape: tuple[int, ...] | None) -> str:
    """``16 x 32 x 32``, with the sign."""
    return _TIMES.join(map(str, shape)) if shape is not None else "not one tensor"


def _size(shape: tuple[int, ...] | None) -> tuple[float, float]:
    """Channels, and the side of a square as large as a map; tokens T C are a map of T places."""
    if not shape:
        return 1.0, 1.0
    if len(shape) == 1:
        return float(shape[0]), 1.0
    if len(shape) == 2:
        return float(shape[1]), sqrt(shape[0])
    return float(prod(shape[:-2])), max(sqrt(shape[-2] * shape[-1]), 1.0)


def _short(text: str, is_cut: bool = False) -> str:
    return f"{text[:14]}…" if is_cut or len(text) > 15 else text

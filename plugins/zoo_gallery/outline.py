"""The blocks of a network in the order in which they finish, from its module tree, and a drawing of them.

The network is built without memory. A box is as high as its block's maps and as thick as it has channels.
"""

import contextlib
import gc
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from math import log2, prod, sqrt
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from zoo.spec import Model
from zoo_gallery.markup import Markup, element

if TYPE_CHECKING:
    from torch import nn

    from zoo.loading import Network


_CONTAINERS = ("Sequential", "ModuleList")
_KEEP_SHAPES = (
    "BatchNorm", "LayerNorm", "GroupNorm", "Dropout", "ReLU", "GELU", "SiLU", "Sigmoid", "Hardswish", "Tanh",
)  # fmt: skip

Shapes = dict[str, tuple[int, ...]]
"""Shapes of the outputs for one image, by submodule, in the order in which they first finish."""


class Block(msgspec.Struct, frozen=True):
    """A submodule ``name``: ``count`` times ``kind``, with ``shape`` of its output for one image, None if unknown."""

    name: str
    kind: str
    count: int
    shape: tuple[int, ...] | None
    params: int


class Outline(msgspec.Struct, frozen=True):
    """The blocks of a network, or the reason why they cannot be shown."""

    blocks: tuple[Block, ...] = ()
    reason: str = ""


def of_model(model: Model) -> Outline:
    """Returns the outline of the network that ``model`` builds. Whatever its plugin raises becomes the reason."""
    try:
        with contextlib.redirect_stdout(sys.stderr), _no_collection():
            return Outline(tuple(_blocks(model)))
    except Exception as error:  # a plugin's code may raise anything
        return Outline(reason=f"{type(error).__name__}: {error}")


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Makes a context without garbage collection: of thousands of modules that come and go, it frees nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _blocks(model: Model) -> Iterator[Block]:
    from zoo.loading import skip_init

    try:
        with skip_init():
            network = _built(model).to("meta")  # torch.device("meta") would pass through Python for each operation
        shapes = _shapes(network, model, "meta")
    except (NotImplementedError, RuntimeError):  # it computes with values
        network = _built(model)
        shapes = _shapes(network, model, "cpu")
    order = {name: number for number, name in enumerate(shapes)}
    for name, module in sorted(_shown(network, "", shapes), key=lambda part: order.get(part[0], len(order))):
        kinds = _kinds(module) if _is_container(module) else []
        params = sum(parameter.numel() for parameter in module.parameters())
        kind = kinds[0] if kinds else type(module).__name__
        yield Block(name, kind, max(len(kinds), 1), shapes.get(name), params)


def _built(model: Model) -> "Network":
    from zoo import loading

    return loading.build(model)[0].eval()


def _shapes(network: "nn.Module", model: Model, device: str) -> Shapes:
    import torch

    shapes: Shapes = {}
    names = {id(module): name for name, module in _asked(network)}

    def keep(module: "nn.Module", _: object, output: object) -> None:
        if isinstance(output, torch.Tensor):
            shapes.setdefault(names[id(module)], tuple(output.shape[1:]))

    hooks = [module.register_forward_hook(keep) for _, module in _asked(network)]
    for module in network.modules():
        if type(module).__module__.startswith("torch.nn.") and any(
            part in type(module).__name__ for part in _KEEP_SHAPES
        ):
            # They take longest without memory.
            module.forward = torch.nn.Identity().forward  # of this network alone
    with torch.no_grad():
        network(torch.zeros(1, *model.preprocess.input_size, device=device))
    for hook in hooks:
        hook.remove()
    return shapes


def _asked(module: "nn.Module", prefix: str = "") -> Iterator[tuple[str, "nn.Module"]]:
    """Yields the submodules whose shapes :func:`_shown` may ask for: a hook for every module would take longer."""
    children = [(f"{prefix}{name}", child) for name, child in module.named_children()]
    for name, child in children:
        yield name, child
        if len(children) == 1 or _is_container(child):
            yield from _asked(child, f"{name}.")


def _shown(module: "nn.Module", prefix: str, shapes: Shapes) -> Iterator[tuple[str, "nn.Module"]]:
    """Yields the submodules that are shown. Containers of unlike modules, and a network's only child, are opened."""
    children = [(f"{prefix}{name}", child) for name, child in module.named_children()]
    for name, child in children:
        is_opened = any(child.children()) and len(children) == 1
        if is_opened or (_is_container(child) and not _is_uniform(child, name, shapes)):
            yield from _shown(child, f"{name}.", shapes)
        elif not _is_minor(child):
            yield name, child


def _is_container(module: "nn.Module") -> bool:
    return type(module).__name__ in _CONTAINERS


def _is_uniform(container: "nn.Module", name: str, shapes: Shapes) -> bool:
    """Returns whether a container has only blocks of one kind, which return maps of one shape."""
    inner = {shapes.get(f"{name}.{part}") for part, _ in container.named_children()}
    has_blocks = all(any(child.children()) for child in container.children())
    return has_blocks and len(set(_kinds(container))) == len(inner) == 1 and None not in inner


def _kinds(module: "nn.Module") -> list[str]:
    return [type(child).__name__ for child in module.children()]


def _is_minor(module: "nn.Module") -> bool:
    """Returns whether a module changes values in place, as an activation or a normalisation does, but neither size
    nor kind.
    """
    is_layer = not any(module.children())
    is_of_torch = type(module).__module__.startswith("torch.nn")
    is_empty = not any(True for _ in module.parameters())
    kind = type(module).__name__
    return is_layer and ("Norm" in kind or (is_empty and is_of_torch and "Pool" not in kind))


_CELL, _TALLEST, _LABELS = 104.0, 120.0, 58.0
_SLANT = 0.3
"""The depth of a box, as a share of its height."""
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
        """The number of each kind, the most frequent first."""
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
    """Returns what is drawn: a box for each block, or for each size of maps if there are many blocks."""
    if len(blocks) <= _SINGLE:
        return [Box((block,)) for block in blocks]
    return [Box(tuple(run)) for _, run in groupby(blocks, key=lambda block: _box_size(block.shape)[1])]


def draw(blocks: Sequence[Block]) -> Markup:
    """Draws ``blocks`` as SVG, from the input on the left to the output on the right."""
    every = boxes(blocks)
    shown = every[:_MOST]
    width, height = _CELL * len(shown), _TALLEST * (1 + _SLANT) + _LABELS + 12
    largest = max((_box_size(box.shape)[1] for box in shown), default=1.0)
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
    channels, side = _box_size(box.shape)
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
        (_shortened(box.label, len(box.blocks) > 1), "name"),
        (_shortened(box.contents), ""),
        (_shortened(in_words(box.shape)), ""),
    ]
    lines = [
        element("text", text, x=middle, y=bottom + 18 + 15 * line, text_anchor="middle", class_=kind or None)
        for line, (text, kind) in enumerate(words)
    ]
    about = element("title", f"{box.title}: {box.contents}, {in_words(box.shape)}")
    return element("g", about, *faces, *lines, class_="box" if box.shape is not None else "box unknown")


def in_words(shape: tuple[int, ...] | None) -> str:
    """Returns ``16 x 32 x 32``, with the sign."""
    return _TIMES.join(map(str, shape)) if shape is not None else "not one tensor"


def _box_size(shape: tuple[int, ...] | None) -> tuple[float, float]:
    """Channels, and the side of a square as large as a map; tokens T C are a map of T places."""
    if not shape:
        return 1.0, 1.0
    if len(shape) == 1:
        return float(shape[0]), 1.0
    if len(shape) == 2:
        return float(shape[1]), sqrt(shape[0])
    return float(prod(shape[:-2])), max(sqrt(shape[-2] * shape[-1]), 1.0)


def _shortened(text: str, is_cut: bool = False) -> str:
    return f"{text[:14]}…" if is_cut or len(text) > 15 else text

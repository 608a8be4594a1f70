"""The networks: stages of S-cells and C-cells, the last of which answers for the classes.

State-dict keys: ``s1.weight`` ... the S-cells' connections (with ``s1.b`` in the form of 1980), ``head.weight``
from the last cells to the classes. Masks and thresholds follow from the build arguments.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from zoo.errors import SpecError
from zoo.modules import ImageClassifier, check_choice
from zoo_neocognitron.answers import InterpolatingVectors, Labels, References
from zoo_neocognitron.cells import CCells, Contrast, SCells

Rule = Literal["wta", "ais"]
Classifier = Literal["competitive", "iv"]

_GAIN = 4.0
"""2003: of the C-layers' d."""
_LEARNING_THETA = (0.65, 0.6)
"""2003: thresholds of s2 and s3 in learning."""


class Plan(NamedTuple):
    """The constants of the train hook; recognition does not look at it."""

    rule: Literal["1980", "wta", "ais"]
    digits: int
    """Images that highest stages learn from."""
    seeding: int
    """Images that the other layers learn from."""
    q: tuple[float, ...] = ()
    """1980: rate of learning of each S-layer."""
    theta: tuple[float, ...] = ()
    """2003: thresholds of s2 and s3 in learning."""
    activity: float = 0.0
    """2003: share of a pattern's strongest input that a site needs to seed a plane."""
    nearness: float = 0.0
    """Interpolating vectors: cosine up to which a class's nearest segment does not count."""


class Neocognitron(ImageClassifier):
    """Stages ``s1 c1 s2 c2 s3 c3`` and, with ``s4``, a highest stage of labelled cells.

    ``stages`` are the layers of cells by name, in order.
    """

    classifier_name = "head"
    has_one_size = True  # its cells see the middle of a larger image

    def __init__(
        self,
        stages: Sequence[tuple[str, nn.Module]],
        *,
        classifier: Classifier,
        plan: Plan,
        input_size: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.names = [name for name, _ in stages]
        for name, cells in stages:
            self.add_module(name, cells)
        self.classifier, self.plan = classifier, plan
        self.input_size = input_size
        self.head: nn.Module
        self.count_planes()
        self.reset_classifier(num_classes)

    def count_planes(self) -> None:
        """Sets ``num_features`` and ``feature_info`` from the layers as they are."""
        self.feature_info.clear()
        planes, reduction = 2, 1.0  # of the contrast layer, whose maps are larger than the image
        for name in self.names:
            planes = getattr(self.cells(name), "planes", planes)
            # An S-layer may have a cell more a side than the C-layer before it, and is no finer for that.
            reduction = max(reduction, self.input_size / getattr(self.cells(name), "size", 1))
            self.note_stage(name, planes, reduction)
        self.num_features = planes

    def s_cells(self, name: str) -> SCells:
        cells = self.cells(name)
        assert isinstance(cells, SCells)
        return cells

    def cells(self, name: str) -> nn.Module:
        return self.get_submodule(name)

    @property
    def learners(self) -> list[str]:
        """The layers whose connections grow or are given: ``s1``, ``s2``, ..."""
        return [name for name in self.names if name.startswith("s")]

    @property
    def planes(self) -> tuple[int, ...]:
        """The planes of each of these, as the build function takes them."""
        return tuple(_planes(self.cells(name)) for name in self.learners)

    def make_classifier(self, num_classes: int) -> nn.Module:
        """Gives the last planes new labels."""
        kind = InterpolatingVectors if self.classifier == "iv" else Labels
        return kind(self.num_features, num_classes, next(self.parameters(), None)) if num_classes else nn.Identity()

    def before(self, name: str, x: Tensor) -> Tensor:
        """Returns what the layer ``name`` sees of images B C H W."""
        for earlier in self.names[: self.names.index(name)]:
            x = self.cells(earlier)(x)
        return x

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps images B C H W to the last cells, B num_features h w."""
        for name in self.names:
            x = self.cells(name)(x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Maps the last cells to logits B num_classes, or to each plane's largest, B num_features."""
        x = x.amax(dim=(2, 3))
        if pre_logits or not self.num_classes:
            return x
        if isinstance(self.head, InterpolatingVectors):
            last = self.cells("s4")
            assert isinstance(last, References)
            return self.head.nearness(x, last.own())
        out: Tensor = self.head(x)
        return out


def neocognitron_1980(
    *,
    planes: Sequence[int] = (24, 24, 24),
    r: Sequence[float] = (4.0, 1.5, 1.5),
    q: Sequence[float] = (1.0, 16.0, 16.0),
    decay: float = 0.9,
    digits: int = 1000,
    num_classes: int = 10,
    in_chans: int = 1,
) -> Neocognitron:
    """Returns the network of 1980 for images of 16 pixels: 16, 10, 8, 6, 2, 1 cells a side.

    ``r`` are the selectivities of the three S-layers, ``q`` their rates of learning; training looks at
    ``digits`` images at most.
    """
    _expect(planes, 3, "planes")
    stages: list[tuple[str, nn.Module]] = []
    sizes = ((16, 5, 10, 5), (8, 5, 6, 5), (2, 5, 1, 2))  # S-layer, its window, C-layer, its window
    before = in_chans
    for index, (s_size, s_window, c_size, c_window) in enumerate(sizes):
        theta = r[index] / (1 + r[index])
        s = SCells(planes[index], before, size=s_size, window=s_window, theta=theta, decay=0.9, learns_b=True)
        c = CCells(size=c_size, window=c_window, decay=decay, alpha=0.5, lateral=True)
        if not index:
            s.weight.data.copy_(lines(planes[0], s))
        stages += [(f"s{index + 1}", s), (f"c{index + 1}", c)]
        before = planes[index]
    plan = Plan("1980", digits, digits, q=tuple(q))
    return Neocognitron(stages, classifier="competitive", plan=plan, input_size=16, num_classes=num_classes)


def neocognitron_2003(
    *,
    planes: Sequence[int] = (16, 74, 170, 400),
    theta: Sequence[float] = (0.55, 0.5, 0.45, 0.3),
    rule: Rule = "ais",
    classifier: Classifier = "iv",
    digits: int = 4000,
    seeding: int = 100,
    decay: Sequence[float] = (0.7, 0.7, 0.7),
    surround: Sequence[float] = (0.0, 0.5, 0.5),
    activity: float = 0.5,
    nearness: float = 1.0,
    num_classes: int = 10,
    in_chans: int = 1,
) -> Neocognitron:
    """Returns the network of 2003 for images of 65 pixels: 71, 68, 37, 38, 21, 22, 13, 5, 1 cells a side.

    ``theta`` are the thresholds of the four S-layers in recognition. ``rule`` ``ais`` and ``classifier`` ``iv``
    are of 2013, ``wta`` and ``competitive`` of 2003. ``decay`` and ``surround`` shape the C-layers' d; for the
    others see :class:`Plan`. Raises :class:`SpecError`.
    """
    _expect(planes, 4, "planes")
    check_choice("rule", rule, get_args(Rule))
    check_choice("classifier", classifier, get_args(Classifier))
    s1 = SCells(planes[0], 2, size=68, window=6, theta=theta[0], decay=0.9, learns_b=False)
    s1.weight.data.copy_(edges(planes[0], s1))
    stages: list[tuple[str, nn.Module]] = [("contrast", Contrast(71)), ("s1", s1)]
    sizes = ((68, 0, 37, 8), (38, 6, 21, 6), (22, 6, 13, 6))  # S-layer, its window, C-layer, its window
    for index, (s_size, s_window, c_size, c_window) in enumerate(sizes):
        if index:
            s = SCells(
                planes[index],
                planes[index - 1],
                size=s_size,
                window=s_window,
                theta=theta[index],
                decay=0.9,
                learns_b=False,
            )
            stages.append((f"s{index + 1}", s))
        c = CCells(size=c_size, window=c_window, step=2, decay=decay[index], gain=_GAIN, surround=surround[index])
        stages.append((f"c{index + 1}", c))
    if classifier == "iv":
        stages.append(("s4", References(planes[3], planes[2])))
    else:
        s4 = SCells(planes[3], planes[2], size=5, window=9, theta=theta[3], decay=0.95, learns_b=False)
        stages.append(("s4", s4))
    plan = Plan(rule, digits, seeding, theta=_LEARNING_THETA, activity=activity, nearness=nearness)
    return Neocognitron(stages, classifier=classifier, plan=plan, input_size=65, num_classes=num_classes)


def edges(planes: int, cells: SCells, strength: float = 1e4) -> Tensor:
    """Returns S1's connections as one presentation of a straight edge each leaves them: K 2 k k.

    Plane k has its edge at the angle 2 pi k / K; what is learnt is the contrast layer's answer around the
    middle of the edge, times the mask c.
    """
    side = cells.window + 24  # far from where the picture ends
    place = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
    weights = []
    for plane in range(planes):
        angle = 2 * math.pi * plane / planes
        height = place[None, :] * math.cos(angle) + place[:, None] * math.sin(angle)
        seen = Contrast(side)((height + 0.5).clamp(0, 1)[None, None])  # 1 2 31 31
        middle = (side - cells.window) // 2
        weights.append(seen[0, :, middle : middle + cells.window, middle : middle + cells.window])
    return strength * cells.mask[0] * torch.stack(weights)


def lines(planes: int, cells: SCells, strength: float = 0.01) -> Tensor:
    """Returns S1's weak start of 1980: plane k prefers a line through the middle at the angle pi k / K; K C k k."""
    place = torch.arange(cells.window, dtype=torch.float32) - (cells.window - 1) / 2
    angle = math.pi * torch.arange(planes)[:, None, None] / planes
    distance = place[None, :] * angle.sin() - place[:, None] * angle.cos()
    return strength * (-distance.square()).exp()[:, None].expand_as(cells.weight)


def parts(tensor: Tensor, size: int) -> list[Tensor]:
    """Slices of at most ``size`` along the first axis."""
    return [tensor[start : start + size] for start in range(0, len(tensor), size)]


def _planes(cells: nn.Module) -> int:
    assert isinstance(cells, SCells | References)
    return cells.planes


def _expect(planes: Sequence[int], count: int, name: str) -> None:
    if len(planes) != count or min(planes) < 1:
        raise SpecError(f"{name} = {list(planes)}: expected {count} numbers of planes, each at least 1.")

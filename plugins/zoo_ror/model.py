"""Residual networks of residual networks, for 32x32 images.

Zhang, Sun, Han, Yuan, Guo, Liu 2016, "Residual Networks of Residual Networks: Multilevel Residual
Networks", figures 2 and 3. With one level they are the residual, pre-activation and wide residual
networks that the paper starts from.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, get_args

from torch import Tensor, nn

from zoo.errors import SpecError
from zoo.modules import PooledClassifier, check_choice, count_units, he_initialize, make_shortcut
from zoo_ror.depth import DrawnPer, linear_survival
from zoo_ror.units import Option, PostActUnit, PreActUnit

Downsample = Literal["stride", "max_pool"]

_STEM_WIDTH = 16
_WIDTHS = (16, 32, 64)


class Level(nn.Module):
    """``blocks``, units or smaller levels, in a chain, with a shortcut over all of them unless that is None.

    ``activate`` puts a ReLU behind the addition, ``pool`` a 2x2 max pool in front of everything.
    """

    def __init__(self, blocks: Sequence[nn.Module], *, shortcut: nn.Module | None, activate: bool, pool: bool) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.blocks = nn.Sequential(*blocks)
        self.shortcut = shortcut
        self.act = nn.ReLU() if activate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(x)
        out: Tensor = self.blocks(x)
        if self.shortcut is not None:
            out = self.act(out + self.shortcut(x))
        return out


class RoR(PooledClassifier):
    """RoR-m with ``levels`` = m: stem, groups ``layer1`` to ``layer3``, global average, linear layer ``fc``.

    A group has n = (``depth`` - ``outside``) / 6 units; ``width`` multiplies 16, 32 and 64 channels.
    ``levels`` counts shortcuts from the units up: 1 over each unit, 2 also over everything (``root``),
    3 also over each group, 4 also over the halves of each group, and so on. What a level ends with has
    no ReLU of its own, so that one follows the additions of the last group's shortcut and the root's.
    With ``preact`` nothing follows an addition, save BN and ReLU behind the last.

    ``shortcut`` is that of units, ``middle_shortcut`` and ``root_shortcut`` those of the levels above
    (``zoo.modules.make_shortcut``), with BN if ``level_norm``. Maps shrink by ``stride``, or by a 2x2 ``max_pool``
    between groups. ``survival`` is the last unit's in stochastic depth, ``drawn_per`` batch or sample
    (``zoo_ror.depth``); ``drop_path_rate`` is another way to give it, 1 - ``survival``. ``drop_rate`` is dropout's in
    front of a unit's second convolution. Raises :class:`SpecError`.
    """

    def __init__(
        self,
        *,
        depth: int,
        levels: int = 3,
        width: int = 1,
        preact: bool = False,
        outside: int = 2,
        shortcut: Option = "A",
        middle_shortcut: Option = "C",
        root_shortcut: Option = "C",
        level_norm: bool = True,
        downsample: Downsample = "stride",
        survival: float = 1.0,
        drawn_per: DrawnPer = "batch",
        drop_path_rate: float = 0.0,
        drop_rate: float = 0.0,
        num_classes: int = 10,
        in_chans: int = 3,
    ) -> None:
        hint = "outside = 2 counts as ResNet does (56, 110, 164), 4 as WRN (28, 40, 58), 8 as other ports of RoR."
        units = count_units(depth, layers=6, others=outside, hint=hint)
        for name, option in (("", shortcut), ("middle_", middle_shortcut), ("root_", root_shortcut)):
            check_choice(f"{name}shortcut", option, get_args(Option))
        check_choice("downsample", downsample, get_args(Downsample))
        check_choice("drawn_per", drawn_per, get_args(DrawnPer))
        if levels < 1 or 2 ** (levels - 3) > units:
            raise SpecError(
                f"levels = {levels}: expected 1 at least, and no more than halve {units} units down to one."
            )
        if drop_path_rate and survival != 1:
            raise SpecError(f"survival = {survival} and drop_path_rate = {drop_path_rate}: expected one of them.")
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, _STEM_WIDTH, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.Identity() if preact else nn.BatchNorm2d(_STEM_WIDTH)
        self.act1 = nn.Identity() if preact else nn.ReLU()
        self.note_stage("act1", _STEM_WIDTH, 1)

        unit = partial(
            PreActUnit if preact else PostActUnit, shortcut=shortcut, drawn_per=drawn_per, drop_rate=drop_rate
        )
        bridge = partial(make_shortcut, middle_shortcut, norm=level_norm)
        survivals = linear_survival(3 * units, survival - drop_path_rate)
        chans = _STEM_WIDTH
        for group, base in enumerate(_WIDTHS):
            is_smaller, ends_network = group > 0, group == len(_WIDTHS) - 1
            level = _level(
                survivals[group * units : (group + 1) * units],
                chans,
                base * width,
                stride=2 if is_smaller and downsample == "stride" else 1,
                shortcuts=max(levels - 2, 0),
                ends_level=ends_network and levels > 1,
                preact=preact,
                unit=unit,
                bridge=bridge,
                pool=is_smaller and downsample == "max_pool",
            )
            self.add_module(f"layer{group + 1}", level)
            chans = base * width
            self.note_stage(f"layer{group + 1}", chans, 2**group)
        self.root = make_shortcut(root_shortcut, _STEM_WIDTH, chans, stride=4, norm=level_norm) if levels > 1 else None
        self.bn = nn.BatchNorm2d(chans) if preact else nn.Identity()
        self.act = nn.ReLU() if preact or levels > 1 else nn.Identity()
        self.num_features = chans
        self.reset_classifier(num_classes)
        he_initialize(self, "fan_out")  # as in fb.resnet.torch

    @property
    def default_layers(self) -> tuple[str, ...]:
        return *super().default_layers, "act"

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps images B C H W to the last features B num_features H/4 W/4."""
        stem = self.act1(self.bn1(self.conv1(x)))
        x = stem
        for name in ("layer1", "layer2", "layer3"):
            x = self.get_submodule(name)(x)
        if self.root is not None:
            x = x + self.root(stem)
        features: Tensor = self.act(self.bn(x))
        return features


def _level(
    survivals: Sequence[float],
    in_chans: int,
    width: int,
    *,
    stride: int,
    shortcuts: int,
    ends_level: bool,
    preact: bool,
    unit: Callable[..., nn.Module],
    bridge: Callable[..., nn.Module],
    pool: bool = False,
) -> Level:
    """Returns a unit for each of ``survivals``, under so many levels of ``shortcuts``: over all, over halves, ...

    ``ends_level`` says that a larger level ends here, whose shortcut is added before any ReLU.
    """
    count = len(survivals)
    blocks: list[nn.Module] = []
    if shortcuts > 1:
        half = (count + 1) // 2
        grow = partial(_level, shortcuts=shortcuts - 1, preact=preact, unit=unit, bridge=bridge)
        blocks.append(grow(survivals[:half], in_chans, width, stride=stride, ends_level=False))
        blocks.append(grow(survivals[half:], width, width, stride=1, ends_level=True))
    else:
        for position, survival in enumerate(survivals):
            is_first, is_last = position == 0, position == count - 1
            activate = not (is_last and (shortcuts == 1 or ends_level))
            shape = {"in_chans": in_chans if is_first else width, "stride": stride if is_first else 1}
            blocks.append(unit(**shape, width=width, survival=survival, activate=activate))
    return Level(
        blocks,
        shortcut=bridge(in_chans, width, stride=stride) if shortcuts else None,
        activate=not preact and not ends_level,
        pool=pool,
    )

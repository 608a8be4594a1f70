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
from zoo_ror.depth import DrawnPer, linear_survival
from zoo_ror.shortcut import Option, check_choice, make_shortcut
from zoo_ror.units import PostActUnit, PreActUnit

Downsample = Literal["stride", "max_pool"]

_STEM_WIDTH = 16
_WIDTHS = (16, 32, 64)
_GLOBAL_POOLS = {"avg": nn.AdaptiveAvgPool2d, "max": nn.AdaptiveMaxPool2d}


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


class RoR(nn.Module):
    """3x3 stem, groups ``layer1`` to ``layer3`` of ``units`` units each, global average, linear layer ``fc``.

    ``levels`` counts shortcuts from the units up: 1 over each unit, 2 also over everything (``root``),
    3 also over each group, 4 also over the halves of each group, and so on. What a level ends with has
    no ReLU of its own, so that one follows the additions of the last group's shortcut and the root's.
    With ``preact`` nothing follows an addition, save BN and ReLU behind the last.
    """

    def __init__(
        self,
        *,
        units: int,
        levels: int,
        width: int,
        preact: bool,
        shortcut: Option,
        middle_shortcut: Option,
        root_shortcut: Option,
        level_norm: bool,
        downsample: Downsample,
        survival: float,
        drawn_per: DrawnPer,
        drop_rate: float,
        num_classes: int,
        in_chans: int,
    ) -> None:
        for name, option in (("", shortcut), ("middle_", middle_shortcut), ("root_", root_shortcut)):
            check_choice(f"{name}shortcut", option, get_args(Option))
        check_choice("downsample", downsample, get_args(Downsample))
        check_choice("drawn_per", drawn_per, get_args(DrawnPer))
        if levels < 1 or 2 ** (levels - 3) > units:
            raise SpecError(
                f"levels = {levels}: expected 1 at least, and no more than halve {units} units down to one."
            )
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, _STEM_WIDTH, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.Identity() if preact else nn.BatchNorm2d(_STEM_WIDTH)
        self.act1 = nn.Identity() if preact else nn.ReLU()
        self.feature_info: list[dict[str, object]] = [{"num_chs": _STEM_WIDTH, "reduction": 1, "module": "act1"}]
        """Per stage: ``num_chs`` channels, ``reduction`` of the input's size, name of the ``module``."""

        unit = partial(
            PreActUnit if preact else PostActUnit, shortcut=shortcut, drawn_per=drawn_per, drop_rate=drop_rate
        )
        bridge = partial(make_shortcut, middle_shortcut, norm=level_norm)
        survivals = linear_survival(3 * units, survival)
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
            self.feature_info.append({"num_chs": chans, "reduction": 2**group, "module": f"layer{group + 1}"})
        self.root = make_shortcut(root_shortcut, _STEM_WIDTH, chans, stride=4, norm=level_norm) if levels > 1 else None
        self.bn = nn.BatchNorm2d(chans) if preact else nn.Identity()
        self.act = nn.ReLU() if preact or levels > 1 else nn.Identity()
        self.default_layers = ("act1", "layer1", "layer2", "layer3", "act")
        """Names of the modules that are worth looking at."""

        self.num_features = chans
        self.reset_classifier(num_classes)
        self.initialise()

    def reset_classifier(self, num_classes: int, global_pool: str = "avg") -> None:
        """Replaces ``fc`` by a new one; 0 classes leave it out.

        ``global_pool`` is ``avg``, ``max``, or the empty string for none, which needs 0 classes.
        Raises :class:`SpecError` for anything else.
        """
        check_choice("global_pool", global_pool, (*_GLOBAL_POOLS, ""))
        if num_classes and not global_pool:
            raise SpecError(f"A classifier of {num_classes} classes needs a global pool: 'avg' or 'max'.")
        self.num_classes = num_classes
        self.global_pool = (
            nn.Sequential(_GLOBAL_POOLS[global_pool](1), nn.Flatten(1))  # B C h w -> B C
            if global_pool
            else nn.Identity()
        )
        like = self.conv1.weight
        self.fc = (
            nn.Linear(self.num_features, num_classes, device=like.device, dtype=like.dtype)
            if num_classes
            else nn.Identity()
        )

    def get_classifier(self) -> nn.Module:
        return self.fc

    def initialise(self) -> None:
        """He's initialisation by the fan of the output, as in fb.resnet.torch; biases are 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(self.fc, nn.Linear):
            nn.init.zeros_(self.fc.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """Images B C H W to the last features B num_features H/4 W/4."""
        stem = self.act1(self.bn1(self.conv1(x)))
        x = stem
        for name in ("layer1", "layer2", "layer3"):
            x = self.get_submodule(name)(x)
        if self.root is not None:
            x = x + self.root(stem)
        features: Tensor = self.act(self.bn(x))
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features B num_features h w to logits B num_classes, or the pooled features where ``pre_logits``."""
        x = self.global_pool(x)
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


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
    """A unit for each of ``survivals``, under so many levels of ``shortcuts``: over all, over halves, ...

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


def ror(
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
    drop_rate: float = 0.0,
    num_classes: int = 10,
    in_chans: int = 3,
) -> RoR:
    """RoR-m with ``levels`` = m, of three groups with n = (``depth`` - ``outside``) / 6 units each.

    ``width`` multiplies 16, 32 and 64 channels. ``shortcut`` is that of units, ``middle_shortcut`` and
    ``root_shortcut`` those of the levels above (``zoo_ror.shortcut``), with BN where ``level_norm``.
    Maps shrink by ``stride``, or by a 2x2 ``max_pool`` between groups. ``survival`` is the last unit's
    in stochastic depth, ``drawn_per`` batch or sample (``zoo_ror.depth``); ``drop_rate`` dropout's in
    front of a unit's second convolution. Raises :class:`SpecError`.
    """
    units, rest = divmod(depth - outside, 6)
    if units < 1 or rest:
        raise SpecError(
            f"depth = {depth} is not 6n + {outside}.",
            hint="outside = 2 counts as ResNet does (56, 110, 164), 4 as WRN (28, 40, 58), 8 as other ports of RoR.",
        )
    return RoR(
        units=units,
        levels=levels,
        width=width,
        preact=preact,
        shortcut=shortcut,
        middle_shortcut=middle_shortcut,
        root_shortcut=root_shortcut,
        level_norm=level_norm,
        downsample=downsample,
        survival=survival,
        drawn_per=drawn_per,
        drop_rate=drop_rate,
        num_classes=num_classes,
        in_chans=in_chans,
    )

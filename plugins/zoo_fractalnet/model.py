"""Networks by the fractal expansion rule.

Larsson, Maire, Shakhnarovich 2016, "FractalNet: Ultra-Deep Neural Networks without Residuals"
(ICLR 2017), figure 1 and section 4, and the authors' generator of Caffe files (gustavla/fractalnet).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

from torch import Tensor, nn

from zoo.errors import SpecError
from zoo.modules import PooledClassifier, check_choice
from zoo_fractalnet.paths import DrawnPer, Paths, Whole, draw, through

PoolOrder = Literal["before_join", "after_join"]
Stem = Literal["none", "imagenet"]

_STEM_WIDTH = 64  # ResNet's first layer


class ConvUnit(nn.Module):
    """3x3 convolution, dropout, batch normalisation, ReLU: what the paper draws as one convolution.

    With ``affine``, normalisation scales and shifts and the convolution has no bias. Without, the
    convolution has one and normalisation learns nothing, as in the authors' Caffe files.
    """

    def __init__(self, in_chans: int, out_chans: int, *, drop_rate: float, affine: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, out_chans, kernel_size=3, padding=1, bias=not affine)
        self.drop = nn.Dropout(drop_rate)
        self.bn = nn.BatchNorm2d(out_chans, affine=affine)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn(self.drop(self.conv(x))))
        return out


class FractalBlock(nn.Module):
    """Columns of 1, 2, 4, ... convolutions side by side, averaged where they meet: ``column1``, ``column2``, ...

    By the rule f_1(z) = conv(z), f_{C+1}(z) = join(f_C(f_C(z)), conv(z)). Unrolled, there are as many
    rows as the deepest column has convolutions, and a convolution of column c spans 2^(C - c) of them.
    Columns that end with the same row are joined and continue from their mean.

    A 2x2 max pool follows, of each column ``before_join`` or of what they give ``after_join``.
    """

    def __init__(
        self,
        in_chans: int,
        width: int,
        *,
        columns: int,
        drop_rate: float,
        affine: bool,
        project: bool,
        pool: bool,
        pool_order: PoolOrder,
    ) -> None:
        super().__init__()
        self.rows: int = 2 ** (columns - 1)
        self.project = nn.Conv2d(in_chans, width, kernel_size=1, bias=False) if project else nn.Identity()
        first_chans = width if project else in_chans
        for column in range(1, columns + 1):
            chans = [first_chans] + [width] * 2 ** (column - 1)
            units = [ConvUnit(before, after, drop_rate=drop_rate, affine=affine) for before, after in pairwise(chans)]
            self.add_module(f"column{column}", nn.Sequential(*units))
        self.pool = nn.MaxPool2d(kernel_size=2, stride=2) if pool else nn.Identity()
        self.pools_before_join = pool_order == "before_join"

    def forward(self, x: Tensor, paths: Paths | Whole) -> Tensor:
        images = paths.part(self.project(x))
        for row in range(1, self.rows + 1):
            ended = [column for column in images if row % self.span(column) == 0]
            for column in ended:
                images[column] = self.unit(column, row)(images[column])
                if row == self.rows and self.pools_before_join:
                    images[column] = self.pool(images[column])
            paths.join(images, ended)
        whole = paths.merge(images)
        return whole if self.pools_before_join else self.pool(whole)

    def span(self, column: int) -> int:
        """Returns how many rows a convolution of this column takes."""
        return self.rows >> (column - 1)

    def unit(self, column: int, row: int) -> nn.Module:
        """Returns the convolution of this column that ends with this row."""
        return self.get_submodule(f"column{column}.{row // self.span(column) - 1}")


class FractalNet(PooledClassifier):
    """``block1``, ``block2``, ... of the given ``widths``, then one linear layer, ``fc``.

    With C = ``columns`` and B blocks it is B 2^(C - 1) convolutions deep. ``drop_rates`` are dropout's in each
    block, by default none. In training, batches are drawn their ways by local and global drop-path:
    ``drop_path``, ``global_share`` and ``drawn_per`` are those of ``zoo_fractalnet.paths.draw``, and both at 0 turn
    it off. ``project`` puts a bare 1x1 convolution in front of each block that changes the number of channels of
    the one before. ``stem`` is ``imagenet`` for ResNet's first layers and no pool behind the last block.
    With a ``column``, from 1 for the shallowest on, the network is that column alone. Raises :class:`SpecError`.
    """

    def __init__(
        self,
        *,
        columns: int = 3,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        drop_rates: Sequence[float] | None = None,
        drop_path: float = 0.15,
        global_share: float = 0.5,
        drawn_per: DrawnPer = "sample",
        pool_order: PoolOrder = "before_join",
        project: bool = False,
        affine: bool = True,
        stem: Stem = "none",
        column: int | None = None,
        num_classes: int = 10,
        in_chans: int = 3,
    ) -> None:
        drop_rates = (0.0,) * len(widths) if drop_rates is None else drop_rates
        check_choice("drawn_per", drawn_per, get_args(DrawnPer))
        check_choice("pool_order", pool_order, get_args(PoolOrder))
        check_choice("stem", stem, get_args(Stem))
        if columns < 1 or not widths or len(drop_rates) != len(widths):
            raise SpecError(
                f"columns = {columns}, widths = {list(widths)}, drop_rates = {list(drop_rates)}: "
                f"expected one column at least, and a width and a rate for each block."
            )
        for name, value in (("drop_path", drop_path), ("global_share", global_share)):
            if not 0 <= value <= 1:
                raise SpecError(f"{name} = {value} must be in [0, 1]: it is a probability.")
        super().__init__()
        self.columns = columns
        self.column = column
        self.drop_path = drop_path
        self.global_share = global_share
        self.drawn_per = drawn_per

        self.stem = _imagenet_stem(in_chans, _STEM_WIDTH) if stem == "imagenet" else nn.Identity()
        chans, reduction = (_STEM_WIDTH, 4) if stem == "imagenet" else (in_chans, 1)
        self.blocks: list[str] = []
        for index, (width, drop_rate) in enumerate(zip(widths, drop_rates, strict=True)):
            is_last = index == len(widths) - 1
            pool = stem == "none" or not is_last
            name = f"block{index + 1}"
            block = FractalBlock(
                chans,
                width,
                columns=columns,
                drop_rate=drop_rate,
                affine=affine,
                project=project and index > 0 and chans != width,
                pool=pool,
                pool_order=pool_order,
            )
            self.add_module(name, block)
            chans, reduction = width, reduction * (2 if pool else 1)
            self.blocks.append(name)
            self.note_stage(name, chans, reduction)
        self.num_features = chans
        self.reset_classifier(num_classes)
        self.initialize()

    @property
    def column(self) -> int | None:
        """The only column that takes part; None: all do."""
        return self._column

    @column.setter
    def column(self, column: int | None) -> None:
        if column is not None and column not in range(1, self.columns + 1):
            raise SpecError(
                f"column = {column!r} is not one of 1 (the shallowest) to {self.columns} (the deepest).",
                hint="None stands for all columns.",
            )
        self._column = column

    def initialize(self) -> None:
        """Draws Caffe's "Xavier": uniform with variance 1 / fan in; biases are 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="linear")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps images B C H W to the last block's features B num_features h w."""
        paths = self._paths(x.shape[0])
        x = self.stem(x)
        for name in self.blocks:
            x = self.get_submodule(name)(x, paths)
        return x

    def _paths(self, batch: int) -> Paths | Whole:
        if self.training and self.column is None and (self.drop_path or self.global_share):
            return draw(
                batch,
                columns=self.columns,
                drop_path=self.drop_path,
                global_share=self.global_share,
                drawn_per=self.drawn_per,
            )
        return through(self.column, self.columns)


def _imagenet_stem(in_chans: int, width: int) -> nn.Module:
    """Builds 7x7 of stride 2, BN, ReLU, 3x3 max pool of stride 2."""
    return nn.Sequential(
        nn.Conv2d(in_chans, width, kernel_size=7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    )

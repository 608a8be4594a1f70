"""Gabor convolutional networks for digits, and the plain network they are measured against.

Luan et al. 2017, figure 5, and the authors' code: ``MNIST_demo/models/GCN.lua`` (torch7), ``demo/net_factory.py``
(jxgu1016/Gabor_CNN_PyTorch), both with kernels of 5x5.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import TypedDict, Unpack

import torch
from torch import Tensor, nn

from zoo.modules import ImageClassifier, check_choice
from zoo_gabor.modulation import GConv

_MAPS = (10, 20, 40, 80)
_PLAIN_WIDTHS = (80, 160, 320, 640)
_HIDDEN = 1024

_LAYOUTS: dict[int, tuple[tuple[int, bool], ...]] = {
    3: ((1, True), (1, True), (1, True), (0, False)),
    5: ((2, False), (2, True), (0, True), (0, False)),
    7: ((3, False), (3, True), (1, True), (1, False)),
}
"""Each layer's padding by kernel size, and whether 2x2 max pooling follows. 28 pixels end as one."""


class DigitNet(ImageClassifier):
    """``block1`` to ``block4`` of convolution, normalisation, ReLU, pool; the maximum; ``fc1``, dropout, ``fc2``.

    ``convolve(in, out, kernel, layer, padding)`` makes the convolution of a layer, from 1 on. Each of its
    maps has ``orientations`` channels, over which, and over what positions an image leaves, the maximum is taken.
    """

    classifier_name = "fc2"
    head_names = ("fc1",)

    def __init__(
        self,
        *,
        convolve: Callable[[int, int, int, int, int], nn.Module],
        maps: tuple[int, ...],
        orientations: int,
        kernel_size: int,
        norm: bool,
        drop_rate: float = 0.5,
        num_classes: int = 10,
        in_chans: int = 1,
    ) -> None:
        check_choice("kernel_size", kernel_size, _LAYOUTS)
        super().__init__()
        self.orientations = orientations
        reduction = 1
        layout = zip(pairwise((in_chans, *maps)), _LAYOUTS[kernel_size], strict=True)
        for layer, ((in_maps, out_maps), (padding, pools)) in enumerate(layout, start=1):
            chans = out_maps * orientations
            block = nn.Sequential()
            block.add_module("conv", convolve(in_maps, out_maps, kernel_size, layer, padding))
            if norm:
                block.add_module("bn", nn.BatchNorm2d(chans))
            block.add_module("act", nn.ReLU())
            if pools:
                block.add_module("pool", nn.MaxPool2d(2))
            self.add_module(f"block{layer}", block)
            reduction *= 2 if pools else 1
            self.note_stage(f"block{layer}", chans, reduction)
        self.feature_info[-1]["reduction"] = 28  # the last convolution sees all that is left
        self.num_features = maps[-1] * orientations
        self.fc1 = nn.Linear(maps[-1], _HIDDEN)
        self.act = nn.ReLU()
        self.drop = nn.Dropout(drop_rate)
        self.head_hidden_size = _HIDDEN
        self.reset_classifier(num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps images B C 28 28 to B num_features 1 1."""
        for name in self.default_layers:
            x = self.get_submodule(name)(x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features B num_features h w to logits B num_classes, or to B head_hidden_size where ``pre_logits``."""
        x = torch.unflatten(x, 1, (-1, self.orientations)).amax((2, 3, 4))  # B M*U h w -> B M U h w -> B M
        return super().forward_head(self.drop(self.act(self.fc1(x))), pre_logits)


class Options(TypedDict, total=False):
    """The arguments that both build functions pass on to :class:`DigitNet`."""

    drop_rate: float
    num_classes: int
    in_chans: int


def gcn4(*, kernel_size: int, orientations: int = 4, **options: Unpack[Options]) -> DigitNet:
    """Returns the Gabor network of 10, 20, 40, 80 maps; layer v has the bank of scale v. Raises :class:`SpecError`.

    ``kernel_size`` is 3, 5 or 7, ``orientations`` the U channels of a map.
    """

    def convolve(in_maps: int, out_maps: int, kernel: int, layer: int, padding: int) -> nn.Module:
        return GConv(
            in_maps, out_maps, kernel, orientations=orientations, scale=layer, padding=padding, first=layer == 1
        )

    return DigitNet(
        convolve=convolve,
        maps=_MAPS,
        orientations=orientations,
        kernel_size=kernel_size,
        norm=True,
        **options,
    )


def cnn4(*, kernel_size: int = 3, **options: Unpack[Options]) -> DigitNet:
    """Returns the plain network of 80, 160, 320, 640 channels, with biases and without normalisation.

    Raises :class:`SpecError` for another ``kernel_size`` than 3, 5 or 7.
    """

    def convolve(in_maps: int, out_maps: int, kernel: int, _layer: int, padding: int) -> nn.Module:
        conv = nn.Conv2d(in_maps, out_maps, kernel, padding=padding)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # it has one
        return conv

    return DigitNet(
        convolve=convolve,
        maps=_PLAIN_WIDTHS,
        orientations=1,
        kernel_size=kernel_size,
        norm=False,
        **options,
    )

"""ZCA whitening: the linear map that decorrelates pixels and changes images the least.

A. J. Bell and T. J. Sejnowski, The "independent components" of natural scenes are edge filters,
Vision Research 37, 1997.
"""

import contextlib
from collections.abc import Iterable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import DataError


class ZCA(nn.Module):
    """``(x - mean) @ matrix`` over flattened C H W; the identity until fitted or loaded.

    Its state is two buffers, ``mean`` (C H W) and the symmetric ``matrix`` (CHW x CHW), float32.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("matrix", torch.eye(shape[0] * shape[1] * shape[2]))

    def forward(self, images: Tensor) -> Tensor:
        """Whitens ``images`` B C H W, in their own floating-point type."""
        return whitened(images, self.mean, self.matrix)

    @classmethod
    def fit(cls, images: Tensor | Iterable[Tensor], eps: float = 1e-5) -> "ZCA":
        """Fits a whitening to ``images``: float N C H W, or batches of it (training images only).

        With the covariance's eigenvectors U and eigenvalues l, the matrix is
        U diag(1 / sqrt(l + eps)) U'. ``eps`` is a variance, in the images' own squared units: it
        bounds the gain at 1 / sqrt(eps), which matters if fewer images than pixels, or constant
        pixels, leave eigenvalues at zero. Raises :class:`DataError` if there are no images.
        """
        batches = iter([images] if isinstance(images, Tensor) else images)
        first = next(batches, None)
        if first is None or len(first) == 0:
            raise DataError("Whitening cannot be fitted: no images.")
        origin = first.float().mean(0).flatten()  # sums about zero would cancel
        total = 0
        sums = torch.zeros_like(origin, dtype=torch.float64)
        products = torch.zeros(len(origin), len(origin), dtype=torch.float64, device=origin.device)
        for batch in chain([first], batches):
            # Thousands of rows in float32 and their sum in float64: twice as fast as float64 alone.
            for rows in batch.float().flatten(1).split(4096):
                centered = rows - origin
                total += len(rows)
                sums += centered.sum(0, dtype=torch.float64)
                products += (centered.T @ centered).double()
        mean = sums / total
        values, vectors = torch.linalg.eigh(products / total - torch.outer(mean, mean))
        zca = cls((first.shape[1], first.shape[2], first.shape[3]))
        zca.mean = (origin + mean).float().view(first.shape[1:])
        zca.matrix = (vectors * (values.clamp_min(0) + eps).rsqrt() @ vectors.T).float()
        return zca


def attach(module: nn.Module, zca: ZCA) -> None:
    """Makes ``zca`` the submodule ``whitening`` of ``module``, applied to the input of every call.

    So it moves, is saved and is loaded with the network. A second call replaces the first's. Raises
    :class:`DataError` for an ``nn.Sequential``, which would also run it as its last layer.
    """
    if isinstance(module, nn.Sequential):
        raise DataError("Whitening cannot be attached to an nn.Sequential, which runs every submodule.")
    is_hooked = isinstance(getattr(module, "whitening", None), ZCA)
    module.whitening = zca
    if not is_hooked:
        module.register_forward_pre_hook(_whiten)


def _whiten(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    # A plain function, so that a deep copy of the module whitens with its own copy.
    return module.whitening(inputs[0]), *inputs[1:]  # type: ignore[operator]  # attached above


@torch.fx.wrap  # a tracer knows neither shape nor device
def whitened(images: Tensor, mean: Tensor, matrix: Tensor) -> Tensor:
    """Computes :class:`ZCA`."""
    if images.shape[1:] != mean.shape:
        got, expected = tuple(images.shape[1:]), tuple(mean.shape)
        raise DataError(f"Whitening was fitted to images of shape {expected}, got {got}.")
    # Not in autocast's bfloat16: small eigenvalues make large entries.
    with contextlib.nullcontext() if images.is_meta else torch.autocast(images.device.type, enabled=False):
        flat = (images.to(mean.dtype) - mean).flatten(1) @ matrix  # B CHW
    return flat.view(images.shape).to(images.dtype)

"""From the last cells to classes: labels of planes, reference vectors, segments between these."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

AMONG = 64
"""Reference vectors of a class, the nearest to the input, between which segments are drawn."""


class Labels(nn.Module):
    """Connections from planes to classes: a class is as active as the largest cell of its planes.

    ``weight`` is 1 where plane k carries label n, else 0; float32 N K. Learning sets it; new, it deals the
    planes out to the classes in turn.
    """

    def __init__(self, num_features: int, num_classes: int, like: Tensor | None = None) -> None:
        super().__init__()
        device = None if like is None else like.device
        turn = torch.arange(num_features, device=device)[None] % num_classes
        is_own = turn == torch.arange(num_classes, device=device)[:, None]
        self.weight = nn.Parameter(is_own.to(torch.float32 if like is None else like.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Cells B K to classes B N."""
        return (x[:, None] * self.weight).amax(dim=2)


class InterpolatingVectors(Labels):
    """A class is as near as the nearest line segment between two of its reference vectors.

    Nearness is the largest cosine of the input with any point of the segment (Fukushima 2013).
    """

    def nearness(self, x: Tensor, references: Tensor) -> Tensor:
        """Cosines B K with the ``references``, unit vectors K D, to classes B N."""
        classes = []
        for weight in self.weight:
            own = weight.nonzero()[:, 0]
            gram = references[own] @ references[own].T
            classes.append(nearest_segment(x[:, own] * weight[own], gram) if len(own) else x.new_zeros(x.shape[0]))
        return torch.stack(classes, dim=1)


def nearest_segment(s: Tensor, gram: Tensor) -> Tensor:
    """The largest cosine with a segment between any two of m unit vectors: ``s`` B m, ``gram`` m m to B.

    Within a segment the nearest point is the input's projection on the plane of the two, where its cosine is
    ``sqrt((si^2 - 2 si sj g + sj^2) / (1 - g^2))``; beyond it, its nearer end. Of many vectors the ``AMONG``
    nearest alone are joined to pairs.
    """
    if s.shape[1] > AMONG:
        s, chosen = s.topk(AMONG, dim=1)
        gram = gram[chosen[:, :, None], chosen[:, None, :]]
    si, sj = s[:, :, None], s[:, None, :]
    is_between = (si > gram * sj) & (sj > gram * si) & (gram < 1 - 1e-6)
    square = (si.square() - 2 * si * sj * gram + sj.square()) / (1 - gram.square()).clamp_min(1e-6)
    within = torch.where(is_between, square, s.new_ones(())).clamp_min(1e-12).sqrt()
    inner = torch.where(is_between, within, -s.new_ones(())).amax(dim=(1, 2))
    return torch.maximum(inner, s.amax(dim=1))


class References(nn.Module):
    """Reference vectors over the whole input, averaged down to ``side`` places: B C H W to cosines B K 1 1."""

    size = 1

    def __init__(self, planes: int, in_planes: int, side: int = 5) -> None:
        super().__init__()
        self.side = side
        self.weight = nn.Parameter(torch.empty(planes, in_planes, side, side))
        nn.init.uniform_(self.weight, 0.0, 0.1)

    def vectors(self, x: Tensor) -> Tensor:
        """The input as unit vectors, B C*side*side: roots, so that many weak cells count beside a strong one."""
        return F.normalize(F.adaptive_avg_pool2d(x, self.side).clamp_min(1e-12).sqrt().flatten(1), dim=1)

    @property
    def planes(self) -> int:
        return len(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.vectors(x), self.own())[:, :, None, None]

    def own(self) -> Tensor:
        """The references as unit vectors, K C*side*side."""
        return F.normalize(self.weight.flatten(1), dim=1)

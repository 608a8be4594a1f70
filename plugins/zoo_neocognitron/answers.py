"""Answers, from the last cells to classes: labels of planes, reference vectors, segments between these."""

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
        """Cosines B K with the ``references``, unit vectors K D, to classes B N; 0 for a class without any."""
        return nearest_of_classes(x, self.weight, references @ references.T)


@torch.fx.wrap  # a tracer knows neither the number of classes nor of vectors
def nearest_of_classes(x: Tensor, labels: Tensor, gram: Tensor) -> Tensor:
    """Returns for cosines B K, ``labels`` N K and ``gram`` K K the nearest segment of each class, B N."""
    # Of other classes' references the cosine is -2, below all others: shapes depend on no label, as tracing needs.
    classes = [nearest_segment(torch.where(own != 0, x * own, -2.0), gram) for own in labels.unbind(0)]
    nearest = torch.stack(classes, dim=1)
    return torch.where(nearest < -1.5, nearest.new_zeros(()), nearest)


def nearest_segment(s: Tensor, gram: Tensor, among: int = AMONG) -> Tensor:
    """Returns the largest cosine with a segment between any two of m unit vectors: ``s`` B m, ``gram`` m m to B.

    Within a segment the nearest point is the input's projection on the plane of the two, where its cosine is
    ``sqrt((si^2 - 2 si sj g + sj^2) / (1 - g^2))``; beyond it, its nearer end. Of many vectors the ``among``
    nearest alone are joined to pairs. A cosine below -1 marks a vector that does not count.
    """
    if s.shape[1] > among:
        s, chosen = s.topk(among, dim=1)
        gram = gram[chosen[:, :, None], chosen[:, None, :]]
    si, sj = s[:, :, None], s[:, None, :]
    counts = (si >= -1.5) & (sj >= -1.5)
    is_between = counts & (si > gram * sj) & (sj > gram * si) & (gram < 1 - 1e-6)
    square = (si.square() - 2 * si * sj * gram + sj.square()) / (1 - gram.square()).clamp_min(1e-6)
    within = torch.where(is_between, square, s.new_ones(())).clamp_min(1e-12).sqrt()
    inner = torch.where(is_between, within, torch.full_like(within, -2.0)).amax(dim=(1, 2))
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
        """Returns the input as unit vectors, B C*side*side: roots, so that many weak cells count beside a strong
        one.
        """
        return F.normalize(F.adaptive_avg_pool2d(x, self.side).clamp_min(1e-12).sqrt().flatten(1), dim=1)

    @property
    def planes(self) -> int:
        return len(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.vectors(x), self.own())[:, :, None, None]

    def own(self) -> Tensor:
        """Returns the references as unit vectors, K C*side*side."""
        return F.normalize(self.weight.flatten(1), dim=1)

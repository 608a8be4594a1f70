"""The cells: S-cells that extract features, C-cells that forgive their places, and a contrast layer.

Fukushima 1980 (Biological Cybernetics 36), equations 1 to 6, and Fukushima 2003 (Neurocomputing 51).
Sizes of layers are given; windows lie centred over the layer before, so that an even one stands
between its cells, and what of a window lies outside sees zeros.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_TINY = 1e-12


def fixed_mask(window: int, decay: float) -> Tensor:
    """Weights that fall with the distance from the window's centre: ``decay`` per cell, sum 1; float32 k k."""
    offsets = torch.arange(window, dtype=torch.float32) - (window - 1) / 2
    distance = (offsets[:, None].square() + offsets[None, :].square()).sqrt()
    mask = decay**distance
    return mask / mask.sum()


def fit(x: Tensor, size: int, window: int, step: int = 1) -> Tensor:
    """Pads or crops maps ... H W so that ``window`` at every ``step`` gives ``size`` places, centred."""
    missing = (size - 1) * step + window - x.shape[-1]
    before = missing // 2
    return F.pad(x, (before, missing - before, before, missing - before))


class Contrast(nn.Module):
    """U_G: on-centre and off-centre cells, B C H W to B 2 size size.

    A difference of two Gaussians of sum 0 over the mean of the channels; a cell fires where its centre is
    brighter than its surround (plane 0), or darker (plane 1).
    """

    def __init__(self, size: int, window: int = 7, centre: float = 1.0, surround: float = 2.0) -> None:
        super().__init__()
        self.size = size
        offsets = (torch.arange(window, dtype=torch.float32) - (window - 1) / 2).square()
        square = offsets[:, None] + offsets[None, :]
        narrow, wide = ((-square / (2 * sigma**2)).exp() for sigma in (centre, surround))
        difference = narrow / narrow.sum() - wide / wide.sum()
        self.register_buffer("mask", torch.stack([difference, -difference])[:, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        mask: Tensor = self.mask  # type: ignore[assignment]  # a buffer
        return F.relu(F.conv2d(fit(x.mean(dim=1, keepdim=True), self.size, mask.shape[-1]), mask))


class SCells(nn.Module):
    """One layer of S-cells with its V-cells: B C H W to B planes size size.

    ``u = r relu((1 + sum a x) / (1 + theta B v) - 1)`` with ``v = sqrt(sum c x^2)``, ``r = theta / (1 - theta)``:
    excitation is *divided* by inhibition. In the form of 1980 ``B = 2 b`` with a learnt ``b`` each plane,
    which is the paper's ``2 r / (1 + r) b``. In that of 2003 ``B = sqrt(sum a^2 / c)``, by which a cell with
    strong weights answers ``relu(s - theta) / (1 - theta)`` to an input at cosine ``s``.

    ``theta`` is the threshold in recognition; learning passes its own.
    """

    def __init__(
        self, planes: int, in_planes: int, *, size: int, window: int, theta: float, decay: float, learns_b: bool
    ) -> None:
        super().__init__()
        self.size, self.window, self.theta = size, window, theta
        self.weight = nn.Parameter(torch.empty(planes, in_planes, window, window))
        self.b = nn.Parameter(torch.empty(planes)) if learns_b else None
        self.decay = decay
        self.register_buffer("c", self._mask(in_planes), persistent=False)
        nn.init.uniform_(self.weight, 0.0, 1e-3)  # before it learns, a cell answers weakly to anything
        if self.b is not None:
            nn.init.zeros_(self.b)

    def _mask(self, in_planes: int) -> Tensor:
        return fixed_mask(self.window, self.decay)[None, None] / in_planes  # sums to 1 over planes and places

    def clear(self, in_planes: int) -> None:
        """Leaves no plane, of as many inputs as the layer before has grown to."""
        self.weight = nn.Parameter(self.weight.new_empty(0, in_planes, self.window, self.window))
        self.c = self._mask(in_planes).to(self.weight)

    def add(self, weight: Tensor) -> None:
        """Adds planes with the connections ``weight`` K C k k."""
        self.weight = nn.Parameter(torch.cat([self.weight.data, weight]))

    @property
    def planes(self) -> int:
        return len(self.weight)

    @property
    def mask(self) -> Tensor:
        """c, float32 1 1 k k."""
        mask: Tensor = self.c
        return mask

    def inhibition(self, weight: Tensor | None = None) -> Tensor:
        """Returns B of each plane, float32 K."""
        if self.b is not None:
            return 2 * self.b
        weight = self.weight if weight is None else weight
        return (weight.square() / self.mask).sum(dim=(1, 2, 3)).clamp_min(_TINY).sqrt()

    def v(self, x: Tensor) -> Tensor:
        """Returns the V-cells' answers to the input, B C H W to B 1 size size."""
        energy = F.conv2d(fit(x.square().sum(dim=1, keepdim=True), self.size, self.window), self.mask)
        return energy.clamp_min(_TINY).sqrt()  # the root's slope at 0 is not finite

    def respond(self, x: Tensor, theta: float, weight: Tensor | None = None, v: Tensor | None = None) -> Tensor:
        """Returns the cells' answers to B C H W at the threshold ``theta``; ``weight`` of some planes in place of
        all.
        """
        kernel = self.weight if weight is None else weight
        excitation = F.conv2d(fit(x, self.size, self.window), kernel)
        inhibition = theta * self.inhibition(weight)[:, None, None] * (self.v(x) if v is None else v)
        # (1 + e) / (1 + h) - 1, without the loss of digits where both are small.
        return theta / (1 - theta) * F.relu((excitation - inhibition) / (1 + inhibition))

    def forward(self, x: Tensor) -> Tensor:
        return self.respond(x, self.theta)


class CCells(nn.Module):
    """One layer of C-cells: B K H W to B K size size, every plane by itself.

    ``u = psi((1 + sum d x) / (1 + v) - 1)`` with ``psi(x) = relu(x) / (alpha + x)``. With ``lateral`` (1980)
    ``v`` is the mean over planes of ``sum d x``; else (2003) it is 0 and ``surround`` takes away a wider mask's
    share: ``d`` is then steeper and, where ``decay`` and ``surround`` let it, negative away from the centre.
    """

    def __init__(
        self,
        *,
        size: int,
        window: int,
        step: int = 1,
        decay: float = 0.7,
        alpha: float = 1.0,
        gain: float = 1.0,
        surround: float = 0.0,
        lateral: bool = False,
    ) -> None:
        super().__init__()
        self.size, self.window, self.step, self.alpha, self.lateral = size, window, step, alpha, lateral
        d = gain * fixed_mask(window, decay)
        if surround:
            d = d - gain * surround * fixed_mask(window, decay**0.25)
        self.register_buffer("d", d[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        mask: Tensor = self.d  # type: ignore[assignment]  # a buffer
        batch, planes = x.shape[:2]
        maps = fit(x, self.size, self.window, self.step).flatten(0, 1)[:, None]  # B K h w -> BK 1 h w
        blurred = F.conv2d(maps, mask, stride=self.step).view(batch, planes, self.size, self.size)
        if self.lateral:
            v = blurred.mean(dim=1, keepdim=True)
            blurred = (blurred - v) / (1 + v)
        positive = F.relu(blurred)
        return positive / (self.alpha + positive)

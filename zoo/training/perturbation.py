"""Gradient steps within a ball about each image: what adversarial training and attacks share."""

from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.errors import AttackError
from zoo.training.pixel_model import PixelModel, gradient, require_gradient


class Steps(Protocol):
    """How to walk: ``name`` is ``fgsm`` (one whole step), ``pgd``, ``pgd_l2`` or ``random_sign``.

    ``relative_step`` is the size of a step in units of epsilon.
    """

    @property
    def name(self) -> str: ...
    @property
    def norm(self) -> Literal["linf", "l2"]: ...
    @property
    def steps(self) -> int: ...
    @property
    def relative_step(self) -> float: ...
    @property
    def random_start(self) -> bool: ...


def draw(method: Steps, shape: torch.Size, generator: torch.Generator) -> Tensor | None:
    """Returns the random numbers of ``method`` for images of ``shape`` B C H W, float32, or None.

    Random signs, or for each image a point of the unit ball.
    """
    if method.name == "random_sign":
        return (torch.rand(shape, generator=generator) < 0.5) * 2.0 - 1
    if method.name not in ("pgd", "pgd_l2") or not method.random_start:
        return None
    if method.name == "pgd":
        return torch.rand(shape, generator=generator) * 2 - 1
    directions = torch.randn(shape, generator=generator)
    radii = torch.rand(shape[0], generator=generator, dtype=torch.float64) ** (1 / shape[1:].numel())
    return directions * (radii.float()[:, None, None, None] / _norms(directions).clamp_min(1e-12))


def start_of(images: Tensor, epsilon: float, method: Steps, noise: Tensor | None) -> tuple["Ball", Tensor]:
    """Returns the ball about ``images`` B C H W, and the point of it to start at; ``noise`` is from :func:`draw`."""
    images = images.contiguous(memory_format=torch.channels_last)
    ball = Ball(images, epsilon, method.norm == "l2")
    return ball, images if noise is None else ball.project(images + epsilon * noise.to(images.device))


def descend(
    model: PixelModel,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    method: Steps,
    noise: Tensor | None,
    is_targeted: bool = False,
) -> Tensor:
    """Returns one batch after the steps of ``method``, within :func:`zoo.training.pixel_model.under_attack`.

    Each step follows the gradient of the cross-entropy, away from ``labels``, or towards them if ``is_targeted``.
    """
    if not epsilon:
        return images.clone()
    ball, changed = start_of(images, epsilon, method, noise)
    steps, size = (1, epsilon) if method.name == "fgsm" else (method.steps, epsilon * method.relative_step)
    if is_targeted:
        size = -size
    for number in range(steps):
        direction = loss_gradient(model, changed, labels)
        if not direction.isfinite().all():
            raise AttackError(
                "The gradient is not finite.", hint="Check that the network's logits are finite for these images."
            )
        if number == 0 and not direction.count_nonzero():
            require_gradient(model, changed)  # else the loss is flat, if the network is very sure
        direction = direction / _norms(direction).clamp_min(1e-12) if ball.is_l2 else direction.sign_()
        changed = ball.project(changed + size * direction)
    return ball.within(changed).contiguous()


def loss_gradient(model: PixelModel, images: Tensor, labels: Tensor) -> Tensor:
    """The gradient of each image's own cross-entropy, independent of the batch size."""
    images = images.detach().requires_grad_()
    return gradient(F.cross_entropy(model(images), labels, reduction="sum"), images)


class Ball:
    """The images within ``epsilon`` of ``images`` and within [0, 1], in exact arithmetic."""

    def __init__(self, images: Tensor, epsilon: float, is_l2: bool = False) -> None:
        self.images = images
        self.epsilon = epsilon
        self.is_l2 = is_l2
        if not is_l2:
            exact = _exactly(images)
            self.low = _round_towards(images, (exact - epsilon).clamp_min(0))
            self.high = _round_towards(images, (exact + epsilon).clamp_max(1))

    def project(self, changed: Tensor) -> Tensor:
        """The nearest point of the ball; for L2 to rounding, see :meth:`within`."""
        if not self.is_l2:
            return torch.minimum(torch.maximum(changed, self.low), self.high)
        change = changed - self.images
        factors = (self.epsilon / _norms(change).clamp_min(1e-12)).clamp_max(1)
        # Cutting off at 0 and 1 brings a point nearer to an image that lies within.
        return (self.images + change * factors).clamp(0, 1)

    def within(self, changed: Tensor) -> Tensor:
        """``changed``, corrected if rounding has put it outside the ball."""
        if not self.is_l2:
            return changed
        exact = _exactly(self.images)
        change = _exactly(changed) - exact
        norms = _norms(change)
        drawn_in = _round_towards(self.images, exact + change * (self.epsilon / norms * (1 - 1e-13)))
        return torch.where((norms > self.epsilon).to(changed.device), drawn_in, changed)


def _exactly(images: Tensor) -> Tensor:
    """float64, on the CPU, because some devices have none."""
    return images.detach().to("cpu", torch.float64)


def _round_towards(images: Tensor, exact: Tensor) -> Tensor:
    """``exact``, from :func:`_exactly`, in the dtype of ``images``, rounded towards them."""
    held, centre = exact.to(images.dtype), images.detach().cpu()
    is_beyond = (_exactly(held) - _exactly(centre)).abs() > (exact - _exactly(centre)).abs()
    return torch.where(is_beyond, torch.nextafter(held, centre), held).to(images.device)


def _norms(tensor: Tensor) -> Tensor:
    """The Euclidean norm of each image, B 1 1 1."""
    norms: Tensor = torch.linalg.vector_norm(tensor, dim=(1, 2, 3), keepdim=True)
    return norms

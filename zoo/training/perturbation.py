"""Gradient steps within a ball about each image, on the network as a function of pixels in [0, 1]."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.data.preprocess import Transform
from zoo.errors import AttackError, DataError
from zoo.evaluation import frozen
from zoo.loading.create import info_of, require_classes
from zoo.spec import Preprocess


class PixelModel(nn.Module):
    """``model`` as a function of images float B C H W in [0, 1], of the network's input size.

    They are normalised with ``mean`` and ``std``, one number per channel, with the same rounding as
    :class:`zoo.data.Transform`. Whitening is part of the network itself.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        weights = (tensor for tensor in model.state_dict().values() if tensor.is_floating_point())
        first = next(weights, torch.empty(0))
        device, self._dtype = first.device, first.dtype
        self.register_buffer("mean", torch.tensor(mean, device=device)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std, device=device)[:, None, None], persistent=False)

    @classmethod
    def of(cls, model: nn.Module, preprocess: Preprocess | None = None) -> "PixelModel":
        """Returns ``model`` with the mean and std of ``preprocess``, by default those in its ``zoo_info``.

        A PixelModel is returned unchanged. Raises :class:`zoo.WeightsError` for a network without ``zoo_info``, or
        without classes.
        """
        if isinstance(model, PixelModel):
            return model
        preprocess = preprocess or info_of(model).preprocess
        require_classes(model)
        return cls(model, preprocess.mean, preprocess.std)

    def forward(self, images: Tensor) -> Tensor:
        """Logits B classes, float32 at least, of ``images`` B C H W."""
        logits: Tensor = self.model(((images - self.mean) / self.std).to(self._dtype))
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    @property
    def device(self) -> torch.device:
        return self.mean.device


class PixelTransform(Transform):
    """Prepares images for :class:`PixelModel`: float32 in [0, 1] at the network's input size, not normalised."""

    def _normalize(self, pixels: Tensor) -> Tensor:
        # As the tensor that ``Transform`` divides by, since CUDA multiplies by the reciprocal of a number.
        scale = torch.tensor(255.0, device=pixels.device)
        return pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(scale)


@contextmanager
def under_attack(model: nn.Module, preprocess: Preprocess | None = None) -> Iterator[PixelModel]:
    """Makes a network take pixels in [0, 1], in eval mode, and record gradients of images alone, within.

    Args:
        model: The network. Modes and ``requires_grad`` are put back afterwards.
        preprocess: How its input is prepared. By default as its weights say.

    Returns:
        The context, which yields the network as a :class:`PixelModel`.

    Raises:
        WeightsError: ``zoo.create`` did not make this network, and there is no ``preprocess``.

    Example:
        >>> import zoo
        >>> digits = zoo.data.load("digits", "test")
        >>> with zoo.attack.under_attack(zoo.create("resnet20.digits")) as pixel_model:
        ...     pixel_model(digits.pixels[:2] / 255).shape
        torch.Size([2, 10])
    """
    with torch.inference_mode(False), torch.enable_grad():
        pixel_model = PixelModel.of(model, preprocess)
        with frozen(pixel_model):
            yield pixel_model


def gradient(loss: Tensor, images: Tensor) -> Tensor:
    """Computes the gradient of ``loss``, a scalar, by ``images``; raises :class:`AttackError` if there is none."""
    if not loss.requires_grad:
        raise _no_gradient("its output does not depend on the images differentiably")
    try:
        (direction,) = torch.autograd.grad(loss, images, allow_unused=True)
    except RuntimeError as error:
        if "derivative" not in str(error) and "does not require grad" not in str(error):
            raise
        raise _no_gradient(str(error).partition("\n")[0]) from None
    if direction is None:
        raise _no_gradient("its output is not connected to the images")
    return direction


def require_gradient(model: PixelModel, images: Tensor) -> None:
    """Raises :class:`AttackError` if no logit of ``model`` changes with ``images``, B C H W in [0, 1].

    A zero gradient of the loss does not prove it, since the loss of a very certain network underflows.
    """
    images = images.detach().clone().requires_grad_()
    logits = model(images)
    # Of weights that differ, since the sum of logits may be a constant.
    weights = torch.linspace(1, 2, logits.shape[1], device=logits.device)
    direction = gradient((logits * weights).sum(), images)
    if not direction.isfinite().all():
        raise _no_gradient("it is not finite")
    if not direction.count_nonzero():
        raise _no_gradient("it is zero everywhere")


def check_images(images: Tensor) -> None:
    """Raises :class:`DataError` for anything but images float B C H W in [0, 1]."""
    if images.ndim != 4 or not images.is_floating_point():
        raise DataError(f"Got {images.dtype} of shape {tuple(images.shape)}, expected float images B C H W.")
    if images.numel() and not (images.min() >= 0 and images.max() <= 1):  # NaN fails too
        raise DataError(
            f"Images have values from {float(images.min()):g} to {float(images.max()):g}, expected [0, 1].",
            hint="Attacks use pixels before normalisation; create them with zoo.attack.PixelTransform.",
        )


def check_labels(model: PixelModel, images: Tensor, labels: Tensor) -> None:
    """Raises :class:`DataError` for ``labels`` that are not classes of ``model``; torch would abort on a GPU."""
    classes = getattr(model.model, "num_classes", None)
    if not isinstance(classes, int):
        with torch.no_grad():
            classes = model(images[:1]).shape[1]
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise DataError(f"Label {int(wrong[0])} for a network of {classes} classes, expected 0 to {classes - 1}.")


def _no_gradient(why: str) -> AttackError:
    return AttackError(
        f"The network has no gradient with respect to its input: {why}.",
        hint="Gradient attacks do not apply to it (zoo.attack.applicable lists those that do).",
    )


class Steps(Protocol):
    """A way to walk: ``name`` is ``fgsm`` (one whole step), ``pgd``, ``pgd_l2`` or ``random_sign``.

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
    """Returns one batch after the steps of ``method``, within :func:`under_attack`.

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
    """Computes the gradient of each image's own cross-entropy, independent of the batch size."""
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
        """Returns the nearest point of the ball; for L2 to rounding, see :meth:`within`."""
        if not self.is_l2:
            return torch.minimum(torch.maximum(changed, self.low), self.high)
        change = changed - self.images
        factors = (self.epsilon / _norms(change).clamp_min(1e-12)).clamp_max(1)
        # Cutting off at 0 and 1 brings a point nearer to an image that lies within.
        return (self.images + change * factors).clamp(0, 1)

    def within(self, changed: Tensor) -> Tensor:
        """Returns ``changed``, corrected if rounding has put it outside the ball."""
        if not self.is_l2:
            return changed
        exact = _exactly(self.images)
        change = _exactly(changed) - exact
        norms = _norms(change)
        drawn_in = _round_towards(self.images, exact + change * (self.epsilon / norms * (1 - 1e-13)))
        return torch.where((norms > self.epsilon).to(changed.device), drawn_in, changed)


def _exactly(images: Tensor) -> Tensor:
    """Converts to float64, on the CPU, because some devices have none."""
    return images.detach().to("cpu", torch.float64)


def _round_towards(images: Tensor, exact: Tensor) -> Tensor:
    """Returns ``exact``, from :func:`_exactly`, in the dtype of ``images``, rounded towards them."""
    rounded, center = exact.to(images.dtype), images.detach().cpu()
    is_beyond = (_exactly(rounded) - _exactly(center)).abs() > (exact - _exactly(center)).abs()
    return torch.where(is_beyond, torch.nextafter(rounded, center), rounded).to(images.device)


def _norms(tensor: Tensor) -> Tensor:
    """Returns the Euclidean norm of each image, B 1 1 1."""
    norms: Tensor = torch.linalg.vector_norm(tensor, dim=(1, 2, 3), keepdim=True)
    return norms

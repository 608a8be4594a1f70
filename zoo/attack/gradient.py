"""Attacks within a ball around each image: FGSM, PGD, and random signs as a control."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.attack.autoattack import run_autoattack
from zoo.attack.method import Method
from zoo.attack.own import run_own
from zoo.attack.pixel_model import PixelModel, check_images, check_labels, gradient, require_gradient, under_attack
from zoo.errors import AttackError, DataError, SpecError
from zoo.system.malloc import keep_freed_memory

Norm = Literal["linf", "l2"]
Progress = Callable[[int, int], None]


def fgsm(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    is_targeted: bool = False,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Tensor:
    """The fast gradient sign method: one step along the sign of the gradient of the cross-entropy.

    Goodfellow, Shlens and Szegedy 2014, arXiv 1412.6572, section 4.

    Args:
        model: A network that :func:`zoo.create` returned, or a :class:`zoo.attack.PixelModel`.
        images: float B C H W in [0, 1], at the network's input size.
        labels: int64 B: the true classes, or, with ``is_targeted``, the classes that the network should say.
        epsilon: The size of the step, in units of [0, 1].
        is_targeted: Whether ``labels`` are to be reached instead of avoided.
        batch_size: Images per forward and backward pass.
        progress: Called with (images done, images in all).

    Returns:
        The attacked images, in [0, 1].

    Raises:
        AttackError: The network passes no gradient to its input.
        DataError: The images or labels do not suit the network.

    Example:
        >>> import zoo
        >>> model, digits = zoo.create("resnet20.digits"), zoo.data.load("digits", "test")
        >>> images, labels = digits.pixels[:8] / 255, digits.labels[:8]
        >>> fooled = zoo.attack.fgsm(model, images, labels, epsilon=0.1)
        >>> round(float((fooled - images).abs().max()), 4)
        0.1
    """
    method = Method(name="fgsm")
    return perturb(model, images, labels, epsilon, method, is_targeted, batch_size, progress)


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    norm: Norm = "linf",
    steps: int = 20,
    step_size: float | None = None,
    random_start: bool = True,
    seed: int = 0,
    is_targeted: bool = False,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Tensor:
    """Projected gradient descent: steps along the gradient of the cross-entropy, each projected onto a ball.

    Madry et al. 2017, arXiv 1706.06083, section 2.1. The random start is the same for every batch size and device.

    Args:
        model: A network that :func:`zoo.create` returned, or a :class:`zoo.attack.PixelModel`.
        images: float B C H W in [0, 1], at the network's input size.
        labels: int64 B: the true classes, or, with ``is_targeted``, the classes that the network should say.
        epsilon: The radius of the ball about each image, in units of [0, 1].
        norm: ``linf``, or ``l2`` for the Euclidean norm of an image's change. Steps of ``l2`` follow the gradient
            itself, not its sign.
        steps: The number of steps.
        step_size: The size of a step. By default 2.5 epsilon / steps.
        random_start: Whether to start at a random point of the ball instead of at the image.
        seed: Decides the random start.
        is_targeted: Whether ``labels`` are to be reached instead of avoided.
        batch_size: Images per forward and backward pass.
        progress: Called with (images done, images in all).

    Returns:
        The attacked images, in [0, 1].

    Raises:
        AttackError: The network passes no gradient to its input.
        DataError: The images or labels do not suit the network.
        SpecError: Another ``norm``, or settings that are not possible.

    Example:
        >>> import zoo
        >>> model, digits = zoo.create("resnet20.digits"), zoo.data.load("digits", "test")
        >>> images, labels = digits.pixels[:8] / 255, digits.labels[:8]
        >>> fooled = zoo.attack.pgd(model, images, labels, epsilon=0.5, norm="l2", steps=5)
        >>> bool(((fooled - images).flatten(1).norm(dim=1) < 0.501).all())
        True
    """
    if norm not in get_args(Norm):
        raise SpecError(f"norm = {norm!r} is not one of {', '.join(get_args(Norm))}.")
    name: Literal["pgd", "pgd_l2"] = "pgd_l2" if norm == "l2" else "pgd"
    relative = 0.0 if step_size is None or not epsilon else step_size / epsilon
    method = Method(name=name, steps=steps, step_size=relative, random_start=random_start, seed=seed)
    return perturb(model, images, labels, epsilon, method, is_targeted, batch_size, progress)


def random_sign(images: Tensor, epsilon: float, *, seed: int = 0) -> Tensor:
    """Adds ``epsilon`` with a random sign to each value: as large a change as that of :func:`fgsm`, in no direction.

    Args:
        images: float B C H W in [0, 1].
        epsilon: The size of the change.
        seed: Decides the signs.

    Returns:
        The changed images, in [0, 1].

    Raises:
        DataError: The images are not float B C H W in [0, 1].

    Example:
        >>> import torch, zoo
        >>> zoo.attack.random_sign(torch.full((1, 1, 2, 2), 0.5), 0.25).sub(0.5).abs().unique()
        tensor([0.2500])
    """
    _check(images, epsilon)
    method = Method(name="random_sign", seed=seed)
    signs = draw(method, images.shape, torch.Generator().manual_seed(seed))
    assert signs is not None  # of this method always
    return _Ball(images, epsilon).project(images + epsilon * signs.to(images))


def perturb(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    method: Method,
    is_targeted: bool = False,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Tensor:
    """``images`` changed by ``method``: see :func:`fgsm`, :func:`pgd` and :func:`random_sign`."""
    _check(images, epsilon)
    if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
        raise DataError(
            f"Labels are {labels.dtype} of shape {tuple(labels.shape)}, expected int64 ({len(images)},), one per image."
        )
    keep_freed_memory()
    noise = draw(method, images.shape, torch.Generator().manual_seed(method.seed))
    with under_attack(model) as pixel_model:
        found = images.detach().clone()  # perhaps of inference mode, which autograd cannot use
        device = pixel_model.device
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            given = found[part].to(device), labels[part].clone().to(device)
            check_labels(pixel_model, *given)
            found[part] = perturb_batch(
                pixel_model, *given, epsilon, method, None if noise is None else noise[part], is_targeted
            ).to(found.device)
            if progress is not None:
                progress(min(start + batch_size, len(images)), len(images))
    return found


def draw(method: Method, shape: torch.Size, generator: torch.Generator) -> Tensor | None:
    """The random numbers of ``method`` for images of ``shape`` B C H W, float32, or None.

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


def perturb_batch(
    model: PixelModel,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    method: Method,
    noise: Tensor | None,
    is_targeted: bool = False,
) -> Tensor:
    """One batch, within :func:`zoo.attack.under_attack`; ``noise`` is the result of :func:`draw`."""
    if not epsilon:
        return images.clone()
    is_l2 = method.norm == "l2"
    images = images.contiguous(memory_format=torch.channels_last)
    ball = _Ball(images, epsilon, is_l2)
    changed = images if noise is None else ball.project(images + epsilon * noise.to(images.device))
    if method.name == "random_sign":
        return changed.contiguous()
    if method.own is not None:
        return ball.within(ball.project(run_own(method, model, images, labels, epsilon, is_targeted))).contiguous()
    if method.name == "autoattack":
        if is_targeted:
            raise SpecError("AutoAttack does not support a target.", hint="Use pgd.")
        require_gradient(model, images)
        return ball.project(run_autoattack(model, images, labels, epsilon, method.seed)).contiguous()
    steps, size = (1, epsilon) if method.name == "fgsm" else (method.steps, epsilon * method.relative_step)
    if is_targeted:
        size = -size
    for number in range(steps):
        direction = loss_gradient(model, changed, labels)
        _require_finite(direction)
        if number == 0 and not direction.count_nonzero():
            require_gradient(model, changed)  # else the loss is flat, if the network is very sure
        direction = direction / _norms(direction).clamp_min(1e-12) if is_l2 else direction.sign_()
        changed = ball.project(changed + size * direction)
    return ball.within(changed).contiguous()


def loss_gradient(model: PixelModel, images: Tensor, labels: Tensor) -> Tensor:
    """The gradient of each image's own cross-entropy, independent of the batch size."""
    images = images.detach().requires_grad_()
    return gradient(F.cross_entropy(model(images), labels, reduction="sum"), images)


class _Ball:
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


def _require_finite(direction: Tensor) -> None:
    if not direction.isfinite().all():
        raise AttackError(
            "The gradient is not finite.", hint="Check that the network's logits are finite for these images."
        )


def _norms(tensor: Tensor) -> Tensor:
    """The Euclidean norm of each image, B 1 1 1."""
    norms: Tensor = torch.linalg.vector_norm(tensor, dim=(1, 2, 3), keepdim=True)
    return norms


def _check(images: Tensor, epsilon: float) -> None:
    check_images(images)
    if not 0 <= epsilon < float("inf"):
        raise SpecError(f"epsilon = {epsilon} is invalid: expected a finite number of at least 0.")

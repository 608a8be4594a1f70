"""Attacks within a ball around each image: FGSM, PGD, and random signs as a control."""

import logging
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from zoo import registry
from zoo.errors import AttackError, DataError, MissingExtraError, PluginError, SpecError
from zoo.loading.create import info_of
from zoo.registry import hooks
from zoo.registry.hooks import blaming
from zoo.spec import Preprocess
from zoo.system.machine import keep_freed_memory
from zoo.training.perturbation import (
    Ball,
    PixelModel,
    check_images,
    check_labels,
    descend,
    draw,
    require_gradient,
    start_of,
    under_attack,
)
from zoo_attack.method import METHODS, Method


def run_own(
    method: Method, model: PixelModel, images: Tensor, labels: Tensor, epsilon: float, is_targeted: bool
) -> Tensor:
    """Returns ``images`` B C H W as the hook of ``method`` changed them; raises :class:`PluginError` for anything
    else.
    """
    spec = method.own
    assert spec is not None
    hook = registry.hook(spec.run, spec.requires, role=hooks.ATTACK, of=method.name)
    with blaming(spec.run, method.name), torch.enable_grad():
        changed = hook(model, images.clone(), labels, epsilon, method=method, is_targeted=is_targeted)
    if not isinstance(changed, Tensor) or changed.shape != images.shape or not changed.is_floating_point():
        got = f"{changed.dtype} {tuple(changed.shape)}" if isinstance(changed, Tensor) else type(changed).__name__
        raise PluginError(f"{spec.run} returned {got}, expected the images {images.dtype} {tuple(images.shape)}.")
    if not changed.isfinite().all():
        raise PluginError(f"{spec.run} returned images that contain NaN or infinity.")
    return changed.detach().to(images)


def run_autoattack(model: PixelModel, images: Tensor, labels: Tensor, epsilon: float, seed: int) -> Tensor:
    """Returns ``images`` B C H W under the standard ensemble in L-inf: APGD-CE, targeted APGD-DLR, FAB and Square.

    Images that none of them fools are returned unchanged. The targeted attacks need at least ten classes. The state of
    the caller's random generators is restored. Croce and Hein 2020, arXiv 2003.01690.
    """
    try:
        from pyautoattack import AutoAttack
    except ImportError:
        raise MissingExtraError.of("AutoAttack", "pyautoattack", "zoo-vision[autoattack]") from None
    with torch.no_grad():
        classes = model(images[:1]).shape[1]
    if classes < 10:
        raise AttackError(f"AutoAttack's targeted attacks need at least 10 classes, but the network has {classes}.")
    logging.getLogger("auto-attack").setLevel(logging.ERROR)  # it tells each step
    with torch.random.fork_rng():
        attack: Any = AutoAttack(model, norm="Linf", eps=epsilon, seed=seed, device=images.device)
        changed, _ = attack.run_standard_evaluation(images, labels, batch_size=len(images))
    attacked: Tensor = changed.detach().to(images)
    return attacked


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
    """Attacks by the fast gradient sign method: one step along the sign of the gradient of the cross-entropy.

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
    """Attacks by projected gradient descent: steps along the gradient of the cross-entropy, each projected onto a ball.

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
    return Ball(images, epsilon).project(images + epsilon * signs.to(images))


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
    """Returns ``images`` changed by ``method``: see :func:`fgsm`, :func:`pgd` and :func:`random_sign`."""
    _check(images, epsilon)
    if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
        raise DataError(
            f"Labels are {labels.dtype} of shape {tuple(labels.shape)}, expected int64 ({len(images)},), one per image."
        )
    keep_freed_memory()
    noise = draw(method, images.shape, torch.Generator().manual_seed(method.seed))
    with under_attack(model) as pixel_model:
        perturbed = images.detach().clone()  # perhaps of inference mode, which autograd cannot use
        device = pixel_model.device
        for start in range(0, len(images), batch_size):
            some = slice(start, start + batch_size)
            batch = perturbed[some].to(device), labels[some].clone().to(device)
            check_labels(pixel_model, *batch)
            perturbed[some] = perturb_batch(
                pixel_model, *batch, epsilon, method, None if noise is None else noise[some], is_targeted
            ).to(perturbed.device)
            if progress is not None:
                progress(min(start + batch_size, len(images)), len(images))
    return perturbed


def perturb_batch(
    model: PixelModel,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    method: Method,
    noise: Tensor | None,
    is_targeted: bool = False,
) -> Tensor:
    """Returns one batch changed by ``method``, within :func:`zoo.attack.under_attack`; ``noise`` is from ``draw``."""
    if not epsilon:
        return images.clone()
    if method.name in ("fgsm", "pgd", "pgd_l2"):
        return descend(model, images, labels, epsilon, method, noise, is_targeted)
    ball, changed = start_of(images, epsilon, method, noise)
    if method.name == "random_sign":
        return changed.contiguous()
    if method.own is not None:
        return ball.within(ball.project(run_own(method, model, ball.images, labels, epsilon, is_targeted))).contiguous()
    if is_targeted:
        raise SpecError("AutoAttack does not support a target.", hint="Use pgd.")
    require_gradient(model, ball.images)
    return ball.project(run_autoattack(model, ball.images, labels, epsilon, method.seed)).contiguous()


def applicable(model: nn.Module, preprocess: Preprocess | None = None) -> tuple[str, ...]:
    """Returns the attacks that apply to a network: all, or only ``random_sign`` if it passes no gradient to its input.

    A gradient that exists need not be the true one: a network may replace it on purpose.

    Args:
        model: The network.
        preprocess: How its input is prepared. By default as its weights say.

    Returns:
        The names of the methods.

    Raises:
        WeightsError: ``zoo.create`` did not make this network, and there is no ``preprocess``.

    Example:
        >>> import zoo
        >>> "pgd" in zoo.attack.applicable(zoo.create("resnet20.digits"))
        True
    """
    preprocess = preprocess or info_of(model).preprocess
    with under_attack(model, preprocess) as pixel_model:
        noise = torch.rand((2, *preprocess.input_size), generator=torch.Generator().manual_seed(0))
        try:
            require_gradient(pixel_model, noise.to(pixel_model.device))
        except AttackError:
            return ("random_sign",)
    return METHODS


def _check(images: Tensor, epsilon: float) -> None:
    check_images(images)
    if not 0 <= epsilon < float("inf"):
        raise SpecError(f"epsilon = {epsilon} is invalid: expected a finite number of at least 0.")

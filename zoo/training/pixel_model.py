"""The network under attack as a function of pixels in [0, 1]; it is left unchanged."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from zoo.creation import info_of, require_classes
from zoo.data.preprocess import Transform
from zoo.errors import AttackError, DataError
from zoo.evaluation import frozen
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
        device, self._dtype = _place_of(model)
        self.register_buffer("mean", torch.tensor(mean, device=device)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std, device=device)[:, None, None], persistent=False)

    @classmethod
    def of(cls, model: nn.Module, preprocess: Preprocess | None = None) -> "PixelModel":
        """``model`` with the mean and std of ``preprocess``, by default those in its ``zoo_info``.

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

    def _normalise(self, pixels: Tensor) -> Tensor:
        # As the tensor that ``Transform`` divides by, since CUDA multiplies by the reciprocal of a number.
        scale = torch.tensor(255.0, device=pixels.device)
        return pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(scale)


@contextmanager
def under_attack(model: nn.Module, preprocess: Preprocess | None = None) -> Iterator[PixelModel]:
    """A context in which a network takes pixels in [0, 1], is in eval mode, and records gradients of images alone.

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
    """The gradient of ``loss``, a scalar, with respect to ``images``; raises :class:`AttackError` if there is none."""
    if not loss.requires_grad:
        raise _no_gradient("its output does not depend on the images differentiably")
    try:
        (found,) = torch.autograd.grad(loss, images, allow_unused=True)
    except RuntimeError as error:
        if "derivative" not in str(error) and "does not require grad" not in str(error):
            raise
        raise _no_gradient(str(error).partition("\n")[0]) from None
    if found is None:
        raise _no_gradient("its output is not connected to the images")
    return found


def require_gradient(model: PixelModel, images: Tensor) -> None:
    """Raises :class:`AttackError` if no logit of ``model`` changes with ``images``, B C H W in [0, 1].

    A zero gradient of the loss does not prove it, since the loss of a very certain network underflows.
    """
    images = images.detach().clone().requires_grad_()
    logits = model(images)
    # Of weights that differ, since the sum of logits may be a constant.
    weights = torch.linspace(1, 2, logits.shape[1], device=logits.device)
    found = gradient((logits * weights).sum(), images)
    if not found.isfinite().all():
        raise _no_gradient("it is not finite")
    if not found.count_nonzero():
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


def _place_of(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """The device and dtype of the network."""
    tensors = (tensor for tensor in model.state_dict().values() if tensor.is_floating_point())
    found = next(tensors, torch.empty(0))
    return found.device, found.dtype

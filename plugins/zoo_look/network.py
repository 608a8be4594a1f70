"""A network under examination: its layers by name and their outputs. It is left unchanged."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch
from PIL import Image
from torch import Tensor, nn

from zoo.creation import as_network, info_of
from zoo.data.classes import class_names
from zoo.data.image_file import read_image
from zoo.errors import DataError, UnknownNameError, WeightsError
from zoo.evaluation import frozen
from zoo.evaluation.forward import device_of
from zoo.loading import Network
from zoo.preparation import preprocess
from zoo.system.malloc import keep_freed_memory

Picture = str | Path | Image.Image | Tensor
"""An image: a file, a Pillow image, or a tensor that is already the network's input, C H W or B C H W."""


class Layer(msgspec.Struct, frozen=True):
    """A submodule by ``name``, its ``kind``, the ``shape`` of its output for one image (without the batch).

    ``calls`` counts how often it ran: a module that is used again has one name.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    calls: int = 1


@contextmanager
def opened(model: str | nn.Module, *, device: torch.device | str | None = None, **args: Any) -> Iterator[Network]:
    """``model``, trained if it is named, on ``device``, :func:`~zoo.evaluation.frozen` while it is looked at.

    ``args`` are those of :func:`zoo.creation.create_trained`.
    """
    keep_freed_memory()
    network = as_network(model, **args)
    if device is not None:
        network.to(device)
    with frozen(network):
        yield network


def name_of(model: nn.Module) -> str:
    """``arch.tag``, or what is known: for captions."""
    info = getattr(model, "zoo_info", None)
    return info.name if info is not None else type(model).__name__


def as_input(model: nn.Module, image: Picture) -> Tensor:
    """``image`` as the input of ``model``, float32 B C H W on its device; raises :class:`DataError`."""
    if isinstance(image, Tensor):
        batch = image if image.ndim == 4 else image[None]
        if batch.ndim != 4 or not batch.is_floating_point() or not batch.isfinite().all():
            raise DataError(
                f"An image is {image.dtype} of shape {tuple(image.shape)}: expected finite floating-point C H W "
                "or B C H W, the network's input."
            )
        return batch.to(device_of(model), torch.float32)
    if not isinstance(image, Image.Image):
        image = read_image(Path(image), str(image), channels=info_of(model).preprocess.input_size[0])
    return preprocess(model)(image)[None].to(device_of(model))


def title_of(image: Picture) -> str:
    """What captions call ``image``: its file's name, or what its ``info`` says under ``title``."""
    if isinstance(image, str | Path):
        return Path(image).name
    return str(image.info.get("title", "an image")) if isinstance(image, Image.Image) else "a tensor"


def as_pixels(model: nn.Module, images: Tensor) -> Tensor:
    """Inputs ``images`` B C H W of ``model`` as they look: float32 in [0, 1], on the CPU."""
    mean, std = (torch.tensor(values)[:, None, None] for values in statistics(model))
    return (images.detach().float().cpu() * std + mean).clamp(0, 1)


def statistics(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, a number a channel, that the input of ``model`` is normalised by."""
    known = info_of(model).preprocess
    return known.mean, known.std


def blank(model: nn.Module, size: tuple[int, int] | None = None) -> Tensor:
    """An input of zeros, 1 C H W: the mean image, at the network's own size unless ``size`` (H, W) is given."""
    channels, height, width = info_of(model).preprocess.input_size
    height, width = size or (height, width)
    return torch.zeros(1, channels, height, width, device=device_of(model))


def layers(model: str | nn.Module, **args: Any) -> tuple[Layer, ...]:
    """The submodules of a network that return one tensor, in the order in which they first finish.

    The network is run once, and only what took part is listed.

    Args:
        model: A name, for which trained weights are used, or a network that :func:`zoo.create` returned.
        args: ``device``, and, if ``model`` is a name, ``weights`` and arguments of the family's build function.

    Returns:
        Name, kind and output shape of each.

    Raises:
        UnknownNameError: There is no such model.

    Example:
        >>> import zoo
        >>> zoo.look.layers("resnet20.digits")[0]
        Layer(name='conv1', kind='Conv2d', shape=(16, 8, 8), calls=1)
    """
    found: dict[str, Layer] = {}
    with opened(model, **args) as network, ExitStack() as stack, torch.no_grad():
        for name, module in network.named_modules():
            if name:

                def keep(module: nn.Module, _: object, output: object, name: str = name) -> None:
                    if isinstance(output, Tensor):
                        calls = found[name].calls + 1 if name in found else 1
                        found[name] = Layer(name, type(module).__name__, tuple(output.shape[1:]), calls)

                stack.enter_context(module.register_forward_hook(keep))
        network(blank(network))
    return tuple(found.values())


def titles_of(model: nn.Module, layer: str, count: int) -> tuple[str, ...]:
    """What the ``count`` channels of ``layer`` are called: of the logits, their classes if these have names."""
    info = info_of(model)
    if not layer or layer in info.model.head:
        try:
            known = info.class_names or class_names(info.classes)
        except UnknownNameError:
            known = ()
        if len(known) == count:
            return known
    return tuple(map(str, range(count)))


def submodule(model: nn.Module, name: str) -> nn.Module:
    """The layer ``name``; raises :class:`UnknownNameError` that suggests the nearest."""
    modules = {known: module for known, module in model.named_modules() if known}
    if name not in modules:
        raise UnknownNameError.of("layer", name, modules, hint=f"zoo look layers {name_of(model)} lists them.")
    module: nn.Module = modules[name]
    return module


@contextmanager
def captured(model: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """The outputs of the layers ``names``, by name, refreshed at every run of ``model``.

    Copies, since what comes next may work in place; they belong to the graph if gradients are asked for.
    Of a module that runs several times, the last output. Raises :class:`UnknownNameError`, and
    :class:`WeightsError` for a layer whose output is not a tensor.
    """
    outputs: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for name in names:

            def keep(module: nn.Module, _: object, output: object, name: str = name) -> None:
                if not isinstance(output, Tensor):
                    raise WeightsError(
                        f"{name} outputs {type(output).__name__}, not a tensor. Choose one of its submodules."
                    )
                outputs[name] = output.clone()

            stack.enter_context(submodule(model, name).register_forward_hook(keep))
        yield outputs


def as_maps(output: Tensor, layer: str) -> Tensor:
    """The output of ``layer`` as B C H W: a vector B C has one place, tokens B T C have T in a row.

    B A C H W, as filters of A sizes and C orientations give, are A C maps.
    """
    if output.ndim == 5:
        return output.flatten(1, 2)
    if output.ndim == 4:
        return output
    if output.ndim == 3:
        return output.mT[:, :, None, :]
    if output.ndim == 2:
        return output[:, :, None, None]
    raise WeightsError(f"{layer} outputs shape {tuple(output.shape)}: neither maps, nor tokens, nor a vector.")

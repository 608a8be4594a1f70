"""A network under examination, which is left unchanged: its layers, their units, its rectifiers."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from zoo.data import ImageSet
from zoo.data import load as load_data
from zoo.data.classes import class_names
from zoo.data.image_file import read_image
from zoo.errors import DataError, UnknownNameError, WeightsError
from zoo.evaluation import frozen
from zoo.evaluation.forward import device_of
from zoo.loading import Network
from zoo.loading.create import as_network, info_of, preprocess
from zoo.system.machine import keep_freed_memory

Picture = str | Path | Image.Image | Tensor
"""An image: a file, a Pillow image, or a tensor that is already the network's input, C H W or B C H W."""


# ---- Layers ----------------------------------------------------------------------------------------------------------


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
    """Yields ``model``, trained if it is named, on ``device``, :func:`~zoo.evaluation.frozen` while it is looked at.

    ``args`` are those of :func:`zoo.loading.create.create_trained`.
    """
    keep_freed_memory()
    network = as_network(model, **args)
    if device is not None:
        network.to(device)
    with frozen(network):
        yield network


def name_of(model: nn.Module) -> str:
    """Returns ``arch.tag``, or what is known: for captions."""
    info = getattr(model, "zoo_info", None)
    return info.name if info is not None else type(model).__name__


def as_input(model: nn.Module, image: Picture) -> Tensor:
    """Returns ``image`` as the input of ``model``, float32 B C H W on its device; raises :class:`DataError`."""
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
    """Returns what captions call ``image``: its file's name, or what its ``info`` says under ``title``."""
    if isinstance(image, str | Path):
        return Path(image).name
    return str(image.info.get("title", "an image")) if isinstance(image, Image.Image) else "a tensor"


def as_pixels(model: nn.Module, images: Tensor) -> Tensor:
    """Inputs ``images`` B C H W of ``model`` as they look: float32 in [0, 1], on the CPU."""
    mean, std = (torch.tensor(values)[:, None, None] for values in statistics(model))
    return (images.detach().float().cpu() * std + mean).clamp(0, 1)


def statistics(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation, a number a channel, that the input of ``model`` is normalised by."""
    known = info_of(model).preprocess
    return known.mean, known.std


def blank(model: nn.Module, size: tuple[int, int] | None = None) -> Tensor:
    """Returns an input of zeros, 1 C H W: the mean image, at the network's own size unless ``size`` (H, W) is given."""
    channels, height, width = info_of(model).preprocess.input_size
    height, width = size or (height, width)
    return torch.zeros(1, channels, height, width, device=device_of(model))


def layers(model: str | nn.Module, **args: Any) -> tuple[Layer, ...]:
    """Returns the submodules of a network that return one tensor, in the order in which they first finish.

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
    rows: dict[str, Layer] = {}
    with opened(model, **args) as network, ExitStack() as stack, torch.no_grad():
        for name, module in network.named_modules():
            if name:

                def keep(module: nn.Module, _: object, output: object, name: str = name) -> None:
                    if isinstance(output, Tensor):
                        calls = rows[name].calls + 1 if name in rows else 1
                        rows[name] = Layer(name, type(module).__name__, tuple(output.shape[1:]), calls)

                stack.enter_context(module.register_forward_hook(keep))
        network(blank(network))
    return tuple(rows.values())


def titles_of(model: nn.Module, layer: str, count: int) -> tuple[str, ...]:
    """Returns what the ``count`` channels of ``layer`` are called: of the logits, their classes if these have names."""
    info = info_of(model)
    if not layer or layer in info.model.head:
        try:
            names = info.class_names or class_names(info.classes)
        except UnknownNameError:
            names = ()
        if len(names) == count:
            return names
    return tuple(map(str, range(count)))


def submodule(model: nn.Module, name: str) -> nn.Module:
    """Returns the layer ``name``; raises :class:`UnknownNameError` that suggests the nearest."""
    modules = {known: module for known, module in model.named_modules() if known}
    if name not in modules:
        raise UnknownNameError.of("layer", name, modules, hint=f"zoo look layers {name_of(model)} lists them.")
    module: nn.Module = modules[name]
    return module


@contextmanager
def captured(model: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Yields the outputs of the layers ``names``, by name, refreshed at every run of ``model``.

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
    """Returns the output of ``layer`` as B C H W: a vector B C has one place, tokens B T C have T in a row.

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


Run = Callable[[Tensor], Tensor]
"""Inputs B C H W to the layer's output."""


# ---- Units of a layer, computed without the layers above -------------------------------------------------------------


class _Reached(Exception):  # noqa: N818  # no error: it ends a forward pass early
    pass


@contextmanager
def reached(model: nn.Module, layer: str) -> Iterator[Run]:
    """Yields a function that runs ``model`` up to ``layer`` and no further, so that an input of any size will do.

    Its output is as the layer left it, save if more was done to it in place; of a module that runs several
    times it is the last. The empty name is the network's own output.
    """
    if not layer:
        yield model
        return
    module = submodule(model, layer)
    calls, wanted = 0, 0
    output: list[Tensor] = []

    def keep(module: nn.Module, _: object, result: object) -> None:
        nonlocal calls
        calls += 1
        if not isinstance(result, Tensor):
            raise WeightsError(f"{layer} outputs {type(result).__name__}, not a tensor. Choose one of its submodules.")
        if calls == wanted:
            output[:] = [result]
            raise _Reached

    def run(inputs: Tensor) -> Tensor:
        nonlocal calls
        calls = 0
        try:
            model(inputs)
        except _Reached:
            return output.pop()
        raise WeightsError(f"{layer} is not used in the forward pass of {name_of(model)}.")

    handle = module.register_forward_hook(keep)
    try:
        with torch.no_grad():
            model(blank(model))
        wanted = calls
        yield run
    finally:
        handle.remove()


def chosen_layer(model: nn.Module, layer: str | None) -> str:
    """Returns ``layer``, or the last of the network's default layers."""
    if layer is not None:
        return layer
    names: tuple[str, ...] = getattr(model, "default_layers", ())
    if not names:
        raise WeightsError(f"{name_of(model)} has no default layer.", hint="zoo look layers lists all layers.")
    return names[-1]


def check_channel(channel: int, count: int, layer: str) -> int:
    """Returns ``channel``; raises :class:`UnknownNameError` unless it is one of ``count``."""
    if not 0 <= channel < count:
        where = layer or "the output"
        raise UnknownNameError(f"There is no channel {channel} in {where}: it has 0 to {count - 1}.")
    return channel


def check_position(position: tuple[int, int], maps: Tensor, layer: str) -> tuple[int, int]:
    """Returns ``position`` (row, column); raises :class:`UnknownNameError` unless it lies in ``maps`` ... h w."""
    height, width = maps.shape[-2:]
    if not (0 <= position[0] < height and 0 <= position[1] < width):
        raise UnknownNameError(
            f"There is no unit {position} in {layer or 'the output'}: its maps are {height} x {width}."
        )
    return position


def downward(output: Tensor, inputs: Tensor, seed: Tensor, layer: str) -> Tensor:
    """Returns ``seed``, shaped as ``output``, followed back to ``inputs`` B C H W: by gradients, unless rules were
    changed.

    Raises :class:`WeightsError` if nothing leads there.
    """
    if not output.requires_grad:
        raise WeightsError(f"There is no gradient from {layer or 'the output'} to the image.")
    (gradient,) = torch.autograd.grad(output, inputs, seed, allow_unused=True)
    if gradient is None:
        raise WeightsError(f"{layer or 'The output'} does not depend on the image.")
    return gradient.detach()


def one_hot(maps: Tensor, channels: Tensor, places: Tensor, values: Tensor) -> Tensor:
    """Zeros like ``maps`` B C h w but for ``values`` B at ``channels`` B and flattened ``places`` B."""
    seed = torch.zeros_like(maps).flatten(2)
    seed[torch.arange(len(maps), device=maps.device), channels, places] = values
    return seed.view(maps.shape)


def images_of(model: nn.Module, data: str | ImageSet | None, split: str) -> ImageSet:
    """Returns the split by name or as a value; without ``data``, of the set whose classes ``model`` knows."""
    if isinstance(data, ImageSet):
        return data
    name = data or info_of(model).classes
    if not name:
        raise DataError(f"{name_of(model)} does not name a data set.", hint="Set one (data=NAME).")
    return load_data(name, split)


def maps_of(output: Tensor, layer: str) -> Tensor:
    """Returns what :func:`as_maps` does, with the network's own output as a layer."""
    return as_maps(output, layer or "The output")


# ---- Rectifiers: modules, functions, methods, in place or not, every call of each ------------------------------------


class Deconvolution(torch.autograd.Function):
    """ReLU whose backward pass is a ReLU too: what comes down is rectified, whatever went up.

    Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2013, section 2.1.
    """

    @staticmethod
    def forward(context: Any, x: Tensor, ceiling: float) -> Tensor:
        return _rectified(x, ceiling)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return torch.relu(gradients[0]), None


class Guided(torch.autograd.Function):
    """ReLU whose backward pass lets through what is positive in the gradient, where the forward pass was open.

    Springenberg et al., "Striving for simplicity", 2014, section 3.4. A ReLU6 is closed from 6 on, too.
    """

    @staticmethod
    def forward(context: Any, x: Tensor, ceiling: float) -> Tensor:
        output = _rectified(x, ceiling)
        context.ceiling = ceiling
        context.save_for_backward(output)
        return output

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (output,) = context.saved_tensors
        down: Tensor = torch.ops.aten.threshold_backward(torch.relu(gradients[0]), output, 0)
        return (down if context.ceiling == math.inf else down * (output < context.ceiling)), None


def _rectified(x: Tensor, ceiling: float) -> Tensor:
    return torch.relu(x) if ceiling == math.inf else F.hardtanh(x, 0.0, ceiling)


_RELUS: set[Any] = {F.relu, torch.relu, Tensor.relu}
_IN_PLACE: set[Any] = {F.relu_, torch.relu_, Tensor.relu_}
_CLAMPS: set[Any] = {torch.clamp, Tensor.clamp, torch.clamp_min, Tensor.clamp_min, torch.clip, Tensor.clip}
_CLAMPS_IN_PLACE: set[Any] = {torch.clamp_, Tensor.clamp_, torch.clamp_min_, Tensor.clamp_min_, Tensor.clip_}
_JOINS: set[Any] = {torch.cat, torch.concat, torch.concatenate}

_OTHERS: Mapping[Any, str] = {
    F.gelu: "GELU",
    F.silu: "SiLU",
    F.mish: "Mish",
    F.hardswish: "Hardswish",
    F.hardsigmoid: "Hardsigmoid",
    F.hardtanh: "Hardtanh",
    F.elu: "ELU",
    F.celu: "CELU",
    F.selu: "SELU",
    F.leaky_relu: "LeakyReLU",
    F.prelu: "PReLU",
    torch.prelu: "PReLU",
    F.rrelu: "RReLU",
    F.softplus: "Softplus",
    F.logsigmoid: "LogSigmoid",
    F.sigmoid: "Sigmoid",
    torch.sigmoid: "Sigmoid",
    Tensor.sigmoid: "Sigmoid",
    F.tanh: "Tanh",
    torch.tanh: "Tanh",
    Tensor.tanh: "Tanh",
}


class Rectifiers(TorchFunctionMode):
    """A context within which ``rule`` computes every ReLU; forward passes stay what they are, bit by bit.

    A ReLU6, or another with a ceiling, is one. Without a rule, ReLUs are only watched. ``relus`` counts their calls,
    ``others`` those of other activations by name; :meth:`before` knows what went into a ReLU.
    """

    def __init__(self, rule: type[torch.autograd.Function] | None = None) -> None:
        super().__init__()
        self.rule = rule
        self.relus = 0
        self.others: Counter[str] = Counter()
        self._before: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _JOINS and self.rule is None:
            return self._join(func, args, kwargs)
        relu = _as_relu(func, args, kwargs)
        if relu is None:
            if func in _OTHERS:
                self.others[_OTHERS[func]] += 1
            return func(*args, **kwargs)
        is_in_place, ceiling = relu
        self.relus += 1
        x: Tensor = args[0] if args else kwargs["input"]
        if self.rule is None:
            before = x.clone() if is_in_place else x
            output: Tensor = func(*args, **kwargs)
            self._before[output] = before
            return output
        output = self.rule.apply(x, ceiling)
        return x.copy_(output) if is_in_place else output

    def _join(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Returns a concatenation, of which it is known too what went into the ReLUs of its parts."""
        output = func(*args, **kwargs)
        parts = list(args[0] if args else kwargs["tensors"])
        if any(part in self._before for part in parts):
            before = [self.before(part) for part in parts]
            self._before[output] = func(before, *args[1:], **{k: v for k, v in kwargs.items() if k != "tensors"})
        return output

    def before(self, output: Tensor) -> Tensor:
        """Returns what a ReLU, or several that were concatenated, made ``output`` of; ``output`` itself if none did."""
        if output not in self._before:
            return output
        found: Tensor = self._before[output]
        return found


def _as_relu(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[bool, float] | None:
    """Returns whether a call that is a ReLU works in place, and its ceiling: 6 of a ReLU6, usually none (infinity)."""

    def argument(place: int, name: str, default: Any) -> Any:
        return kwargs.get(name, args[place] if len(args) > place else default)

    if func in _RELUS or func is F.relu6:
        return bool(argument(1, "inplace", False)), 6.0 if func is F.relu6 else math.inf
    if func in _IN_PLACE:
        return True, math.inf
    if func in _CLAMPS or func in _CLAMPS_IN_PLACE:
        low, high, is_in_place = argument(1, "min", None), argument(2, "max", None), func in _CLAMPS_IN_PLACE
    elif func is F.hardtanh:  # also what nn.ReLU6 calls
        low, high = argument(1, "min_val", -1.0), argument(2, "max_val", 1.0)
        is_in_place = bool(argument(3, "inplace", False))
    else:
        return None
    if not (isinstance(low, int | float) and low == 0 and isinstance(high, int | float | None)):
        return None
    return is_in_place, math.inf if high is None else float(high)

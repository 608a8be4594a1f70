"""A file's tensors to a module: built without initialising, every tensor accounted for."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor, nn

from zoo import registry
from zoo.errors import PluginError, TensorMismatchError, WeightsError, ZooError
from zoo.loading import safetensors_file
from zoo.manifest import Weights
from zoo.registry import arguments
from zoo.spec import Model, Preprocess

log = logging.getLogger("zoo")

_guard = threading.local()


class ModelInfo(NamedTuple):
    """What ``zoo.create`` knows of a module; it hangs on the module as ``zoo_info``."""

    name: str
    model: Model
    weights: Weights | None
    file: Path | None
    preprocess: Preprocess
    classes: str
    class_names: tuple[str, ...]
    args: dict[str, Any]


def build(
    model: Model, *, num_classes: int | None = None, in_chans: int | None = None, **args: Any
) -> tuple[nn.Module, ModelInfo]:
    """A newly initialised network, with its ``zoo_info``."""
    channels = model.preprocess.input_size[0] if in_chans is None else in_chans
    classes = model.num_classes if num_classes is None else num_classes
    args = {**model.args, **args}
    module = _call_build(model, classes, channels, args)
    return module, ModelInfo(model.name, model, None, None, for_channels(model.preprocess, channels), "", (), args)


def build_from(
    file: Path,
    model: Model,
    entry: Weights | None = None,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    **args: Any,
) -> tuple[nn.Module, ModelInfo]:
    """The network whose tensors ``file`` holds, as ``entry`` or else the file itself describes it.

    What they say the network is built with is taken as far as the row allows it (``Model.file_args``).
    The file says how many classes and input channels it was made for; where the caller wants
    others, the head is newly initialised, the stem adapted, and a warning logged. Tensors that do
    not fit as they are go through the model's own ``translate`` first, where it has one.
    """
    about = _described(file, model, entry)
    args = {**model.args, **arguments.of_file(model, about.args, about.name, overridden=args), **args}
    tensors = safetensors_file.read(file)
    told = safetensors_file.metadata(file).get("num_classes") if entry is None else entry.num_classes
    stated = told if told == 0 or (entry is not None and told is not None) else model.num_classes
    had_classes = classes_in(tensors, model.head) or stated
    had_channels = channels_in(tensors, model.stem) or about.preprocess.input_size[0]
    channels = had_channels if in_chans is None else in_chans
    with skip_init():
        module = _call_build(model, had_classes, channels, args)
    tensors = translate(model, module, tensors, about.name)
    adapted = adapt_stem(tensors, model.stem, channels)
    if channels != had_channels:
        _require_adapted(module, tensors, model.stem, about.name, had_channels, channels)
    if about.preprocess.whitening == "zca":
        from zoo.data.whitening import ZCA, attach

        attach(module, ZCA(about.preprocess.input_size))
    assign(module, tensors, about.name)
    if adapted:
        log.warning(
            "%s: %s adapted from %d to %d input channels", about.name, ", ".join(adapted), had_channels, channels
        )
    if num_classes not in (None, had_classes):
        module.reset_classifier(num_classes)  # type: ignore[operator]  # timm's interface, not nn.Module's
        head = ", ".join(model.head)
        log.warning("%s: %s newly initialised for %d classes, had %d", about.name, head, num_classes, had_classes)
        about = about._replace(classes="", class_names=())
    return module, about._replace(preprocess=for_channels(about.preprocess, channels), args=args)


def for_channels(preprocess: Preprocess, channels: int) -> Preprocess:
    """``preprocess`` for another number of input channels: mean and std averaged, then repeated."""
    before, height, width = preprocess.input_size
    if channels == before:
        return preprocess
    mean, std = (sum(values) / before for values in (preprocess.mean, preprocess.std))
    size = (channels, height, width)
    return msgspec.structs.replace(preprocess, input_size=size, mean=(mean,) * channels, std=(std,) * channels)


@contextlib.contextmanager
def skip_init() -> Iterator[None]:
    """Within it, this thread's calls of ``torch.nn.init.*_`` return their tensor untouched.

    For modules whose tensors are all about to be loaded. Meta tensors would be as fast and leave
    non-persistent buffers without values.
    """
    _guard_initialisers()
    before = getattr(_guard, "skips", False)
    _guard.skips = True
    try:
        yield
    finally:
        _guard.skips = before


def adapt_stem(tensors: dict[str, Tensor], stem: tuple[str, ...], in_chans: int) -> list[str]:
    """Changes the first convolutions' weights, O I H W, to ``in_chans`` inputs, as timm does.

    One channel gets the sum over the inputs; more get them repeated and scaled so that the sum is
    kept. Returns the keys that changed.
    """
    changed = []
    for key in (f"{module}.weight" for module in stem):
        weight = tensors.get(key)
        if weight is None or weight.ndim != 4 or weight.shape[1] == in_chans:
            continue
        before = weight.shape[1]
        if in_chans == 1:
            adapted = weight.float().sum(dim=1, keepdim=True)
        else:
            repeats = -(-in_chans // before)
            adapted = weight.float().repeat(1, repeats, 1, 1)[:, :in_chans] * (before / in_chans)
        tensors[key] = adapted.to(weight.dtype)
        changed.append(key)
    return changed


def _require_adapted(
    module: nn.Module, tensors: Mapping[str, Tensor], stem: tuple[str, ...], name: str, before: int, channels: int
) -> None:
    """Raises :class:`WeightsError` if a layer that depends on the channels is not an adaptable convolution."""
    state = module.state_dict()
    prefixes = tuple(f"{part}." for part in stem)
    fixed = [
        key for key in tensors if key in state and key.startswith(prefixes) and state[key].shape != tensors[key].shape
    ]
    if fixed:
        raise WeightsError(
            f"{name} has {before} input channels, and its first layer ({fixed[0]}) cannot be adapted to {channels}.",
            hint=f"Use images with {before} channels.",
        )


def translate(model: Model, module: nn.Module, tensors: dict[str, Tensor], source: object) -> dict[str, Tensor]:
    """``tensors``, or what the model's own translation makes of them where more than the stem does not fit."""
    if not model.translate or _fits(module.state_dict(), tensors, model.stem):
        return tensors
    hook = registry.hook(model.translate, model.requires)
    try:
        with torch.no_grad():
            translated: dict[str, Tensor] = hook(dict(tensors), module)
    except ZooError:
        raise
    except Exception as error:  # it may raise anything at tensors that are none of its own; these do not fit
        check(module, tensors, source)
        raise PluginError(f"{model.translate} raised {type(error).__name__}: {error}") from error
    # Uninitialised tensors of the module itself do not count as tensors of the file.
    own = {tensor.untyped_storage().data_ptr() for tensor in module.state_dict().values()} - {0}
    return {key: tensor for key, tensor in translated.items() if tensor.untyped_storage().data_ptr() not in own}


def _fits(state: Mapping[str, Tensor], tensors: Mapping[str, Tensor], stem: tuple[str, ...]) -> bool:
    may_differ = {f"{module}.weight" for module in stem}
    return state.keys() == tensors.keys() and all(
        state[key].shape == tensors[key].shape or key in may_differ for key in state
    )


def check(module: nn.Module, tensors: Mapping[str, Tensor], source: object) -> dict[str, Tensor]:
    """The state of ``module``, once ``tensors`` are seen to account for each of its tensors and no other.

    Raises :class:`TensorMismatchError`, which lists all that differ and names ``source``.
    """
    state: dict[str, Tensor] = module.state_dict()
    problems = [f"missing     {key} {tuple(state[key].shape)}" for key in state if key not in tensors]
    problems += [f"unexpected  {key} {tuple(tensors[key].shape)}" for key in tensors if key not in state]
    problems += [
        f"mis-shaped  {key}: expected {tuple(state[key].shape)}, got {tuple(tensors[key].shape)}"
        for key in state
        if key in tensors and state[key].shape != tensors[key].shape
    ]
    problems += [
        f"mis-typed   {key}: expected {state[key].dtype}, got {tensors[key].dtype}"
        for key in state
        if key in tensors and state[key].is_floating_point() != tensors[key].is_floating_point()
    ]
    if problems:
        raise TensorMismatchError(
            f"{source} does not fit {type(module).__name__}: {len(problems)} tensors differ.\n  "
            + "\n  ".join(problems),
            hint="zoo convert FILE MODEL -o OUT.safetensors converts the keys of other frameworks to this family's.",
        )
    return state


def assign(module: nn.Module, tensors: Mapping[str, Tensor], source: object) -> None:
    """Makes ``tensors`` the state of ``module`` without copying them.

    Every tensor must be accounted for (:func:`check`). Floating-point tensors stored in another
    type are cast to the module's.
    """
    state = check(module, tensors, source)
    fitted = {key: tensors[key].to(state[key].dtype) for key in state}
    # Adopting a file's tensors would untie parameters that a network shares.
    parameters = [parameter for _, parameter in module.named_parameters(remove_duplicate=False)]
    is_tied = len(parameters) > len(set(map(id, parameters)))
    module.load_state_dict(fitted, assign=not is_tied)


def _call_build(model: Model, num_classes: int, in_chans: int, args: Mapping[str, Any]) -> nn.Module:
    build = registry.hook(model.build, model.requires)
    arguments.check_names(model, build, args)
    try:
        module: nn.Module = build(num_classes=num_classes, in_chans=in_chans, **args)
    except ZooError:
        raise
    except Exception as error:  # a plugin's code may raise anything
        given = ", ".join(f"{key}={value!r}" for key, value in args.items())
        raise PluginError(f"{model.name}: {model.build}({given}) raised {type(error).__name__}: {error}") from error
    return module


def _described(file: Path, model: Model, entry: Weights | None) -> ModelInfo:
    """The description of the file in the manifest, or, for a local file, in its own metadata.

    No manifest lists the classes by name: where it means the same ones as the file, they are the file's.
    """
    about = safetensors_file.metadata(file)
    if entry is not None:
        names = about.get("class_names") if about.get("classes") == entry.classes else None
        names = names if isinstance(names, list) else ()
        preprocess = entry.preprocess or model.preprocess
        return ModelInfo(
            entry.name, model, entry, file, preprocess, entry.classes, tuple(map(str, names)), dict(entry.args)
        )
    named = about.get("model", model.name)
    if named != model.name:
        raise WeightsError(f"{file} has weights of {named}, not of {model.name}.", hint=f"zoo.create({named!r}, ...)")
    try:
        preprocess = msgspec.convert(about.get("preprocess", model.preprocess), Preprocess)
        args = msgspec.convert(about.get("args", {}), dict[str, Any])
        class_names = msgspec.convert(about.get("class_names", ()), tuple[str, ...])
    except msgspec.ValidationError as error:
        raise WeightsError(f"{file}: its metadata is invalid: {error}") from None
    return ModelInfo(str(file), model, None, file, preprocess, str(about.get("classes", "")), class_names, args)


def classes_in(tensors: Mapping[str, Tensor], head: tuple[str, ...]) -> int | None:
    """How many classes the declared head of a file's tensors has; None if it has no head."""
    return _size(tensors, head, dim=0)


def channels_in(tensors: Mapping[str, Tensor], stem: tuple[str, ...]) -> int | None:
    """How many input channels the declared stem of a file's tensors has; None if it has none."""
    return _size(tensors, stem, dim=1)


def _size(tensors: Mapping[str, Tensor], modules: tuple[str, ...], dim: int) -> int | None:
    for module in modules:
        weight = tensors.get(f"{module}.weight")
        if weight is not None and weight.ndim > dim:
            return weight.shape[dim]
    return None


def _guard_initialisers() -> None:
    """Wraps ``torch.nn.init.*_`` once; outside :func:`skip_init` the wrappers only pass on."""
    for name in [name for name in dir(nn.init) if name.endswith("_") and not name.startswith("_")]:
        initialise = getattr(nn.init, name)
        if not hasattr(initialise, "__wrapped__") or initialise.__module__ != __name__:
            setattr(nn.init, name, _skippable(initialise))


def _skippable(initialise: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @wraps(initialise)
    def maybe(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return tensor if getattr(_guard, "skips", False) else initialise(tensor, *args, **kwargs)

    maybe.__module__ = __name__
    return maybe

"""Builds a network without initialisation and loads a file's tensors into it, strictly."""

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial, wraps
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
import torch
from torch import Tensor, nn

from zoo import registry
from zoo.errors import FileFormatError, PluginError, TensorMismatchError, WeightsError, ZooError
from zoo.loading import safetensors_file
from zoo.loading.interface import Network
from zoo.manifest import Weights
from zoo.modules import FeatureInfo, FeatureNet, ImageClassifier, fit_channels
from zoo.registry import hooks
from zoo.spec import Model, Preprocess

log = logging.getLogger("zoo")

_guard = threading.local()


class ModelInfo(NamedTuple):
    """The facts that ``zoo.create`` knows of a module, stored on the module as ``zoo_info``."""

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
) -> tuple[Network, ModelInfo]:
    """Returns a newly initialised network, with its ``zoo_info``."""
    channels = model.preprocess.input_size[0] if in_chans is None else in_chans
    classes = model.num_classes if num_classes is None else num_classes
    args = {**model.args, **args}
    module = _call_build(model, classes, channels, args)
    _set(module, model, args)
    info = ModelInfo(model.name, model, None, None, for_channels(model.preprocess, channels), "", (), args)
    return _described_by(module, info), info


def build_from(
    file: Path,
    model: Model,
    entry: Weights | None = None,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    **args: Any,
) -> tuple[Network, ModelInfo]:
    """Returns the network with the tensors of ``file``, described by ``entry`` or else by the file's metadata.

    Build arguments from the description are used if the row allows them (``Model.file_args``). If the caller wants
    another number of classes or input channels than the file, the head is newly initialised or the stem adapted, with a
    warning. Tensors that do not fit go through the model's own ``translate`` first, if it has one.
    """
    about = _described(file, model, entry)
    args = {**model.args, **hooks.args_of_file(model, about.args, about.name, overridden=args), **args}
    tensors = safetensors_file.read(file)
    claimed = safetensors_file.metadata(file).get("num_classes") if entry is None else entry.num_classes
    stated = claimed if claimed == 0 or (entry is not None and claimed is not None) else model.num_classes
    had_classes = classes_in(tensors, model.head) or stated
    had_channels = channels_in(tensors, model.stem) or about.preprocess.input_size[0]
    channels = had_channels if in_chans is None else in_chans
    with skip_init():
        module = _call_build(model, had_classes, channels, args)
    tensors = translate(model, module, tensors, about.name)
    adapted = adapt_stem(tensors, model.stem, channels)
    if channels != had_channels:
        adapt: Callable[..., list[str]] = getattr(module, "adapt_channels", lambda *_: [])
        adapted += adapt(tensors, had_channels, channels)
        require_adapted(module, tensors, model.stem, about.name, had_channels, channels)
    if about.preprocess.whitening == "zca":
        from zoo.data.whitening import ZCA, attach

        attach(module, ZCA(about.preprocess.input_size))
    assign(module, tensors, about.name)
    if adapted:
        log.warning(
            "%s: %s adapted from %d to %d input channels", about.name, ", ".join(adapted), had_channels, channels
        )
    if num_classes not in (None, had_classes):
        module.reset_classifier(num_classes)
        head = ", ".join(model.head)
        log.warning("%s: %s newly initialised for %d classes, had %d", about.name, head, num_classes, had_classes)
        about = about._replace(classes="", class_names=())
    _set(module, model, args)  # after the head: an empty pool needs 0 classes
    about = about._replace(preprocess=for_channels(about.preprocess, channels), args=args)
    return _described_by(module, about), about


def is_as_loaded(module: nn.Module) -> bool:
    """Returns whether ``module`` computes with the tensors of the file in its ``zoo_info``, in its own dtype.

    It does not after training, with another head, or with a first convolution for other channels. Files that are not
    safetensors hold no tensors to compare.
    """
    info = cast(ModelInfo, module.zoo_info)
    if info.file is None or info.file.suffix != ".safetensors":
        return True
    try:
        original, _ = build_from(info.file, info.model, info.weights, **info.args)
    except (WeightsError, OSError):  # the file is gone, or holds other tensors now
        return False
    stored = original.state_dict()
    state = getattr(module, "_orig_mod", module).state_dict()  # what torch.compile wraps
    return state.keys() == stored.keys() and all(
        tensor.shape == stored[key].shape and torch.equal(tensor.cpu(), stored[key].to(tensor.dtype))
        for key, tensor in state.items()
    )


def as_features(module: Network, out_indices: int | Sequence[int] | None) -> Network:
    """Returns ``module`` without its classifier, returning a list of feature maps: :class:`zoo.modules.FeatureNet`.

    A network may have its own ``create_features``. Raises :class:`SpecError` for stages that do not exist.
    """
    create: Callable[..., Any] = getattr(module, "create_features", partial(FeatureNet, module))
    features: Network = create(out_indices)
    features.zoo_info = module.zoo_info
    features.pretrained_cfg = features.default_cfg = module.pretrained_cfg
    return features


def _described_by(module: Network, info: ModelInfo) -> Network:
    """Returns ``module`` with the attributes that ``info`` gives it: those of Zoo and those of timm."""
    module.zoo_info = info
    theirs = getattr(module, "pretrained_cfg", None) or {}
    classes = getattr(module, "num_classes", info.model.num_classes)
    ours = _timm_config(module, info, classes)
    if not theirs and not isinstance(module, ImageClassifier):  # it would find them itself
        ours |= {"fixed_input_size": None, "pool_size": None}
    changeable = {*timm_input_config(info.preprocess), "num_classes", *(("tag", "license") if info.weights else ())}
    module.pretrained_cfg = module.default_cfg = theirs | {key: ours[key] for key in changeable} if theirs else ours
    module.in_chans = info.preprocess.input_size[0]
    if not hasattr(module, "head_hidden_size") and hasattr(module, "num_features"):
        module.head_hidden_size = module.num_features
    if isinstance(getattr(module, "feature_info", None), list):
        module.feature_info = FeatureInfo(module.feature_info)
    return module


def for_channels(preprocess: Preprocess, channels: int) -> Preprocess:
    """Returns ``preprocess`` for another number of input channels: mean and std averaged, then repeated."""
    before, height, width = preprocess.input_size
    if channels == before:
        return preprocess
    mean, std = (sum(values) / before for values in (preprocess.mean, preprocess.std))
    size = (channels, height, width)
    return msgspec.structs.replace(preprocess, input_size=size, mean=(mean,) * channels, std=(std,) * channels)


def _call_build(model: Model, num_classes: int, in_chans: int, args: Mapping[str, Any]) -> Network:
    if model.deprecated:
        _warn_of_deprecation(model.name, model.deprecated)
    build = registry.hook(model.build, model.requires)
    passed = {name: value for name, value in args.items() if name not in hooks.settings_in(build, args)}
    hooks.check_args(model, build, passed)
    hooks.BUILD.check(build, model.build, model.name, passed)
    try:
        module: Network = build(num_classes=num_classes, in_chans=in_chans, **passed)
    except ZooError:
        raise
    except Exception as error:  # a plugin's code may raise anything
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if isinstance(error, TypeError) and unknown and unknown[1] in passed:
            del passed[unknown[1]]
            accepted = _names_within(partial(build, num_classes=num_classes, in_chans=in_chans, **passed))
            raise hooks.unknown_arg(model, unknown[1], accepted) from error
        shown = ", ".join(f"{key}={value!r}" for key, value in passed.items())
        raise PluginError(f"{model.name}: {model.build}({shown}) raised {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise PluginError(f"{model.build} returned {type(module).__name__}, expected the network of {model.name}.")
    return module


@cache
def _warn_of_deprecation(name: str, advice: str) -> None:
    """Logs a warning, once."""
    log.warning("%s is deprecated: %s", name, advice)


def _names_within(build: Callable[[], nn.Module]) -> list[str]:
    """Returns the arguments of a network whose build function takes any and hands them on to its class."""
    with skip_init(), torch.device("meta"), contextlib.suppress(Exception):
        kinds = type(build()).__mro__
        named = [name for kind in kinds for name in hooks.args_of(kind) or ()]
        return sorted(set(named) - {"self", "num_classes", "in_chans"})
    return []


def _set(module: Network, model: Model, args: Mapping[str, Any]) -> None:
    """Hands the network what its build function leaves to ``set_global_pool`` and the like."""
    build = registry.hook(model.build, model.requires)
    for name, value in hooks.settings_in(build, args).items():
        if name == "global_pool" and value == "" and not hasattr(module, "set_global_pool"):
            module.reset_classifier(module.num_classes, "")
            continue
        if not hasattr(module, f"set_{name}"):
            settable = [other for other in hooks.SETTINGS if hasattr(module, f"set_{other}")]
            raise hooks.unknown_arg(model, name, [*(hooks.args_of(build) or ()), *settable])
        getattr(module, f"set_{name}")(value)


def _described(file: Path, model: Model, entry: Weights | None) -> ModelInfo:
    """Returns the description of the file in the manifest, or, for a local file, in its own metadata.

    Few entries list the classes by name: if one means the same classes as the file, the names are the file's.
    """
    about = safetensors_file.metadata(file)
    if entry is not None:
        names = about.get("class_names") if about.get("classes") == entry.classes else None
        names = entry.class_names or (names if isinstance(names, list) else ())
        preprocess = entry.preprocess or model.preprocess
        return ModelInfo(
            entry.name, model, entry, file, preprocess, entry.classes, tuple(map(str, names)), dict(entry.args)
        )
    named = about.get("model", model.name)
    if named not in (model.name, *model.aliases):
        raise WeightsError(f"{file} has weights of {named}, not of {model.name}.", hint=f"zoo.create({named!r}, ...)")
    try:
        preprocess = msgspec.convert(about.get("preprocess", model.preprocess), Preprocess)
        args = msgspec.convert(about.get("args", {}), dict[str, Any])
        class_names = msgspec.convert(about.get("class_names", ()), tuple[str, ...])
    except msgspec.ValidationError as error:
        raise WeightsError(f"{file}: its metadata is invalid: {error}") from None
    return ModelInfo(str(file), model, None, file, preprocess, str(about.get("classes", "")), class_names, args)


def classes_in(tensors: Mapping[str, Tensor], head: tuple[str, ...]) -> int | None:
    """Returns the number of classes of the declared head in a file's tensors; None if it has no head."""
    return _size(tensors, head, dim=0)


def channels_in(tensors: Mapping[str, Tensor], stem: tuple[str, ...]) -> int | None:
    """Returns the number of input channels of the declared stem in a file's tensors; None if it has none."""
    return _size(tensors, stem, dim=1)


def _size(tensors: Mapping[str, Tensor], modules: tuple[str, ...], dim: int) -> int | None:
    for module in modules:
        weight = tensors.get(f"{module}.weight")
        if weight is not None and weight.ndim > dim:
            return weight.shape[dim]
    return None


# ---- A file's tensors as the state of a network ----------------------------------------------------------


def translate(model: Model, module: nn.Module, tensors: dict[str, Tensor], source: object) -> dict[str, Tensor]:
    """Returns ``tensors``, or their translation by the model if more than the stem does not fit."""
    if not model.translate or _fits(module.state_dict(), tensors, model.stem):
        return tensors
    hook = registry.hook(model.translate, model.requires, role=hooks.TRANSLATE, of=model.name)
    try:
        with torch.no_grad():
            translated: dict[str, Tensor] = hook(dict(tensors), module)
    except ZooError:
        raise
    except Exception as error:  # it may raise anything at tensors that are none of its own; these do not fit
        check(module, tensors, source)
        raise PluginError(f"{model.translate} raised {type(error).__name__}: {error}") from error
    # Uninitialised tensors of the module itself do not count as tensors of the file.
    storages = {tensor.untyped_storage().data_ptr() for tensor in module.state_dict().values()} - {0}
    return {key: tensor for key, tensor in translated.items() if tensor.untyped_storage().data_ptr() not in storages}


def _fits(state: Mapping[str, Tensor], tensors: Mapping[str, Tensor], stem: tuple[str, ...]) -> bool:
    may_differ = {f"{module}.weight" for module in stem}
    return state.keys() == tensors.keys() and all(
        state[key].shape == tensors[key].shape or key in may_differ for key in state
    )


def check(module: nn.Module, tensors: Mapping[str, Tensor], source: object) -> dict[str, Tensor]:
    """Returns the state of ``module``, after checking that ``tensors`` has each of its tensors and no others.

    Raises :class:`TensorMismatchError`, which lists all differences and names ``source``.
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
    """Makes ``tensors`` the state of ``module`` without copying them, after :func:`check`.

    Floating-point tensors of another dtype are cast to the module's.
    """
    state = check(module, tensors, source)
    fitted = {key: tensors[key].to(state[key].dtype) for key in state}
    # Adopting a file's tensors would untie parameters that a network shares.
    parameters = [parameter for _, parameter in module.named_parameters(remove_duplicate=False)]
    is_tied = len(parameters) > len(set(map(id, parameters)))
    module.load_state_dict(fitted, assign=not is_tied)


def adapt_stem(tensors: dict[str, Tensor], stem: tuple[str, ...], in_chans: int) -> list[str]:
    """Changes the first convolutions' weights, O I H W, to ``in_chans`` inputs, as timm does.

    One channel gets the sum over the inputs; more channels get repeated weights, scaled to keep the sum. Returns the
    keys that changed.
    """
    changed = []
    for key in (f"{module}.weight" for module in stem):
        weight = tensors.get(key)
        if weight is None or weight.ndim != 4 or weight.shape[1] == in_chans:
            continue
        tensors[key] = fit_channels(weight, weight.shape[1], in_chans, dim=1)
        changed.append(key)
    return changed


def require_adapted(
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
            f"{name} has {before} input channels, and its first layer ({fixed[0]}) cannot be adapted to {channels}: "
            "it is no convolution of the image, whose weights could be summed or repeated.",
            hint=f"Leave in_chans out: images are made to have {before} channels. Or train it anew: pretrained=False.",
        )


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Returns the keys of those tensors that contain NaN or infinity."""
    return [key for key, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]


def require_finite(tensors: Mapping[str, Tensor], source: object) -> None:
    """Raises :class:`FileFormatError` that names ``source`` if a tensor contains NaN or infinity."""
    if bad := not_finite(tensors):
        raise FileFormatError(f"{source}: {len(bad)} tensors contain NaN or infinity: {', '.join(bad[:5])}.")


# ---- The description in timm's form ----------------------------------------------------------------------


def timm_input_config(preprocess: Preprocess) -> dict[str, Any]:
    """Returns timm's fields for the preparation of images."""
    return {
        "input_size": preprocess.input_size,
        "interpolation": preprocess.interpolation,
        "crop_pct": preprocess.crop_pct,
        "crop_mode": preprocess.crop_mode,
        "mean": preprocess.mean,
        "std": preprocess.std,
    }


def _timm_config(module: nn.Module, info: ModelInfo, num_classes: int) -> dict[str, Any]:
    """Returns the configuration of the network ``module``, which ``info`` describes."""
    model, weights = info.model, info.weights
    tensors = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    weighted = [name.removesuffix(".weight") for name, _ in tensors if name.endswith(".weight")]
    return {
        "architecture": model.name.rpartition("/")[2],
        "tag": weights.tag if weights else "",
        "custom_load": False,
        **timm_input_config(info.preprocess),
        "num_classes": num_classes,
        "first_conv": _layers_of(weighted, model.stem),
        "classifier": _layers_of(weighted, model.head),
        "license": weights.license.weights if weights else None,
        "paper_name": model.paper.title if model.paper else None,
        "origin_url": model.paper.url if model.paper else None,
    }


def _layers_of(weighted: list[str], parts: tuple[str, ...]) -> str | tuple[str, ...] | None:
    """Returns the name, or names, of those of ``parts`` that have weights, or of what has weights within them."""
    within = {part: tuple(name for name in weighted if name.startswith(f"{part}.")) for part in parts}
    names = tuple(name for part in parts for name in ((part,) if part in weighted else within[part] or (part,)))
    return names if len(names) > 1 else names[0] if names else None


# ---- Without initializing --------------------------------------------------------------------------------


@contextlib.contextmanager
def skip_init() -> Iterator[None]:
    """Makes a context in which ``torch.nn.init.*_`` return their tensor unchanged, in this thread.

    For modules whose tensors will all be loaded. Meta tensors would be as fast, but leave non-persistent buffers
    without values.
    """
    _guard_initializers()
    before = getattr(_guard, "skips", False)
    _guard.skips = True
    try:
        yield
    finally:
        _guard.skips = before


def _guard_initializers() -> None:
    """Wraps ``torch.nn.init.*_`` once; outside :func:`skip_init` the wrappers have no effect."""
    for name in [name for name in dir(nn.init) if name.endswith("_") and not name.startswith("_")]:
        initialize = getattr(nn.init, name)
        if not hasattr(initialize, "__wrapped__") or initialize.__module__ != __name__:
            setattr(nn.init, name, _skippable(initialize))


def _skippable(initialize: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @wraps(initialize)
    def maybe(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return tensor if getattr(_guard, "skips", False) else initialize(tensor, *args, **kwargs)

    maybe.__module__ = __name__
    return maybe

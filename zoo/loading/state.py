"""Tensors as the state of a network: all are checked, none is copied."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zoo import registry
from zoo.errors import FileFormatError, PluginError, TensorMismatchError, WeightsError, ZooError
from zoo.registry import roles
from zoo.spec import Model


def translate(model: Model, module: nn.Module, tensors: dict[str, Tensor], source: object) -> dict[str, Tensor]:
    """``tensors``, or their translation by the model if more than the stem does not fit."""
    if not model.translate or _fits(module.state_dict(), tensors, model.stem):
        return tensors
    hook = registry.hook(model.translate, model.requires, role=roles.TRANSLATE, of=model.name)
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
    """The state of ``module``, after checking that ``tensors`` has each of its tensors and no others.

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
        before = weight.shape[1]
        if in_chans == 1:
            adapted = weight.float().sum(dim=1, keepdim=True)
        else:
            repeats = -(-in_chans // before)
            adapted = weight.float().repeat(1, repeats, 1, 1)[:, :in_chans] * (before / in_chans)
        tensors[key] = adapted.to(weight.dtype)
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
            f"{name} has {before} input channels, and its first layer ({fixed[0]}) cannot be adapted to {channels}.",
            hint=f"Use images with {before} channels.",
        )


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """The keys of those tensors that contain NaN or infinity."""
    return [key for key, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]


def require_finite(tensors: Mapping[str, Tensor], source: object) -> None:
    """Raises :class:`FileFormatError` that names ``source`` if a tensor contains NaN or infinity."""
    if bad := not_finite(tensors):
        raise FileFormatError(f"{source}: {len(bad)} tensors contain NaN or infinity: {', '.join(bad[:5])}.")

"""A name to a network."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import hub, registry
from zoo.errors import SpecError, UnknownNameError, UnpinnedError, WeightsError
from zoo.manifest import Weights
from zoo.registry import Found, listing
from zoo.trust import lock, policy

if TYPE_CHECKING:
    import torch
    from torch import nn

    from zoo.data.preprocess import Transform
    from zoo.loading import ModelInfo


def create(
    name: str,
    *,
    pretrained: bool | str = False,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    device: "str | torch.device | None" = None,
    dtype: "torch.dtype | None" = None,
    **args: Any,
) -> "nn.Module":
    """Builds the network ``name``, in training mode as torch leaves a new module.

    A tag loads those weights, in the name (``resnet20.c10``) or as ``pretrained="c10"``;
    ``pretrained=True`` loads the model's first pinned ones, ``weights`` a local safetensors file.
    Another ``num_classes`` than the weights have gives a newly initialised head, other ``in_chans`` an
    adapted first convolution; both are logged as warnings. Anything else that does not fit raises.
    ``args`` go to the family's build function.

    Raises :class:`zoo.UnknownNameError`, :class:`zoo.WeightsError`, :class:`zoo.HubError`,
    :class:`zoo.MissingExtraError` before anything is fetched.
    """
    for argument, value, least in (("num_classes", num_classes, 0), ("in_chans", in_chans, 1)):
        if value is not None and value < least:
            raise SpecError(f"{argument} = {value} is invalid: expected at least {least}.")
    found = _with_tag(_find(name, weights), pretrained)
    if weights is not None and (found.weights or pretrained):
        said = f"pretrained={pretrained!r}" if pretrained else name
        raise WeightsError(f"{said} and weights={str(weights)!r} both name weights.", hint="Give one of them.")
    registry.require(found.model)  # before a file is fetched for a network that cannot be built
    entry = chosen_weights(found) if found.weights or pretrained else None

    from zoo import loading

    sizes: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_chans}
    if entry is not None:
        module, info = loading.build_from(hub.use(entry), found.model, entry, **sizes, **args)
    elif weights is not None:
        module, info = loading.build_from(Path(weights), found.model, **sizes, **args)
    else:
        module, info = loading.build(found.model, **sizes, **args)
    module.zoo_info = info  # type: ignore[assignment]  # a plain value, not a submodule
    return module.to(device=device, dtype=dtype) if device is not None or dtype is not None else module


def _find(name: str, weights: str | Path | None) -> Found:
    """What ``name`` stands for; if nobody knows it, the file ``weights`` may say which distribution does."""
    try:
        return registry.load().find(name)
    except UnknownNameError as error:
        if weights is None:
            raise
        from zoo.loading import safetensors_file

        try:
            about = safetensors_file.metadata(Path(weights))
        except WeightsError:
            raise error from None
        return registry.load().find(name, distribution=str(about.get("distribution", "")))


def _with_tag(found: Found, pretrained: bool | str) -> Found:
    """``found`` with the weights whose tag ``pretrained`` is; as it is for True and False."""
    if isinstance(pretrained, bool):
        return found
    if not isinstance(pretrained, str):
        raise SpecError(f"pretrained={pretrained!r}: expected True, False or a tag of {found.model.name}'s weights.")
    if found.weights is not None and found.weights.tag != pretrained:
        raise WeightsError(
            f"{found.weights.name} and pretrained={pretrained!r} both name weights.", hint="Give one of them."
        )
    return registry.load().tagged(found, pretrained)


def create_trained(
    name: str, *, weights: str | Path | None = None, device: "str | torch.device | None" = None, **args: Any
) -> "nn.Module":
    """The trained network that ``name`` means: from ``weights``, by its tag, or with its default weights."""
    is_tagged = _find(name, weights).weights is not None
    return create(name, pretrained=weights is None and not is_tagged, weights=weights, device=device, **args)


def info_of(model: "nn.Module") -> "ModelInfo":
    """What :func:`create` knew of ``model``: name, weights, preprocessing, classes."""
    info: ModelInfo | None = getattr(model, "zoo_info", None)
    if info is None:
        raise WeightsError(f"This {type(model).__name__} was not created by zoo.create, so its input is unknown.")
    return info


def require_classes(model: "nn.Module") -> None:
    """Raises :class:`WeightsError` for a network that has no head: its outputs are features."""
    if getattr(model, "num_classes", None) == 0:
        info = getattr(model, "zoo_info", None)
        name = info.name if info is not None else f"This {type(model).__name__}"
        raise WeightsError(
            f"{name} has no classes: the network only computes features.",
            hint="Use zoo features to write them and zoo classify to fit a classifier.",
        )


def preprocess(model: "nn.Module") -> "Transform":
    """What turns a PIL image into the input of ``model``, float32 C H W, as its weights expect it."""
    from zoo.data.preprocess import Transform

    return Transform(info_of(model).preprocess)


def fetch(name: str, *, source: str | None = None, allow_unpinned: bool = False) -> Path:
    """The verified local file of the weights ``name``: ``arch.tag``, or ``arch`` for its default ones.

    ``source`` names the only hub to ask. Raises :class:`zoo.HubError` with each source's reason.
    """
    found = registry.load().find(name)
    entry = chosen_weights(found, allow_unpinned=allow_unpinned)
    return hub.fetch(entry, source=source, allow_unpinned=allow_unpinned)


def chosen_weights(found: Found, *, allow_unpinned: bool = False) -> Weights:
    """The weights that a name means in this project: of its tag or by default, as its lock and policy have them.

    Raises :class:`zoo.LockError` where their bytes are not those that were locked,
    :class:`zoo.PolicyError` if the project's policy does not accept them.
    """
    locked = lock.of_project() or lock.EMPTY
    entry = found.weights or lock.default_of(locked, found) or default_weights(found, allow_unpinned=allow_unpinned)
    policy.check(found, entry)
    return entry if locked is lock.EMPTY else lock.follow(locked, found, entry)


def default_weights(found: Found, *, allow_unpinned: bool = False) -> Weights:
    """The first pinned weights of a model; raises an error that lists what exists instead."""
    every = registry.load().weights_of(found.row, found.model)
    for weights in every:
        if weights.pinned or allow_unpinned:
            return weights
    arch = found.model.name
    if every:
        raise UnpinnedError(
            f"{arch} has no pinned weights: the manifest has no sha256 for {', '.join(w.name for w in every)}.",
            hint=f"zoo fetch {every[0].name} --allow-unpinned fetches the hub's file without verification. "
            f"After that, use {every[0].name} instead of {arch}.",
        )
    having = listing.list_models(pretrained=True, family=found.row.name)
    more = f" and {len(having) - 10} more: zoo list --pretrained --family {found.row.name}" if len(having) > 10 else ""
    raise WeightsError(f"{arch} has no weights.", hint=f"Its family has {', '.join(having[:10]) or 'none'}{more}.")

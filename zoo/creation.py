"""A name to a network."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from zoo import hub, registry
from zoo.errors import SpecError, UnknownNameError, UnpinnedError, WeightsError
from zoo.manifest import Weights
from zoo.registry import Found, listing
from zoo.trust import lock, policy

if TYPE_CHECKING:
    import torch
    from torch import nn

    from zoo.data.preprocess import Transform
    from zoo.loading import ModelInfo, Network


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
) -> "Network":
    """Builds a network, with trained weights if a tag names them.

    The network is in training mode, as torch leaves a new module: call ``eval()`` before you use it. If ``num_classes``
    differs from that of the weights, the head is newly initialised; if ``in_chans`` differs, the first convolution is
    adapted. Both are logged as warnings. Anything else that does not fit is an error.

    Args:
        name: An architecture (``resnet20``), or weights (``resnet20.c10``).
        pretrained: True for the model's default weights, or the tag of others (``"c10"``).
        weights: A local safetensors file with the weights to load.
        num_classes: Classes of the head. By default as many as the weights or the architecture have; 0 for no head.
        in_chans: Channels of the input. By default as many as the weights or the architecture have.
        device: Where the network is put.
        dtype: The type that floating-point tensors are cast to.
        args: Arguments of the family's build function.

    Returns:
        The network. ``zoo_info`` says what it is and how its input is prepared.

    Raises:
        UnknownNameError: There is no such model, tag or argument; the nearest names are suggested.
        SpecError: ``num_classes``, ``in_chans`` or ``pretrained`` is not possible.
        MissingExtraError: The family needs a library that is not installed.
        HubError: The weights cannot be fetched, or their bytes are not those of the manifest.
        LockError: The weights are not those in ``zoo.lock``.
        PolicyError: The project's policy does not accept the weights.
        WeightsError: Two arguments name weights, or the file does not fit the network.

    Example:
        >>> import zoo
        >>> model = zoo.create("resnet20.digits").eval()
        >>> model.num_classes
        10
        >>> model.reset_classifier(5)
    """
    for argument, value, least in (("num_classes", num_classes, 0), ("in_chans", in_chans, 1)):
        if value is not None and value < least:
            raise SpecError(f"{argument} = {value} is not possible: it must be at least {least}.")
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
    module.zoo_info = info
    return module.to(device=device, dtype=dtype) if device is not None or dtype is not None else module


def _find(name: str, weights: str | Path | None) -> Found:
    """What ``name`` stands for; if nobody knows it, the file ``weights`` may say which distribution does."""
    try:
        return registry.current().find(name)
    except UnknownNameError as error:
        if weights is None:
            raise
        from zoo.loading import safetensors_file

        try:
            about = safetensors_file.metadata(Path(weights))
        except WeightsError:
            raise error from None
        return registry.current().find(name, distribution=str(about.get("distribution", "")))


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
    return registry.current().tagged(found, pretrained)


def create_trained(
    name: str, *, weights: str | Path | None = None, device: "str | torch.device | None" = None, **args: Any
) -> "Network":
    """The trained network that ``name`` means: from ``weights``, by its tag, or with its default weights."""
    is_tagged = _find(name, weights).weights is not None
    return create(name, pretrained=weights is None and not is_tagged, weights=weights, device=device, **args)


def as_network(model: "str | nn.Module", **args: Any) -> "Network":
    """``model`` itself, or, of a name, the trained network that it means (:func:`create_trained`)."""
    return create_trained(model, **args) if isinstance(model, str) else cast("Network", model)


def info_of(model: "nn.Module") -> "ModelInfo":
    """What :func:`create` knew of ``model``: name, weights, preprocessing, classes."""
    info: ModelInfo | None = getattr(model, "zoo_info", None)
    if info is None:
        raise WeightsError(f"This {type(model).__name__} was not made by zoo.create: nothing is known of its input.")
    return info


def require_classes(model: "nn.Module") -> None:
    """Raises :class:`WeightsError` for a network that has no head: its outputs are features."""
    if getattr(model, "num_classes", None) == 0:
        info = getattr(model, "zoo_info", None)
        name = info.name if info is not None else f"This {type(model).__name__}"
        raise WeightsError(
            f"{name} has no classes: the network gives features.",
            hint="zoo features writes them down, zoo classify learns from them.",
        )


def preprocess(model: "nn.Module") -> "Transform":
    """The transform from a Pillow image to the input of a network, as its weights expect it.

    Args:
        model: A network that :func:`create` returned.

    Returns:
        A callable that takes a Pillow image and returns a tensor, float32 C H W.

    Raises:
        WeightsError: ``zoo.create`` did not make this network.

    Example:
        >>> import zoo
        >>> model = zoo.create("resnet20.digits")
        >>> image = zoo.data.load("digits", "test").image(0)
        >>> zoo.preprocess(model)(image).shape
        torch.Size([1, 8, 8])
    """
    from zoo.data.preprocess import Transform

    return Transform(info_of(model).preprocess)


def fetch(name: str, *, source: str | None = None, allow_unpinned: bool = False) -> Path:
    """Downloads weights and verifies them. A file that is in the cache is not downloaded again.

    Args:
        name: Weights (``resnet20.c10``), or an architecture for its default weights.
        source: The only hub to ask. By default all that the manifest and ``ZOO_HUB`` name, in order.
        allow_unpinned: Whether to accept weights whose sha256 the manifest does not state.

    Returns:
        The local file.

    Raises:
        UnknownNameError: There is no such model or tag.
        UnpinnedError: The manifest does not state a sha256.
        HubError: No source served the file; the message has each source's reason.
        LockError: The weights are not those in ``zoo.lock``.
        PolicyError: The project's policy does not accept the weights.
        WeightsError: The architecture has no weights.

    Example:
        >>> import zoo
        >>> zoo.fetch("resnet20.digits").suffix
        '.safetensors'
    """
    found = registry.current().find(name)
    entry = chosen_weights(found, allow_unpinned=allow_unpinned)
    return hub.fetch(entry, source=source, allow_unpinned=allow_unpinned)


def chosen_weights(found: Found, *, allow_unpinned: bool = False) -> Weights:
    """The weights that a name means in this project: of its tag or by default, as its lock and policy have them.

    Raises :class:`zoo.LockError` where their bytes are not those that were locked,
    :class:`zoo.PolicyError` where nobody vouches for them whom the project accepts.
    """
    locked = lock.of_project() or lock.EMPTY
    entry = found.weights or lock.default_of(locked, found) or default_weights(found, allow_unpinned=allow_unpinned)
    policy.check(found, entry)
    return entry if locked is lock.EMPTY else lock.follow(locked, found, entry)


def default_weights(found: Found, *, allow_unpinned: bool = False) -> Weights:
    """The first pinned weights of a model; raises an error that lists what exists instead."""
    every = registry.current().weights_of(found.row, found.model)
    for weights in every:
        if weights.pinned or allow_unpinned:
            return weights
    arch = found.model.name
    if every:
        raise UnpinnedError(
            f"{arch} has no pinned weights: nobody knows the sha256 of {', '.join(w.name for w in every)}.",
            hint=f"zoo fetch {every[0].name} --allow-unpinned takes what the hub has, unverified. "
            f"After that, say {every[0].name} in place of {arch}.",
        )
    having = listing.list_models(pretrained=True, family=found.row.name)
    more = f" and {len(having) - 10} more: zoo list --pretrained --family {found.row.name}" if len(having) > 10 else ""
    raise WeightsError(f"{arch} has no weights.", hint=f"Its family has {', '.join(having[:10]) or 'none'}{more}.")

"""Networks by name, their weights' files, what is known of them; and images as its input."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from zoo import names, registry
from zoo.errors import SpecError, UnknownNameError, WeightsError
from zoo.loading import resolve
from zoo.registry import extensions, hooks, listing
from zoo.spec import Preprocess
from zoo.system import storage
from zoo.trust import first_use

if TYPE_CHECKING:
    import torch
    from torch import nn

    from zoo.data.preprocess import Picture, Transform
    from zoo.loading import ModelInfo, Network


def create(
    name: str,
    *,
    pretrained: bool | str = False,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    in_chans: int | None = None,
    global_pool: str | None = None,
    drop_rate: float | None = None,
    drop_path_rate: float | None = None,
    output_stride: int | None = None,
    features_only: bool = False,
    out_indices: int | Sequence[int] | None = None,
    device: "str | torch.device | None" = None,
    dtype: "torch.dtype | None" = None,
    **args: Any,
) -> "Network":
    """Builds a network, with trained weights if a tag names them.

    The network is in training mode, as torch leaves a new module: call ``eval()`` before you use it. If ``num_classes``
    differs from that of the weights, the head is newly initialised; if ``in_chans`` differs, the first convolution is
    adapted. Both are logged as warnings. Anything else that does not fit is an error. Weights of another format than
    safetensors are converted on their first use, in a process of its own.

    Args:
        name: An architecture (``resnet20``), weights (``resnet20.c10``), the folder of a run or a safetensors file
            that Zoo wrote (``runs/mine``), or a repository of the Hugging Face Hub with weights
            (``hf-hub:OWNER/NAME``, also ``@COMMIT``).
        pretrained: True for the model's default weights, or the tag of others (``"c10"``).
        weights: The weights to load: a local safetensors, ``.pth``, ``.h5`` or ``.onnx`` file, the folder of a run, or
            a repository (``hf-hub:OWNER/NAME``).
        num_classes: Classes of the head. By default as many as the weights, ``class_names`` or the architecture have;
            0 for no head.
        class_names: Names of the classes, in the order of the head's outputs.
        in_chans: Channels of the input. By default as many as the weights or the architecture have.
        global_pool: How the features are pooled for the head: ``avg``, ``max``, or the empty string for not at
            all, which needs 0 classes.
        drop_rate: Dropout's rate before the head, or as the family defines an argument of this name.
        drop_path_rate: The rate of stochastic depth in the last block; it rises linearly from block to block.
        output_stride: How much smaller than the input the last features are: dilation takes the place of strides.
        features_only: Whether the network returns a list of feature maps and has no head.
        out_indices: The stages in ``feature_info`` whose maps these are: numbers, of which negative ones count from the
            end, or how many of the last. By default all.
        device: Where the network is put.
        dtype: The type that floating-point tensors are cast to.
        args: Arguments of the family's build function.

    Returns:
        The network. ``zoo_info`` says what it is and how its input is prepared.

    Raises:
        UnknownNameError: There is no such model, tag or argument; the message lists the nearest or all. Few models have
            ``drop_path_rate`` or ``output_stride``.
        SpecError: The value of an argument is not possible.
        MissingExtraError: The family needs a library that is not installed.
        HubError: The weights cannot be fetched, or their bytes are not those of the manifest.
        LockError: The weights are not those in the project's ``zoo.lock``, or those that the user pinned.
        PolicyError: The project's policy does not accept the weights.
        UnpinnedError: The weights have no known sha256, and first use is refused.
        WeightsError: Two arguments name weights, or the file does not fit the network or cannot be converted.

    Example:
        >>> import zoo
        >>> model = zoo.create("resnet20.digits").eval()
        >>> model.num_classes
        10
        >>> model.reset_classifier(5)
    """
    common = {
        "global_pool": global_pool,
        "drop_rate": drop_rate,
        "drop_path_rate": drop_path_rate,
        "output_stride": output_stride,
    }
    names.check(name)
    for argument in args.keys() & _ELSEWHERE.keys():
        raise UnknownNameError(f"zoo.create has no argument {argument!r}.", hint=_ELSEWHERE[argument])
    args = {**{key: value for key, value in common.items() if value is not None}, **args}
    _check_features(features_only, out_indices, num_classes)
    for argument, value, least in (("num_classes", num_classes, 0), ("in_chans", in_chans, 1)):
        if value is not None and (not isinstance(value, Integral) or isinstance(value, bool) or value < least):
            raise SpecError(f"{argument} = {value!r} is invalid: expected a whole number, at least {least}.")
    if weights is not None and not isinstance(weights, str | PathLike):
        raise SpecError(f"weights = {weights!r} is invalid: expected a file, the folder of a run or hf-hub:OWNER/NAME.")
    if device is not None or dtype is not None:
        _check_place(device, dtype)
    if class_names is not None:
        num_classes = _count(class_names, num_classes)
    path, (name, file) = name, resolve.with_file(name, weights)
    if name != path:  # a trained network
        if isinstance(pretrained, str):
            raise WeightsError(f"{path} and pretrained={pretrained!r} both name weights.", hint="Give one of them.")
        pretrained = False
    weights = file
    match = resolve.with_tag(resolve.model_named(name, weights), pretrained)
    if weights is not None and (match.weights or pretrained):
        tag = f"pretrained={pretrained!r}" if pretrained else name
        raise WeightsError(f"{tag} and weights={str(weights)!r} both name weights.", hint="Give one of them.")
    registry.require(match.model)  # before a file is fetched for a network that cannot be built
    used = resolve.use(match) if match.weights or pretrained else None

    from zoo import loading

    sizes: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_chans}
    if used is not None:
        entry, file = used
        module, _ = loading.build_from(file, match.model, entry, **sizes, **args)
    elif weights is not None:
        stated, file = resolve.use_given(match, weights)
        module, _ = loading.build_from(file, match.model, stated, **sizes, **args)
    else:
        # On meta there are no values; without initialisation torch touches none of the memory either.
        with loading.skip_init() if str(device) == "meta" else nullcontext():
            module, _ = loading.build(match.model, **sizes, **args)
    if class_names is not None:
        module.zoo_info = module.zoo_info._replace(class_names=tuple(class_names))
    if features_only:
        module = loading.as_features(module, out_indices)
    return module.to(device=device, dtype=dtype) if device is not None or dtype is not None else module


_ELSEWHERE = {
    "cache_dir": "The environment variable ZOO_CACHE names the folder of the cache.",
    "checkpoint_path": "weights=FILE loads a local file. zoo.timm.create_model takes timm's arguments.",
    "pretrained_cfg": "pretrained=TAG chooses weights. zoo.timm.create_model takes timm's arguments.",
    "pretrained_cfg_overlay": "weights=FILE loads a local file. zoo.timm.create_model takes timm's arguments.",
}
"""Hints for arguments of timm that name weights."""


def _check_place(device: "str | torch.device | None", dtype: "torch.dtype | None") -> None:
    """Raises :class:`SpecError` for a device that torch does not have here, or a type that is none of torch's."""
    import torch

    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise SpecError(f"dtype = {dtype!r} is invalid: expected one of torch's, such as torch.float16.")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise SpecError(f"device = {str(device)!r} cannot be used: {reason}") from None


def _count(class_names: Sequence[str], num_classes: int | None) -> int:
    """Returns how many classes have these names; raises :class:`SpecError` unless they are as many as stated."""
    is_list = isinstance(class_names, Sequence) and not isinstance(class_names, str)
    is_list = is_list and all(isinstance(name, str) for name in class_names)
    if not is_list or len(set(class_names)) != len(class_names) or not class_names:
        raise SpecError(f"class_names = {class_names!r} is invalid: expected different names, one for each class.")
    if num_classes not in (None, len(class_names)):
        raise SpecError(f"class_names are {len(class_names)}, but num_classes = {num_classes}.")
    return len(class_names)


def _check_features(features_only: bool, out_indices: int | Sequence[int] | None, num_classes: int | None) -> None:
    """Raises :class:`SpecError` for arguments that have no effect with, or without, ``features_only``."""
    if out_indices is not None and not features_only:
        raise SpecError(f"out_indices = {out_indices!r} chooses feature maps.", hint="Set features_only=True.")
    if features_only and num_classes:
        raise SpecError(f"features_only=True leaves out the head, so num_classes = {num_classes} has no effect.")


def create_trained(
    name: str, *, weights: str | Path | None = None, device: "str | torch.device | None" = None, **args: Any
) -> "Network":
    """Returns the trained network that ``name`` means: from ``weights``, by its tag, or with its default weights.

    ``name`` may also be the folder of a run, or a file that is a network, such as ``zoo export`` writes; plugins open
    these.
    """
    if (tool := extensions.opener_of(name)) is not None:
        if weights is not None or args:
            raise SpecError(f"{name} is a network with its weights.", hint="Leave out weights and arguments.")
        return cast("Network", registry.hook(tool.address, role=hooks.OPEN)(Path(name)))
    name, weights = resolve.with_file(name, weights)
    is_tagged = resolve.model_named(name, weights).weights is not None
    return create(name, pretrained=weights is None and not is_tagged, weights=weights, device=device, **args)


def as_network(model: "str | nn.Module", **args: Any) -> "Network":
    """Returns ``model`` itself, or the trained network of a name (:func:`create_trained`)."""
    return create_trained(model, **args) if isinstance(model, str) else cast("Network", model)


def info_of(model: "nn.Module") -> "ModelInfo":
    """Returns what :func:`create` knew of ``model``: name, weights, preprocessing, classes."""
    info: ModelInfo | None = getattr(model, "zoo_info", None)
    if info is None:
        create = f"zoo.create({model!r})" if isinstance(model, str) else "zoo.create(NAME)"
        raise WeightsError(
            f"This {type(model).__name__} was not created by zoo.create, so its input is unknown.",
            hint=f"Expected a network: {create}. Of your own, zoo.register makes a model.",
        )
    return info


def save(model: "nn.Module", file: Path, *, origin: str, **facts: Any) -> None:
    """Writes a network with all that is needed to use it again: ``zoo.create(file)``. Its folder then is a run's.

    Args:
        model: A network with its ``zoo_info``.
        file: The safetensors file.
        origin: Where its tensors come from, in words.
        facts: Further metadata, which JSON can hold.
    """
    import msgspec

    from zoo.loading import safetensors_file

    info = info_of(model)
    about = {
        "model": info.model.name,
        "args": info.args,
        "preprocess": msgspec.to_builtins(info.preprocess),
        "classes": info.classes,
        "class_names": info.class_names,
        "num_classes": len(info.class_names),
        "in_chans": info.preprocess.input_size[0],
        "origin": origin,
        **registry.current().distribution_of(info.model),
        **facts,
    }
    safetensors_file.write(model.state_dict(), file, about)


def require_classes(model: "nn.Module") -> None:
    """Raises :class:`WeightsError` for a network without classes."""
    if getattr(model, "num_classes", None) == 0:
        info = getattr(model, "zoo_info", None)
        name = info.name if info is not None else f"This {type(model).__name__}"
        raise WeightsError(
            f"{name} has no classes: the network only computes features.",
            hint="Use zoo features to write them and zoo classify to fit a classifier.",
        )


def fetch(name: str, *, source: str | None = None) -> Path:
    """Downloads weights and verifies them. A file that is in the cache is not downloaded again.

    Weights whose sha256 no manifest states are pinned on first use: from then on, other bytes are an error.

    Args:
        name: Weights (``resnet20.c10``), a repository (``hf-hub:OWNER/NAME``), or an architecture for its default
            weights.
        source: The only hub to ask. By default all that the manifest and ``ZOO_HUB`` name, in order.

    Returns:
        The local file, as it was published: not its conversion to safetensors, if it has another format.

    Raises:
        UnknownNameError: There is no such model or tag.
        UnpinnedError: The manifest does not state a sha256, and first use is refused.
        HubError: No source served the file; the message has each source's reason.
        LockError: The weights are not those in the project's ``zoo.lock``, or those that the user pinned.
        PolicyError: The project's policy does not accept the weights.
        WeightsError: The architecture has no weights.

    Example:
        >>> import zoo
        >>> zoo.fetch("resnet20.digits").suffix
        '.safetensors'
    """
    found = resolve.find(name)
    return first_use.fetch(found, resolve.weights_for(found), source=source).path


def info(name: str) -> dict[str, Any]:
    """Returns all that is known of a model or of weights. Imports no torch, except to read a file.

    Args:
        name: An architecture, weights, a repository (``hf-hub:OWNER/NAME``), or the folder of a run or a safetensors
            file that Zoo wrote.

    Returns:
        Values that JSON can hold: the fields of :class:`zoo.Model`, its ``family``, ``distribution`` and ``version``,
        and a list ``weights`` of manifest entries. Of a path, ``file`` instead: what it says of itself, its ``path``,
        ``size`` in bytes and ``sha256``.

    Raises:
        UnknownNameError: There is no such model or tag; the nearest names are suggested.
        HubError: There is no such repository, or its description cannot be fetched.

    Example:
        >>> import zoo
        >>> about = zoo.info("resnet20.digits")
        >>> about["paper"]["year"], about["weights"][0]["classes"]
        (2015, 'digits')
    """
    if (file := resolve.trained_at(name)) is None:
        return listing.about(resolve.find(name))
    from zoo.loading import safetensors_file

    match = resolve.model_named(resolve.model_in(file), file)
    stated = {"path": str(file), "size": file.stat().st_size, "sha256": storage.sha256_of(file)}
    return {**listing.about(match), "weights": [], "file": safetensors_file.metadata(file) | stated}


def preprocess(model: "nn.Module") -> "Transform":
    """Returns the transform of images to the input of a network, as its weights expect it.

    Args:
        model: A network that :func:`zoo.create` returned.

    Returns:
        A callable. It takes a Pillow image, a path, a uint8 array H W C, or a uint8 tensor C H W, and returns a
        tensor, float32 C H W; of a uint8 batch B C H W, float32 B C H W.

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


def transforms(
    model: "str | nn.Module", *, train: bool = False, size: int | None = None
) -> "Callable[[Picture], torch.Tensor]":
    """Returns the transform of images to the input of a network, for your own data set or data loader.

    Works in torchvision's ``v2.Compose`` and as the ``transform`` of its data sets.

    Args:
        model: A network that :func:`zoo.create` returned, or a name. An architecture without a tag means the
            preprocessing that it declares.
        train: Random crops and flips like the recipe for your own images, instead of :func:`preprocess`. The random
            numbers are those of torch's global generator.
        size: Side of the input in pixels, instead of the network's.

    Returns:
        A callable. It takes a Pillow image, a path, a uint8 array H W C, or a uint8 tensor C H W, and returns a
        tensor, float32 C H W; of a uint8 batch B C H W, float32 B C H W. For training it is a ``v2.Compose``, which
        crops all images of a batch alike.

    Raises:
        UnknownNameError: There is no such model or tag.
        WeightsError: ``zoo.create`` did not make this network.
        SpecError: ``size`` is not possible.
        MissingExtraError: ``train`` needs torchvision, which is not installed.

    Example:
        >>> import zoo
        >>> photo = zoo.data.load("digits", "test").image(0)
        >>> zoo.transforms("resnet20.c10")(photo).shape
        torch.Size([3, 32, 32])
        >>> zoo.transforms("resnet20.c10", train=True, size=64)(photo).shape
        torch.Size([3, 64, 64])
    """
    import msgspec

    from zoo.data.preprocess import Transform, training_transform

    wanted = _preprocess_named(model) if isinstance(model, str) else info_of(model).preprocess
    if size is not None:
        wanted = msgspec.structs.replace(wanted, input_size=(wanted.input_size[0], size, size))
    return training_transform(wanted) if train else Transform(wanted)


def _preprocess_named(name: str) -> Preprocess:
    """Returns the preprocessing of a name; weights are fetched only if a conversion states it."""
    found = resolve.find(name)
    entry = None if found.weights is None else resolve.weights_for(found)
    if entry is not None and entry.preprocess is None and entry.needs_conversion:
        entry, _ = resolve.use(found)
    return (entry and entry.preprocess) or found.model.preprocess

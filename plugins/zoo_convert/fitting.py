"""Applies a family's key maps to tensors: whether all tensors fit, and what was changed.

If none fits, tensors are matched in order by shape, whatever they are called: the first of a shape here is the first
there. An order proves nothing. Such a reading is used only if the network then computes what an ONNX file does, or if
it scores on data.
"""

import math
import re
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from torch import Tensor, nn

from zoo import loading
from zoo.errors import MissingExtraError, PluginError, SpecError, TensorMismatchError, UnknownNameError
from zoo.registry import Found, extensions
from zoo.spec import KeyMap, Model
from zoo_convert import onnx
from zoo_convert.formats import Checkpoint
from zoo_convert.onnx import Use

if TYPE_CHECKING:
    from zoo_convert.onnx import Proof

AS_IS = KeyMap("as-is")
"""Keys, shapes and arguments are the model's own."""


class Fitted(msgspec.Struct):
    """``folded`` names the tensors into which a bias, an epsilon or the input's format was folded."""

    key_map: KeyMap
    tensors: dict[str, Tensor]
    args: dict[str, Any] = {}
    is_trunk: bool = False
    num_classes: int = 0
    in_chans: int = 0
    renamed: list[tuple[str, str]] = []
    transposed: list[str] = []
    reshaped: list[str] = []
    folded: list[str] = []
    added: list[str] = []
    dropped: list[str] = []
    problem: TensorMismatchError | None = None
    proof: "Proof | None" = None
    is_in_order: bool = False
    """Whether tensors were matched in order, whatever they are called."""
    features: str = ""
    """The features that the head of an ONNX file takes, if that head was left out."""
    is_compared: bool = False
    """Whether it was compared with the network, so that the problem lists tensors."""


def maps_of(match: Found, wanted: str | None) -> list[KeyMap]:
    """Returns the key map ``wanted``, or all of the family, unchanged keys first. Raises :class:`UnknownNameError`."""
    maps = [AS_IS, *extensions.own_key_maps(match)]
    if wanted is None:
        return maps
    chosen = AS_IS if wanted == AS_IS.name else extensions.find_key_map(match, wanted)
    if chosen is None:
        names = [*(known.name for known in maps), *extensions.brought_key_maps(match)]
        raise UnknownNameError.of("key map", wanted, names, hint=f"{match.plugin.name} has {', '.join(names)}.")
    return [chosen]


def read_by(
    key_map: KeyMap,
    state: Mapping[str, Tensor],
    match: Found,
    args: Mapping[str, Any],
    source: object,
    *,
    prefix: str = "",
    trunk: bool = False,
) -> Fitted:
    """Reads the state, without ``prefix``, under ``key_map``; ``args`` override the map's. A ``trunk`` has no head."""
    fitted = Fitted(key_map, {}, {**key_map.args, **args}, trunk)
    try:
        _rename(fitted, state, prefix)
        _transpose(fitted)
        _fold_biases(fitted)
        _change_input(fitted, match.model)
        _account(fitted, match.model, source)
        _change_epsilon(fitted)
    except TensorMismatchError as error:
        fitted.problem = error
    except MissingExtraError:
        raise
    except (PluginError, SpecError, UnknownNameError) as error:  # a network that cannot take the map's arguments
        fitted.problem = TensorMismatchError(
            f"{match.model.name} cannot be built with the arguments of {key_map.name}: {error}"
        )
    return fitted


def mismatch(tried: list[Fitted], match: Found) -> TensorMismatchError:
    """Returns the error if no reading fits, with the problems of the nearest."""
    nearest = min(tried, key=lambda fitted: (not fitted.is_compared, str(fitted.problem).count("\n")))
    assert nearest.problem is not None
    names = ", ".join(fitted.key_map.name for fitted in tried)
    heads = tuple(f"missing     {head}." for head in match.model.head)
    problems = [line.strip() for line in nearest.problem.message.splitlines()[1:]]
    is_headless = nearest.is_compared and bool(problems) and all(line.startswith(heads) for line in problems)
    others = extensions.brought_key_maps(match) if len(tried) > 1 else {}
    more = f" Not tried, because other plugins bring them: --from {' or --from '.join(others)}." if others else ""
    return TensorMismatchError(
        f"No key map of {match.plugin.name} ({names}) fits; the nearest is {nearest.key_map.name!r}.{more}\n"
        + nearest.problem.message,
        hint="Only the head is missing: --trunk (Stated(trunk=True)) converts to a network that computes features."
        if is_headless
        else "",
    )


def _rename(fitted: Fitted, state: Mapping[str, Tensor], prefix: str) -> None:
    for old, tensor in state.items():
        new = old.removeprefix(prefix)
        if any(re.search(pattern, new) for pattern in fitted.key_map.drop):
            fitted.dropped.append(old)
            continue
        for pattern, replacement in fitted.key_map.rename:
            new = re.sub(pattern, replacement, new)
        if new in fitted.tensors:
            raise TensorMismatchError(f"{old} and another tensor both become {new}")
        if new != old:
            fitted.renamed.append((old, new))
        fitted.tensors[new] = tensor


def _transpose(fitted: Fitted) -> None:
    for key, tensor in fitted.tensors.items():
        for pattern, shape, order in fitted.key_map.transpose:
            if not re.search(pattern, key):
                continue
            before = tuple(tensor.shape)
            try:
                tensor = (tensor.reshape(shape) if shape else tensor).permute(order)
            except RuntimeError:
                asked = f"{shape} in the order {order}" if shape else f"the order {order}"
                raise TensorMismatchError(f"{key} {before} cannot be read as {asked}") from None
            fitted.tensors[key] = tensor.contiguous()
            viewed = f" as {shape}" if shape else ""
            fitted.transposed.append(f"{key} {before}{viewed}, dimensions {order} -> {tuple(tensor.shape)}")


def _fold_biases(fitted: Fitted) -> None:
    """Subtracts biases from means: (x + bias - mean) is (x - (mean - bias))."""
    for pattern, replacement in fitted.key_map.fold_bias:
        for key in [key for key in fitted.tensors if re.search(pattern, key)]:
            mean = re.sub(pattern, replacement, key)
            if mean not in fitted.tensors or fitted.tensors[mean].shape != fitted.tensors[key].shape:
                raise TensorMismatchError(f"{key} has no running mean {mean} of the same shape to subtract it from")
            bias = fitted.tensors.pop(key)
            fitted.tensors[mean] = fitted.tensors[mean] - bias
            fitted.folded.append(f"{key} into {mean}")


def _change_epsilon(fitted: Fitted) -> None:
    """Adds the difference of epsilons to variances: (variance + theirs) is ((variance + theirs - ours) + ours)."""
    if fitted.key_map.norm_eps is None:
        return
    theirs, ours = fitted.key_map.norm_eps
    for key in [key for key in fitted.tensors if key.endswith(".running_var")]:
        fitted.tensors[key] = (fitted.tensors[key].double() + (theirs - ours)).float()
        fitted.folded.append(f"epsilon {theirs:g}, here {ours:g}, into {key}")


def _change_input(fitted: Fitted, model: Model) -> None:
    """Changes the stem's weights O I H W: reorders them for B, G, R, multiplies them by 255 for [0, 255]."""
    key_map = fitted.key_map
    if key_map.input_order == "rgb" and key_map.input_scale == 1:
        return
    stems = [f"{stem}.weight" for stem in model.stem]
    missing = [key for key in stems if key not in fitted.tensors]
    if missing or not stems:
        raise TensorMismatchError(f"the first layer {', '.join(missing) or '(the model names none)'} is missing")
    for key in stems:
        weight = fitted.tensors[key]
        if key_map.input_order == "bgr":
            weight = weight.flip(1)
            fitted.folded.append(f"the order B, G, R of the input into {key}")
        if key_map.input_scale != 1:
            weight = weight * key_map.input_scale
            fitted.folded.append(f"the input's range 0 to {key_map.input_scale:g} into {key}")
        fitted.tensors[key] = weight


def _account(fitted: Fitted, model: Model, source: object) -> None:
    """Checks that all tensors of the network exist with their shapes, and no others."""
    classes = 0 if fitted.is_trunk else loading.classes_in(fitted.tensors, model.head) or model.num_classes
    channels = loading.channels_in(fitted.tensors, model.stem) or model.preprocess.input_size[0]
    fitted.num_classes, fitted.in_chans = classes, channels
    with torch.device("meta"):
        module, _ = loading.build(model, num_classes=classes, in_chans=channels, **fitted.args)
    fitted.tensors = loading.translate(model, module, fitted.tensors, source)
    for key, expected in module.state_dict().items():
        _complete(fitted, key, expected)
    fitted.is_compared = True
    loading.check(module, fitted.tensors, source)


def _complete(fitted: Fitted, key: str, expected: Tensor) -> None:
    """Adds counters that old files lack, and scales of 1; reshapes a linear layer's weights to a convolution's."""
    tensor = fitted.tensors.get(key)
    if tensor is None and key.endswith(".num_batches_tracked"):
        fitted.tensors[key] = torch.zeros((), dtype=torch.int64)
        fitted.added.append(key)
    elif tensor is None and any(re.search(pattern, key) for pattern in fitted.key_map.ones):
        fitted.tensors[key] = torch.ones(expected.shape)
        fitted.added.append(key)
    elif tensor is not None and _is_flattened(tensor.shape, expected.shape):
        fitted.tensors[key] = tensor.reshape(expected.shape)
        fitted.reshaped.append(f"{key} {tuple(tensor.shape)} -> {tuple(expected.shape)}")


def _is_flattened(got: torch.Size, expected: torch.Size) -> bool:
    """Returns whether one is O I and the other the same O I H W with the inputs unrolled."""
    return {len(got), len(expected)} == {2, 4} and got[0] == expected[0] and got.numel() == expected.numel()


def read_in_order(
    checkpoint: Checkpoint, maps: list[KeyMap], match: Found, args: Mapping[str, Any], *, trunk: bool
) -> list[Fitted]:
    """Returns the readings in order that fit a network of ``match``, one for each set of arguments of ``maps``.

    An ONNX file's tensors are in the order in which its graph uses them. If it has no normalizations, they were folded
    into the layers before them; files of which only some were folded are refused. Only the arguments, the input and
    the classes of ``maps`` count. Raises :class:`TensorMismatchError` if none fits.
    """
    graph, tensors = checkpoint.graph, checkpoint.tensors
    is_folded = False
    variants: list[tuple[list[Use], list[str]]] = [([Use(name, tensor) for name, tensor in tensors.items()], [])]
    if graph is not None:
        is_folded = all(node.op_type != "BatchNormalization" for node in graph.graph.node)
        variants = [(onnx.uses(graph, tensors), [])]
        changed, folded = onnx.fold_biases(graph, tensors)
        if folded:
            variants.append((onnx.uses(graph, changed), folded))
    distinct: dict[str, KeyMap] = {}
    for key_map in maps:
        distinct.setdefault(str(key_map.args), key_map)
    fits: list[Fitted] = []
    problems: list[TensorMismatchError] = []
    for key_map in distinct.values():
        for uses, folded in variants:
            try:
                fitted = _match(uses, key_map, match, args, trunk=trunk, is_folded=is_folded, is_stated=len(maps) == 1)
            except TensorMismatchError as error:
                problems.append(error)
            except MissingExtraError:
                raise
            except (PluginError, SpecError, UnknownNameError) as error:  # it cannot be built with the map's arguments
                problems.append(TensorMismatchError(error.message))
            else:
                fitted.folded += folded
                fits.append(fitted)
                break
    if not fits:
        raise problems[0]
    return fits


def _match(
    uses: list[Use],
    declared: KeyMap,
    match: Found,
    args: Mapping[str, Any],
    *,
    trunk: bool,
    is_folded: bool,
    is_stated: bool,
) -> Fitted:
    """Returns the reading with the arguments of ``declared``; its form of the input counts if the caller states the
    map.

    With ``is_folded``, the file has no normalizations, and the network's are identities that add a bias.
    """
    uses = [use for use in uses if use.tensor.ndim]  # not counters
    matrices = [use.tensor for use in uses if use.tensor.ndim in (2, 4)]
    if not matrices:
        raise TensorMismatchError("The file has no convolution and no linear layer.")
    classes = 0 if trunk else len(matrices[-1])
    channels = matrices[0].shape[1] if matrices[0].ndim == 4 else match.model.preprocess.input_size[0]
    with torch.device("meta"):
        module, _ = loading.build(match.model, num_classes=classes, in_chans=channels, **{**declared.args, **args})
    identities = dict(_identities(module)) if is_folded else {}
    waiting: dict[tuple[int, ...], deque[Use]] = {}
    for use in uses:
        waiting.setdefault(_form(use.tensor), deque()).append(use)
    state, names = {}, []
    for key, expected in module.state_dict().items():
        if key in identities or key.endswith("num_batches_tracked"):
            continue
        queue = waiting.get(_form(expected))
        if not queue:
            raise TensorMismatchError(
                f"The file has no tensor of the shape of {key} {(*expected.shape,)} left.",
                hint="If only some normalizations were folded into other layers, export the file without that: "
                "torch.onnx.export(..., training=TrainingMode.PRESERVE, do_constant_folding=False)."
                if key.endswith((".running_mean", ".running_var"))
                else "",
            )
        use = queue.popleft()
        state[key] = use.tensor
        names.append((use.name, key))
    matched = {name for name, _ in names}
    left = [use for use in uses if use.name not in matched]
    if left and not (trunk and left == uses[-len(left) :]):
        raise TensorMismatchError(
            f"{len(left)} tensors of the file have no place in the network: "
            + ", ".join(f"{use.name} {(*use.tensor.shape,)}" for use in left[:5])
        )
    fields = ("input_order", "input_scale", "preprocess", "classes", "origin") if is_stated else ()
    key_map = KeyMap(
        f"{declared.name} in order", args=declared.args, **{field: getattr(declared, field) for field in fields}
    )
    fitted = read_by(key_map, {**state, **identities}, match, args, "The file", trunk=trunk)
    if fitted.problem is not None:
        raise fitted.problem
    fitted.is_in_order = True
    fitted.renamed = [pair for pair in names if pair[0] != pair[1]]
    fitted.dropped = [use.name for use in left]
    fitted.features = left[0].taken if left else ""
    norms = [key.removesuffix(".running_var") for key in identities if key.endswith(".running_var")]
    fitted.folded += [f"by its author: {norm}, here an identity" for norm in norms]
    return fitted


def _form(tensor: Tensor) -> tuple[int, ...]:
    """Returns the shape, a linear layer's as that of a convolution which is as large as its input."""
    kernel = tensor.shape[2:] if len({*tensor.shape[2:]}) > 1 else ()
    return (len(tensor), math.prod(tensor.shape[1:]), *kernel) if tensor.ndim > 1 else (*tensor.shape,)


def _identities(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors of normalizations that add the bias of a convolution and nothing else, without that bias.

    The bias is theirs, too, if the layer before has none.
    """
    before: nn.Module = module
    for name, submodule in module.named_modules():
        if isinstance(submodule, nn.Conv2d | nn.Linear):
            before = submodule
        if not isinstance(submodule, nn.BatchNorm2d) or submodule.weight is None:
            continue
        ones = torch.ones(submodule.num_features)
        yield f"{name}.weight", ones
        yield f"{name}.running_mean", torch.zeros(submodule.num_features)
        yield f"{name}.running_var", (ones.double() - submodule.eps).float()
        if getattr(before, "bias", None) is not None:
            yield f"{name}.bias", torch.zeros(submodule.num_features)

"""Applies a family's key maps to tensors: whether all tensors fit, and what was changed.

If none fits, tensors are matched in order by shape, whatever they are called: the first of a shape here is the first
there. An order proves nothing. Such a reading is used only if the network then computes what an ONNX file does, or if
it scores on data.
"""

import math
import re
from collections import deque
from collections.abc import Mapping
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
    features: list[str] = []
    """Values of an ONNX file that may be the features, if a head was left out."""
    is_compared: bool = False
    """Whether it was compared with the network, so that the problem lists tensors."""
    changed: dict[str, Any] = {}
    """Arguments that neither the key map nor the caller states, and that were tried."""

    @property
    def label(self) -> str:
        """The key map, and the arguments that were tried."""
        return " ".join([self.key_map.name, *(f"{key}={value!r}" for key, value in self.changed.items())])


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
    changed: Mapping[str, Any] | None = None,
) -> Fitted:
    """Reads the state, without ``prefix``, under ``key_map``; ``args`` override the map's. A ``trunk`` has no head.

    ``changed`` are arguments that are tried.
    """
    changed = dict(changed or {})
    fitted = Fitted(key_map, {}, {**key_map.args, **changed, **args}, trunk, changed=changed)
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
    """Returns the error if no reading fits, with the first problems of each kind of the nearest."""
    nearest = min(tried, key=lambda fitted: (not fitted.is_compared, str(fitted.problem).count("\n")))
    assert nearest.problem is not None
    names = ", ".join(dict.fromkeys(fitted.key_map.name for fitted in tried))
    others = extensions.brought_key_maps(match) if len(tried) > 1 else {}
    more = f" Not tried, because other plugins bring them: --from {' or --from '.join(others)}." if others else ""
    return TensorMismatchError(
        f"No key map of {match.plugin.name} ({names}) fits; the nearest is {nearest.label!r}.{more}\n"
        + _summary(nearest.problem.message),
        hint=_advice(nearest, match.model) if nearest.is_compared else nearest.problem.hint,
    )


SHOWN = 4
"""Lines of each kind of problem that an error shows; another architecture has hundreds."""


def _summary(message: str) -> str:
    """Returns the first and the last lines of each kind of problem, and how many more there are."""
    title, *lines = message.splitlines()
    kinds: dict[str, list[str]] = {}
    for line in lines:
        kinds.setdefault((line.split() or [""])[0], []).append(line)
    shown = [title]
    for kind, these in kinds.items():
        if len(these) <= SHOWN:
            shown += these
        else:
            shown += [*these[: SHOWN - 1], f"  ... and {len(these) - SHOWN} more {kind}, to", these[-1]]
    return "\n".join(shown)


def _advice(nearest: Fitted, model: Model) -> str:
    """Returns what to try if only a head is missing, or if the file has more than the network."""
    assert nearest.problem is not None
    problems = [line.split() for line in nearest.problem.message.splitlines()[1:]]
    kinds = {kind for kind, *_ in problems}
    if kinds == {"missing"} and all(
        key.startswith(tuple(f"{head}." for head in model.head)) for _, key, *_ in problems
    ):
        return "Only the head is missing: --trunk (Stated(trunk=True)) converts to a network that computes features."
    if kinds == {"unexpected"}:
        tops = dict.fromkeys(key.partition(".")[0] if "." in key else key for _, key, *_ in problems)
        drops = " ".join(f"--drop '{top}*'" for top in [*tops][:3])
        return (
            "The file has all of the network's tensors, and more. If they do not change what the network computes, "
            f"leave them out: {drops}"
        )
    return ""


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
    with loading.skip_init(), torch.device("meta"):
        module, _ = loading.build(model, num_classes=classes, in_chans=channels, **fitted.args)
    fitted.tensors = loading.translate(model, module, fitted.tensors, source)
    for key, expected in module.state_dict().items():
        _complete(fitted, key, expected)
    if fitted.is_trunk:
        _leave_out_head(fitted, module, model)
    fitted.is_compared = True
    try:
        loading.check(module, fitted.tensors, source)
    except TensorMismatchError as error:
        raise TensorMismatchError(_in_names_of_file(error.message, fitted), hint=error.hint) from None


def _leave_out_head(fitted: Fitted, module: nn.Module, model: Model) -> None:
    """Leaves out what the file has behind a complete trunk.

    A tensor is behind it if it is called as the model's head, or if it comes after all others, and its layer is not
    within a part of the trunk.
    """
    state = module.state_dict()
    if not state.keys() <= fitted.tensors.keys():
        return
    heads = tuple(f"{head}." for head in model.head)
    parts = {key.partition(".")[0] for key in state}
    last = max((place for place, key in enumerate(fitted.tensors) if key in state), default=-1)
    old_names = {new: old for old, new in fitted.renamed}
    for place, key in enumerate([*fitted.tensors]):
        is_behind = place > last and key.partition(".")[0] not in parts
        if key not in state and (key.startswith(heads) or is_behind):
            del fitted.tensors[key]
            fitted.dropped.append(old_names.get(key, key))
    fitted.renamed = [(old, new) for old, new in fitted.renamed if new in fitted.tensors]


def _in_names_of_file(message: str, fitted: Fitted) -> str:
    """Returns the message with the names that tensors have in the file, where it names tensors of the file."""
    old_names = {new: old for old, new in fitted.renamed}
    lines = []
    for line in message.splitlines():
        key = (
            (line.split() or [""])[1].rstrip(":") if line.startswith("  ") and not line.startswith("  missing") else ""
        )
        lines.append(line.replace(key, old_names[key], 1) if key in old_names else line)
    return "\n".join(lines)


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
    checkpoint: Checkpoint,
    maps: list[KeyMap],
    match: Found,
    args: Mapping[str, Any],
    *,
    trunk: bool,
    changes: list[dict[str, Any]],
) -> list[Fitted]:
    """Returns the readings in order that fit a network of ``match``, one for each set of arguments of ``maps``.

    If none fits, those with ``changes`` of arguments.

    An ONNX file's tensors are in the order in which its graph uses them. A convolution with a bias and no normalization
    behind it, where the network has one, contains that normalization. Only the arguments, the input and the classes of
    ``maps`` count. Raises :class:`TensorMismatchError` if none fits.
    """
    graph, tensors = checkpoint.graph, checkpoint.tensors
    variants: list[tuple[list[Use], list[str]]] = [([Use(name, tensor) for name, tensor in tensors.items()], [])]
    if graph is not None:
        variants = [(onnx.uses(graph, tensors), [])]
        changed, folded = onnx.fold_biases(graph, tensors)
        if folded:
            variants.append((onnx.uses(graph, changed), folded))
    distinct: dict[str, KeyMap] = {}
    for key_map in maps:
        distinct.setdefault(str(key_map.args), key_map)
    fits: list[Fitted] = []
    problems: list[TensorMismatchError] = []
    attempts: list[tuple[KeyMap, dict[str, Any]]] = [(key_map, {}) for key_map in distinct.values()]
    attempts += [(key_map, change) for key_map in distinct.values() for change in changes]
    for key_map, change in attempts:
        if change and any(not fitted.changed for fitted in fits):
            break
        for uses, folded in variants:
            try:
                fitted = _match(
                    uses, key_map, match, args, trunk=trunk, graph=graph, is_stated=len(maps) == 1, changed=change
                )
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
    graph: Any,
    is_stated: bool,
    changed: Mapping[str, Any],
) -> Fitted:
    """Returns the reading with the arguments of ``declared``; its form of the input counts if the caller states the
    map.

    With a ``graph``, normalizations that the file has not are identities that add a bias.
    """
    uses = [use for use in uses if use.tensor.ndim]  # not counters
    matrices = [use.tensor for use in uses if use.tensor.ndim in (2, 4)]
    if not matrices:
        raise TensorMismatchError("The file has no convolution and no linear layer.")
    classes = 0 if trunk else len(matrices[-1])
    channels = matrices[0].shape[1] if matrices[0].ndim == 4 else match.model.preprocess.input_size[0]
    with loading.skip_init(), torch.device("meta"):
        sizes = {"num_classes": classes, "in_chans": channels}
        module, _ = loading.build(match.model, **sizes, **{**declared.args, **changed, **args})
    is_folded = graph is not None and all(node.op_type != "BatchNormalization" for node in graph.graph.node)
    state, names, folded = _pair(uses, module, is_folded=is_folded)
    matched = {name for name, _ in names}
    left = [use for use in uses if use.name not in matched]
    if left and not (trunk and (graph is not None or left == uses[-len(left) :])):
        raise TensorMismatchError(
            f"{len(left)} tensors of the file have no place in the network: "
            + ", ".join(f"{use.name} {(*use.tensor.shape,)}" for use in left[:5])
        )
    fields = ("input_order", "input_scale", "preprocess", "classes", "origin") if is_stated else ()
    key_map = KeyMap(
        f"{declared.name} in order", args=declared.args, **{field: getattr(declared, field) for field in fields}
    )
    fitted = read_by(key_map, state, match, args, "The file", trunk=trunk, changed=changed)
    if fitted.problem is not None:
        raise fitted.problem
    fitted.is_in_order = True
    fitted.renamed = [pair for pair in names if pair[0] != pair[1]]
    fitted.dropped = [use.name for use in left]
    fitted.folded += [f"by its author: {norm}, here an identity" for norm in folded]
    return fitted


def _pair(
    uses: list[Use], module: nn.Module, *, is_folded: bool
) -> tuple[dict[str, Tensor], list[tuple[str, str]], list[str]]:
    """Returns the state of ``module``, pairs of names there and here, and the normalizations that the file has not.

    ``is_folded`` if it has none at all. Raises :class:`TensorMismatchError`.
    """
    expected_state = module.state_dict()
    norms = _norms_behind(module)
    biases = {use.bias.name for use in uses if use.bias is not None}
    waiting: dict[tuple[int, ...], deque[Use]] = {}
    for use in uses:
        if use.name not in biases:
            waiting.setdefault(_form(use.tensor), deque()).append(use)
    state: dict[str, Tensor] = {}
    names: list[tuple[str, str]] = []
    folded: list[str] = []
    for key, expected in expected_state.items():
        if key in state or key.endswith("num_batches_tracked"):
            continue
        queue = waiting.get(_form(expected))
        if not queue:
            raise TensorMismatchError(
                f"The file has no tensor of the shape of {key} {(*expected.shape,)} left.",
                hint="If normalizations were folded into other layers, export the file without that: "
                "torch.onnx.export(..., training=TrainingMode.PRESERVE, do_constant_folding=False)."
                if key.endswith((".running_mean", ".running_var"))
                else "",
            )
        use = queue.popleft()
        state[key] = use.tensor
        names.append((use.name, key))
        layer = key.removesuffix(".weight")
        norm = norms.get(layer) if key.endswith(".weight") else None
        has_bias = f"{layer}.bias" in expected_state
        if norm is not None and not use.is_normalized and (is_folded or use.bias is not None):
            state |= identity(module.get_submodule(norm), norm, has_bias=has_bias)
            folded.append(norm)
        if use.bias is not None:
            target = f"{layer if has_bias else norm}.bias"
            if not has_bias and norm not in folded:
                raise TensorMismatchError(f"{use.name} has a bias in the file; {key} has none.")
            state[target] = use.bias.tensor
            names.append((use.bias.name, target))
    return state, names, folded


def _form(tensor: Tensor) -> tuple[int, ...]:
    """Returns the shape, a linear layer's as that of a convolution which is as large as its input."""
    kernel = tensor.shape[2:] if len({*tensor.shape[2:]}) > 1 else ()
    return (len(tensor), math.prod(tensor.shape[1:]), *kernel) if tensor.ndim > 1 else (*tensor.shape,)


def _norms_behind(module: nn.Module) -> dict[str, str]:
    """Returns the normalization that may act on the output of each convolution or linear layer, by their order."""
    norms: dict[str, str] = {}
    before, width = "", 0
    for name, submodule in module.named_modules():
        if isinstance(submodule, nn.Conv2d | nn.Linear):
            before, width = name, len(submodule.weight)
        elif isinstance(submodule, nn.BatchNorm2d) and submodule.affine and before and submodule.num_features == width:
            norms[before], before = name, ""
    return norms


def identity(norm: nn.Module, name: str, *, has_bias: bool) -> dict[str, Tensor]:
    """Returns the tensors of a normalization that adds the bias of a convolution and nothing else, without that bias.

    The bias is 0 if the layer before has one.
    """
    assert isinstance(norm, nn.BatchNorm2d)
    ones = torch.ones(norm.num_features)
    tensors = {
        f"{name}.weight": ones,
        f"{name}.running_mean": torch.zeros(norm.num_features),
        f"{name}.running_var": (ones.double() - norm.eps).float(),
    }
    return {**tensors, f"{name}.bias": torch.zeros(norm.num_features)} if has_bias else tensors

"""Matches tensors in order by shape, whatever they are called: the first of a shape here is the first there.

An order proves nothing. Such a reading is used only if the network then computes what an ONNX file does, or if it
scores on data.
"""

import math
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo import loading
from zoo.errors import MissingExtraError, PluginError, SpecError, TensorMismatchError, UnknownNameError
from zoo.registry import Found
from zoo.spec import KeyMap
from zoo_convert import fitting, onnx
from zoo_convert.fitting import Fitted
from zoo_convert.onnx import Use
from zoo_convert.readers import Checkpoint


def read(
    checkpoint: Checkpoint, maps: list[KeyMap], found: Found, args: Mapping[str, Any], *, trunk: bool
) -> list[Fitted]:
    """Returns the readings in order that fit a network of ``found``, one for each set of arguments of ``maps``.

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
    for known in maps:
        distinct.setdefault(str(known.args), known)
    fits: list[Fitted] = []
    problems: list[TensorMismatchError] = []
    for known in distinct.values():
        for uses, folded in variants:
            try:
                fitted = _match(uses, known, found, args, trunk=trunk, is_folded=is_folded, is_stated=len(maps) == 1)
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
    known: KeyMap,
    found: Found,
    args: Mapping[str, Any],
    *,
    trunk: bool,
    is_folded: bool,
    is_stated: bool,
) -> Fitted:
    """Returns the reading with the arguments of ``known``; its form of the input counts if the caller states the map.

    With ``is_folded``, the file has no normalizations, and the network's are identities that add a bias.
    """
    uses = [use for use in uses if use.tensor.ndim]  # not counters
    matrices = [use.tensor for use in uses if use.tensor.ndim in (2, 4)]
    if not matrices:
        raise TensorMismatchError("The file has no convolution and no linear layer.")
    classes = 0 if trunk else len(matrices[-1])
    channels = matrices[0].shape[1] if matrices[0].ndim == 4 else found.model.preprocess.input_size[0]
    with torch.device("meta"):
        module, _ = loading.build(found.model, num_classes=classes, in_chans=channels, **{**known.args, **args})
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
    key_map = KeyMap(f"{known.name} in order", args=known.args, **{field: getattr(known, field) for field in fields})
    fitted = fitting.read_by(key_map, {**state, **identities}, found, args, "The file", trunk=trunk)
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
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            before = part
        if not isinstance(part, nn.BatchNorm2d) or part.weight is None:
            continue
        ones = torch.ones(part.num_features)
        yield f"{name}.weight", ones
        yield f"{name}.running_mean", torch.zeros(part.num_features)
        yield f"{name}.running_var", (ones.double() - part.eps).float()
        if getattr(before, "bias", None) is not None:
            yield f"{name}.bias", torch.zeros(part.num_features)


__all__ = ["read"]

"""Arguments of a build function that change what a network computes, where its tensors may not show them.

Which these are is found out: networks with every other value that a weights file may set (``Model.file_args``), or that
a ``Literal`` or a ``bool`` of the build function allows, are built, and those whose tensors have the same names and
shapes are compared by what they compute. A model's name states the arguments in which alone it differs from another
model of its family.
"""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import combinations
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, Unpack, get_args, get_origin, get_type_hints

import msgspec
import torch

from zoo import loading, registry
from zoo.errors import ZooError
from zoo.registry import Found
from zoo.spec import Argument
from zoo_convert.fitting import Fitted


class Open(NamedTuple):
    """An argument that nobody stated.

    ``values`` are those to try; of a range of numbers, its ends. ``is_settable`` if a weights file may set each of
    them, so that one can be chosen.
    """

    name: str
    values: tuple[Any, ...]
    is_settable: bool


def open_arguments(match: Found, stated: Collection[str], *, named: bool = False) -> list[Open]:
    """Returns the arguments that a file of ``match`` may be for, without those that are ``stated``.

    With ``named``, also those that the model's name states.
    """
    model = match.model
    skipped = {*stated} | (set() if named else _told_by_name(match))
    arguments = [
        Open(name, argument.choices or _ends(argument), bool(argument.choices))
        for name, argument in model.file_args.items()
        if name not in skipped
    ]
    build = registry.hook(model.build, model.requires)
    arguments += [
        Open(name, values, False)
        for name, values in _choices_of(build)
        if name not in {*model.file_args, *model.args, *skipped}
    ]
    return [argument for argument in arguments if argument.values]


def _ends(argument: Argument) -> tuple[Any, ...]:
    return tuple(value for value in (argument.least, argument.most) if value is not None)


_ABSENT = object()


def _told_by_name(match: Found) -> set[str]:
    """Returns the arguments in which alone two models of the family differ."""
    rows = [model for model in match.plugin.models if model.build == match.model.build]
    told: set[str] = set()
    for left, right in combinations(rows, 2):
        keys = {*left.args, *right.args}
        different = {key for key in keys if left.args.get(key, _ABSENT) != right.args.get(key, _ABSENT)}
        if len(different) == 1:
            told |= different
    return told


def _choices_of(build: Callable[..., Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yields the arguments of ``build`` that are a ``Literal`` or a ``bool``, with their values."""
    function = vars(build).get("__init__", build) if isinstance(build, type) else build
    try:
        hints = get_type_hints(function)
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError, NameError):  # of what has no signature, or names that do not exist
        return
    for parameter in parameters:
        hint = hints.get(parameter.name)
        if parameter.kind is not parameter.VAR_KEYWORD:
            yield parameter.name, _values(hint)
        elif get_origin(hint) is Unpack:
            for name, inner in get_type_hints(get_args(hint)[0]).items():
                yield name, _values(inner)


def _values(hint: Any) -> tuple[Any, ...]:
    if hint is bool:
        return (True, False)
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        values = [_values(part) for part in get_args(hint) if part is not type(None)]
        return (None, *sum(values, ())) if all(values) else ()
    return ()


def changed(fitted: Fitted, match: Found, values: Mapping[str, Any]) -> Fitted | None:
    """Returns the same tensors as those of a network with other arguments; None if they are not, or there is none."""
    args = {**fitted.args, **values}
    sizes = {"num_classes": fitted.num_classes, "in_chans": fitted.in_chans}
    try:
        with loading.skip_init(), torch.device("meta"):
            module, _ = loading.build(match.model, **sizes, **args)
        loading.check(module, fitted.tensors, "")
    except ZooError:
        return None
    return msgspec.structs.replace(
        fitted, args=args, changed={**fitted.changed, **values}, problem=None, proof=None, folded=[*fitted.folded]
    )

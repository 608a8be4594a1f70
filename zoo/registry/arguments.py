"""The arguments of build functions, and which of them a weights file may set."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, Unpack, get_args, get_origin

import msgspec

from zoo.errors import UnknownNameError, WeightsError
from zoo.spec import Argument, Model

SETTINGS: Mapping[str, Argument] = {
    "global_pool": Argument(("avg", "max", "")),
    "drop_rate": Argument(least=0.0, most=1.0),
}
"""What a network may let be set after it is built, by ``set_global_pool`` and the like.

An argument of the build function with that name comes first.
"""

SAFE: Mapping[str, Argument] = {
    **SETTINGS,
    "drop_path_rate": Argument(least=0.0, most=1.0),
    "output_stride": Argument((1, 2, 4, 8, 16, 32)),
}
"""What any weights file may set, if the model has it."""


def settings(build: Callable[..., Any], args: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``args`` that ``build`` does not have and the network may have (``SETTINGS``)."""
    known = names_of(build)
    return {} if known is None else {key: args[key] for key in SETTINGS if key in args and key not in known}


def of_file(
    model: Model, args: Mapping[str, Any], source: object, *, overridden: Collection[str] = ()
) -> dict[str, Any]:
    """The valid build arguments in ``args`` of a file, except those that the caller has ``overridden``.

    A file may come from anyone, so it may only repeat the row's arguments and set those in ``file_args``. ``source`` is
    its name in errors. Raises :class:`WeightsError` for any other argument or value.
    """
    taken = {key: value for key, value in args.items() if key not in overridden}
    for key in undeclared(model, taken):
        allowed = f"{key} may be {model.file_args[key]}" if key in model.file_args else _names(model)
        raise WeightsError(
            f"{source} sets {key} = {taken[key]!r}, which weights files of {model.name} are not allowed to set.",
            hint=f"{allowed}. If you trust the file, set it yourself: --arg {key}=VALUE ({key}=VALUE). "
            "The plugin's author can allow it in Model.file_args.",
        )
    return taken


def undeclared(model: Model, args: Mapping[str, Any]) -> list[str]:
    """The names of those ``args`` that a weights file of ``model`` may not set."""
    allowed = {**SAFE, **model.file_args}
    return [
        key
        for key, value in args.items()
        if not (key in model.args and _as_json(value) == _as_json(model.args[key]))
        and not (key in allowed and allowed[key].takes(value))
    ]


def check_names(model: Model, build: Callable[..., Any], args: Collection[str]) -> None:
    """Raises :class:`UnknownNameError` with the nearest for one of ``args`` that ``build`` does not have."""
    known = names_of(build)
    for name in args:
        if known is not None and name not in known:
            raise unknown(model, name, known)


def unknown(model: Model, name: str, known: list[str]) -> UnknownNameError:
    """The error for an argument ``name`` that ``model`` does not have, with those that it has."""
    near = UnknownNameError.of("argument", name, known).hint
    every = f"Arguments: {', '.join(known)}."
    return UnknownNameError(f"{model.name} has no argument {name!r}.", hint=f"{near} {every}" if near else every)


def names_of(build: Callable[..., Any]) -> list[str] | None:
    """The arguments of ``build``, with those of ``**options: Unpack[TypedDict]``; None if it accepts any."""
    names: list[str] = []
    try:
        parameters = inspect.signature(build).parameters.values()
    except (TypeError, ValueError):  # of a callable without a signature
        return None
    for parameter in parameters:
        if parameter.kind is not parameter.VAR_KEYWORD:
            names.append(parameter.name)
        elif get_origin(parameter.annotation) is Unpack:
            names += get_args(parameter.annotation)[0].__annotations__
        else:
            return None
    return names


def _as_json(value: Any) -> bytes:
    """Converts tuples to lists, as in a file."""
    return msgspec.json.encode(value, order="deterministic", enc_hook=repr)


def _names(model: Model) -> str:
    return f"A file may set {', '.join(model.file_args)}" if model.file_args else "A file cannot set any argument"

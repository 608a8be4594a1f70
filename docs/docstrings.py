"""How the site reads docstrings: as PyTorch writes them, with ``:class:`Run``` for links and one ``Example:``."""

import inspect
import re
from importlib import import_module
from typing import Any

import griffe
import msgspec

_ROLE = re.compile(r":\w+:`~?([\w.]+)`")


class Docstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed, and gives msgspec's structs the constructor that msgspec hides."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        _rewrite(pkg)


def _rewrite(obj: griffe.Object) -> None:
    if obj.docstring is not None:
        text = _ROLE.sub(lambda found: f"`{found[1]}`", obj.docstring.value)
        obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", text, flags=re.MULTILINE)
    if isinstance(obj, griffe.Class) and "__init__" not in obj.members:
        _construct(obj)
    for member in obj.members.values():
        if isinstance(member, griffe.Object):  # not an alias, whose target has its own turn
            _rewrite(member)


def _construct(obj: griffe.Class) -> None:
    """Adds a constructor with the types and defaults of the fields of a struct."""
    value = getattr(import_module(obj.module.path), obj.name, None)
    if not (inspect.isclass(value) and issubclass(value, msgspec.Struct)):
        return
    try:
        fields = inspect.signature(value).parameters
    except NameError:  # a type that only type checkers import: no public struct has one
        return
    parameters = griffe.Parameters(griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword))
    for name, parameter in fields.items():
        kind = griffe.ParameterKind[parameter.kind.name.lower()]
        default = None if parameter.default is parameter.empty else _words(parameter.default)
        parameters.add(griffe.Parameter(name, kind=kind, annotation=_type(parameter.annotation), default=default))
    obj.set_member("__init__", griffe.Function("__init__", parameters=parameters, parent=obj))


def _type(annotation: Any) -> str:
    """Returns ``annotation`` as a user writes it, without the modules of names."""
    text = (
        annotation.__name__ if inspect.isclass(annotation) and not hasattr(annotation, "__args__") else str(annotation)
    )
    text = re.sub(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])", "", text)
    return re.sub(r"Annotated\[([\w\[\], ]+), Meta\(([^()]*)\)\]", _bounded, text)


def _bounded(annotated: re.Match[str]) -> str:
    """Returns a number's type with its bounds: ``int >= 1``."""
    bounds = annotated[2]
    for name, sign in (("ge=", ">= "), ("gt=", "> "), ("le=", "<= "), ("lt=", "< ")):
        bounds = bounds.replace(name, sign)
    return f"{annotated[1]} {bounds}"


def _words(default: Any) -> str:
    """Returns ``default`` as a user writes it; of a long one, its type."""
    text = repr(default)
    if text == "<factory>":
        return "..."
    return text if len(text) <= 40 else f"{type(default).__name__}(...)"

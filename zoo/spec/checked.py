"""Base class of what a plugin author writes: values are checked on construction."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, get_args

import msgspec
from msgspec.structs import force_setattr

from zoo.errors import SpecError

_fields_of = cache(msgspec.structs.fields)
"""Rows are many of few kinds, and working out a kind's annotations costs more than the checks."""

_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


_is_trusted = ContextVar("is_trusted", default=False)


@contextmanager
def trusted() -> Iterator[None]:
    """Makes a context in which values are not checked again: for those that were checked before they were stored."""
    token = _is_trusted.set(True)
    try:
        yield
    finally:
        _is_trusted.reset(token)


def is_trusted() -> bool:
    """Returns whether the values that are made now were checked before."""
    return _is_trusted.get()


def is_address(target: str) -> bool:
    """Returns whether ``target`` has the form of a hook, ``"package.module:function"``."""
    return _TARGET.fullmatch(target) is not None


class Spec(msgspec.Struct, frozen=True):
    """Checks its fields on construction: their types, then what a subclass asks in ``_check``."""

    def __post_init__(self) -> None:
        if is_trusted():  # there are many
            return
        for field in _fields_of(type(self)):
            value = getattr(self, field.name)
            try:
                converted = msgspec.convert(value, field.type, strict=True)
            except msgspec.ValidationError as error:
                message = str(error).replace("`object`", f"`{_kind(field.type)}`")
                raise SpecError(
                    f"{self._label()}: {field.name} = {_short(value)}: {message}", hint=_as_hook(value)
                ) from None
            if type(converted) is not type(value):  # a table given for a row, a list for a tuple
                force_setattr(self, field.name, converted)
        self._check()

    def _check(self) -> None:
        """Raises :class:`SpecError` for fields of the right types that are wrong."""

    def require(self, claim: bool, message: str) -> None:
        if not claim:
            raise SpecError(f"{self._label()}: {message}")

    def require_hooks(self, *fields: str) -> None:
        """Raises :class:`SpecError` for a hook that is not an address; those whose default is empty may be empty."""
        empty = {field.name for field in _fields_of(type(self)) if field.default == ""}
        for field in fields:
            target = getattr(self, field)
            is_right = is_address(target) or (not target and field in empty)
            self.require(is_right, f"{field}: hook {target!r} must have the form 'package.module:function'")

    def _label(self) -> str:
        name = getattr(self, "name", None)
        return type(self).__name__ + (f" {name!r}" if isinstance(name, str) else "")


def _kind(annotation: Any) -> str:
    """Returns what a field holds, for msgspec calls every struct an object."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, Spec):
            return kind.__name__
    return "object"


def _as_hook(value: object) -> str:
    """Returns the advice if a function or class is given for a hook; empty for other values."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not callable(value) or not module or not name:
        return ""
    return f'Name it by a string, "{module}:{name}"; or write @zoo.model above it, which registers it.'


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."

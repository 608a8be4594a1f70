"""What the core passes to each kind of hook, and the check that a hook takes it."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from zoo.errors import PluginError


class Role(NamedTuple):
    """A kind of hook, by the field of the row that names it: the arguments that it gets.

    Args:
        field: The field.
        positional: Arguments that are passed by position. A hook may call them by other names.
        keywords: Arguments that are passed by name.
    """

    field: str
    positional: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()

    def check(self, hook: Callable[..., Any], target: str, of: str = "", more: Iterable[str] = ()) -> None:
        """Raises :class:`PluginError` unless ``hook`` can be called with the arguments of this role.

        ``target`` is its address and ``of`` the name of the row, for the message; ``more`` are arguments that are
        passed by name as well.
        """
        try:
            parameters = inspect.signature(hook).parameters.values()
        except (TypeError, ValueError):  # of some that are not written in Python
            return
        lacking = ", ".join(map(repr, self._not_taken(parameters)))
        problems = [f"takes no argument {lacking}"] if lacking else []
        passed = {*self.keywords, *more}
        by_position = [part for part in parameters if part.kind in _BY_POSITION and part.name not in passed]
        for part in [*by_position[len(self.positional) :], *(part for part in parameters if part.kind is _BY_NAME)]:
            if part.default is part.empty and part.name not in passed:
                problems.append(f"needs an argument {part.name!r}, which is not passed")
        if problems:
            who = f"{target} of {of}" if of else target
            raise PluginError(f"{who} {' and '.join(problems)}: expected ({self}).")

    def _not_taken(self, parameters: Iterable[inspect.Parameter]) -> list[str]:
        kinds = {part.kind for part in parameters}
        by_position = [part.name for part in parameters if part.kind in _BY_POSITION]
        named = {part.name for part in parameters if part.kind in (part.POSITIONAL_OR_KEYWORD, _BY_NAME)}
        count = len(self.positional)
        lacking = [] if inspect.Parameter.VAR_POSITIONAL in kinds else list(self.positional[len(by_position) :])
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            free = named - set(by_position[:count])
            lacking += [name for name in self.keywords if name not in free]
        return lacking

    def __str__(self) -> str:
        return ", ".join([*self.positional, *(["*", *self.keywords] if self.keywords else [])])


_BY_NAME = inspect.Parameter.KEYWORD_ONLY
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

BUILD = Role("build", keywords=("num_classes", "in_chans"))
TRANSLATE = Role("translate", ("tensors", "module"))
TRAIN = Role("train", ("model", "data", "recipe", "run"), ("preprocess", "device"))
EVALUATE = Role("evaluate", ("model", "data"), ("preprocess",))
COLLECTION = Role("collection")
REPOSITORIES = Role("repositories", ("config",))
LOAD = Role("load", ("root", "split"))
ATTACK = Role("run", ("model", "images", "labels", "epsilon"), ("method", "is_targeted"))
LOOK = Role("run", ("network",), ("image", "layer"))
EXPORT = Role("run", ("network",))
READ = Role("run", ("address", "split"))
CONVERT = Role("converters", ("file", "found"))
OPEN = Role("openers", ("file",))

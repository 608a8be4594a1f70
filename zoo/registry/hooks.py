"""The functions and files that a plugin names: hooks ``"package.module:function"``, resources ``"package:path"``.

What the core passes to each kind of hook, the check that a hook takes it, and which arguments of a build function a
weights file may set.
"""

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Unpack, get_args, get_origin

import msgspec

from zoo.errors import ManifestError, MissingExtraError, PluginError, UnknownNameError, WeightsError, ZooError
from zoo.spec import Argument, Model, Requirement


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


def require(model: Model) -> None:
    """Checks that what a model's hooks import is installed.

    Args:
        model: The model.

    Raises:
        MissingExtraError: A library is missing; the hint says how to install it.

    Example:
        >>> import zoo
        >>> zoo.registry.require(zoo.registry.current().find("resnet20").model)
    """
    for requirement in model.requires:
        if not is_installed(requirement):
            raise MissingExtraError.of(model.name, requirement.module, requirement.install)


def is_installed(requirement: Requirement) -> bool:
    """Returns whether what a hook needs can be imported; nothing is."""
    return importlib.util.find_spec(requirement.module.partition(".")[0]) is not None


def hook(
    target: str,
    requires: tuple[Requirement, ...] = (),
    *,
    role: Role | None = None,
    of: str = "",
    more: Iterable[str] = (),
) -> Callable[..., Any]:
    """Imports a hook.

    Args:
        target: ``"package.module:function"``.
        requires: What the hook's module imports.
        role: What kind of hook it is. By default its arguments are not checked.
        of: The name of the row, for messages.
        more: Arguments that are passed by name in addition to those of the role.

    Returns:
        The function.

    Raises:
        MissingExtraError: A requirement is missing; the hint says how to install it.
        PluginError: There is no such module or function, or it does not take the arguments of its role.

    Example:
        >>> import zoo
        >>> zoo.registry.hook("zoo.data:load") is zoo.data.load
        True
    """
    for requirement in requires:
        if not is_installed(requirement):
            raise MissingExtraError.of(target, requirement.module, requirement.install)
    module, _, function = target.partition(":")
    try:
        value: Callable[..., Any] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise PluginError(f"Hook {target!r} cannot be imported: {error}") from error
    if role is not None:
        role.check(value, target, of, more)
    return value


@contextmanager
def blaming(target: str, name: str) -> Iterator[None]:
    """Makes a context in which what the hook ``target`` raises becomes a PluginError that names it and what it was
    called for."""
    try:
        yield
    except ZooError:
        raise
    except Exception as error:  # a plugin's code may raise anything
        raise PluginError(
            f"{target} failed for {name}: {type(error).__name__}: {error}", hint="zoo --debug ... shows the traceback."
        ) from error


def resource(address: str) -> Path:
    """Returns the file that ``"package:path"`` names. Finding it imports no package.

    Args:
        address: The package and the path within it.

    Returns:
        The file, which may not exist.

    Raises:
        ManifestError: There is no such package.

    Example:
        >>> import zoo
        >>> zoo.registry.resource("weights_manifest:resnet.toml").name
        'resnet.toml'
    """
    package, _, path = address.partition(":")
    top, *below = package.split(".")  # looking for a package within a package would import the outer one
    try:
        spec = importlib.util.find_spec(top)
    except (ModuleNotFoundError, ValueError):  # of no name at all
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ManifestError(f"{address}: there is no package {package!r}")
    return Path(next(iter(spec.submodule_search_locations)), *below, path)


# ---- the arguments of build functions --------------------------------------------------------------

SETTINGS: Mapping[str, Argument] = {
    "global_pool": Argument(("avg", "max", "")),
    "drop_rate": Argument(least=0.0, most=1.0),
}
"""Arguments that a network may let be set after it is built, by ``set_global_pool`` and the like.

An argument of the build function with that name comes first.
"""

SAFE: Mapping[str, Argument] = {
    **SETTINGS,
    "drop_path_rate": Argument(least=0.0, most=1.0),
    "output_stride": Argument((1, 2, 4, 8, 16, 32)),
}
"""Arguments that any weights file may set, if the model has it."""


def settings_in(build: Callable[..., Any], args: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of ``args`` that ``build`` does not have and the network may have (``SETTINGS``)."""
    known = args_of(build)
    return {} if known is None else {key: args[key] for key in SETTINGS if key in args and key not in known}


def args_of_file(
    model: Model, args: Mapping[str, Any], source: object, *, overridden: Collection[str] = ()
) -> dict[str, Any]:
    """Returns the valid build arguments in ``args`` of a file, except those that the caller has ``overridden``.

    A file may come from anyone, so it may only repeat the row's arguments and set those in ``file_args``. ``source`` is
    its name in errors. Raises :class:`WeightsError` for any other argument or value.
    """
    used = {key: value for key, value in args.items() if key not in overridden}
    for key in undeclared_args(model, used):
        allowed = f"{key} may be {model.file_args[key]}" if key in model.file_args else _settable(model)
        raise WeightsError(
            f"{source} sets {key} = {used[key]!r}, which weights files of {model.name} are not allowed to set.",
            hint=f"{allowed}. If you trust the file, set it yourself: --arg {key}=VALUE ({key}=VALUE). "
            "The plugin's author can allow it in Model.file_args.",
        )
    return used


def undeclared_args(model: Model, args: Mapping[str, Any]) -> list[str]:
    """Returns the names of those ``args`` that a weights file of ``model`` may not set."""
    allowed = {**SAFE, **model.file_args}
    return [
        key
        for key, value in args.items()
        if not (key in model.args and _as_json(value) == _as_json(model.args[key]))
        and not (key in allowed and allowed[key].takes(value))
    ]


def check_args(model: Model, build: Callable[..., Any], args: Collection[str]) -> None:
    """Raises :class:`UnknownNameError` with the nearest for one of ``args`` that ``build`` does not have."""
    known = args_of(build)
    for name in args:
        if known is not None and name not in known:
            raise unknown_arg(model, name, known)


def unknown_arg(model: Model, name: str, known: list[str]) -> UnknownNameError:
    """Returns the error for an argument ``name`` that ``model`` does not have, with those that it has."""
    near = UnknownNameError.of("argument", name, known).hint
    every = f"Arguments: {', '.join(known)}."
    if not near and name in _OF_TIMM and not model.name.startswith("timm/"):
        near = f"timm's networks may have it: zoo.create('timm/NAME', {name}=...)."
    return UnknownNameError(f"{model.name} has no argument {name!r}.", hint=f"{near} {every}" if near else every)


_OF_TIMM = {"act_layer", "block_args", "exportable", "img_size", "no_jit", "norm_layer", "patch_size", "scriptable"}
"""Arguments of timm's networks alone."""


def args_of(build: Callable[..., Any]) -> list[str] | None:
    """Returns the arguments of ``build``, with those of ``**options: Unpack[TypedDict]``; None if it accepts any."""
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


def _settable(model: Model) -> str:
    return f"A file may set {', '.join(model.file_args)}" if model.file_args else "A file cannot set any argument"

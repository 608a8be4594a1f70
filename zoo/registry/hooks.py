"""The functions and files that a plugin names: hooks ``"package.module:function"``, resources ``"package:path"``."""

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zoo.errors import ManifestError, MissingExtraError, PluginError, ZooError
from zoo.registry.roles import Role
from zoo.spec import Model, Requirement


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
    """Whether what a hook needs can be imported; nothing is."""
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
        found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise PluginError(f"Hook {target!r} cannot be imported: {error}") from error
    if role is not None:
        role.check(found, target, of, more)
    return found


@contextmanager
def blaming(target: str, name: str) -> Iterator[None]:
    """Within it, what the hook ``target`` raises becomes a PluginError that names it and what it was called for."""
    try:
        yield
    except ZooError:
        raise
    except Exception as error:  # a plugin's code may raise anything
        raise PluginError(
            f"{target} failed for {name}: {type(error).__name__}: {error}", hint="zoo --debug ... shows the traceback."
        ) from error


def resource(address: str) -> Path:
    """The file that ``"package:path"`` names. Finding it imports no package.

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

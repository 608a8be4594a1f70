"""The functions and files that a plugin names: hooks ``"package.module:function"``, resources ``"package:path"``."""

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo.errors import ManifestError, MissingExtraError, PluginError
from zoo.spec import Requirement


def hook(target: str, requires: tuple[Requirement, ...] = ()) -> Callable[..., Any]:
    """Imports a hook.

    Args:
        target: ``"package.module:function"``.
        requires: What the hook's module imports.

    Returns:
        The function.

    Raises:
        MissingExtraError: A requirement is missing; the hint says how to install it.
        PluginError: There is no such module or function.

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
    return found


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
    try:
        spec = importlib.util.find_spec(package)
    except (ModuleNotFoundError, ValueError):  # of a package within a package, or of no name at all
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ManifestError(f"{address}: there is no package {package!r}")
    return Path(next(iter(spec.submodule_search_locations)), path)


def is_installed(requirement: Requirement) -> bool:
    """Whether what a hook needs can be imported; nothing is."""
    return importlib.util.find_spec(requirement.module.partition(".")[0]) is not None

"""The registry of this process: what is installed, and what this process registers as well."""

import gc
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import msgspec

from zoo import manifest
from zoo.errors import ManifestError, PluginError, UnknownNameError
from zoo.registry import discovery
from zoo.registry.plugin_row import PluginRow
from zoo.registry.registry import Described, Registry
from zoo.spec import API, Plugin

_registered: dict[str, Plugin] = {}


@cache
def current() -> Registry:
    """The registry of this process: the plugins that are installed and those that were registered. It is read once.

    Returns:
        The registry.

    Raises:
        PluginError: A plugin called this while it was imported, or the list of disabled plugins cannot be read.

    Example:
        >>> import zoo
        >>> zoo.registry.current().find("resnet20.digits").row.name
        'resnet'
    """
    if discovery.UNDER_WAY in os.environ:  # it would import itself
        raise PluginError("A plugin asked for the installed plugins while it was imported.", hint="Ask in its hooks.")
    with _uncollected():
        rows = [*discovery.discover(), *map(PluginRow.of_value, _registered.values())]
        return Registry(rows, _local_weights())


def clear() -> None:
    """Forgets what is installed, so that :func:`current` looks again. Registered plugins stay.

    Example:
        >>> import zoo
        >>> zoo.registry.clear()
    """
    current.cache_clear()


def register(plugin: Plugin) -> ExitStack:
    """Adds a plugin to this process, as if a distribution with it were installed.

    For notebooks and tests. The names of models follow the rules for installed plugins: a built-in family keeps
    its short names, and a model of the same name is reached as ``plugin/model``. Hooks are strings; functions of
    a notebook or a script are ``"__main__:function"``, those of any module ``f"{__name__}:function"``.

    Args:
        plugin: The plugin. Its name must not be that of an installed or registered one.

    Returns:
        A context manager that unregisters the plugin on exit. Without ``with``, the plugin stays until the process
        ends, :func:`zoo.registry.unregister` is called, or ``close()`` of the returned value is.

    Raises:
        PluginError: The name is taken, ``plugin`` is not a :class:`zoo.Plugin`, or it needs a newer Zoo.

    Example:
        >>> import zoo
        >>> mine = zoo.Plugin("mine", api=1, models=(zoo.Model("my_net", build="__main__:build"),))
        >>> with zoo.register(mine):
        ...     zoo.list_models("my_*")
        ['my_net']
        >>> zoo.list_models("my_*")
        []
    """
    if not isinstance(plugin, Plugin):
        raise PluginError(f"Got a {type(plugin).__name__}, expected a zoo.Plugin.")
    if plugin.api > API:
        raise PluginError(f"Plugin {plugin.name!r} needs plugin contract {plugin.api}, this Zoo has {API}.")
    if rivals := [row for row in current().plugins if row.name == plugin.name]:
        is_own = plugin.name in _registered
        raise PluginError(
            f"There is already a plugin {plugin.name!r}, from {'this process' if is_own else rivals[0].distribution}.",
            hint=f"zoo.registry.unregister({plugin.name!r}) removes it." if is_own else "Choose another name.",
        )
    _registered[plugin.name] = plugin
    clear()
    undo = ExitStack()
    undo.callback(_registered.pop, plugin.name, None)
    undo.callback(clear)
    return undo


def unregister(name: str) -> None:
    """Removes a plugin that :func:`zoo.register` added.

    Args:
        name: The plugin's name.

    Raises:
        UnknownNameError: This process registered no plugin of that name.

    Example:
        >>> import zoo
        >>> _ = zoo.register(zoo.Plugin("mine", api=1))
        >>> zoo.registry.unregister("mine")
    """
    if name not in _registered:
        raise UnknownNameError.of("registered plugin", name, _registered)
    del _registered[name]
    clear()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without garbage collection: what is made here stays, and looking through it takes longer than making it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _local_weights() -> dict[str, tuple[Described, ...]]:
    """Weights that a directory named by ``ZOO_HUB`` describes in a ``manifest.toml`` of its own.

    Their files are in that directory, or else at the entry's hub. They add names and never replace any:
    a mirror is not trusted to say what a known name means. Of two directories the first decides.
    """
    found: dict[str, dict[str, Described]] = {}
    for address in filter(None, map(str.strip, os.environ.get("ZOO_HUB", "").split(","))):
        folder = Path(os.path.expanduser(address))
        file = folder / "manifest.toml"
        if "://" not in address and file.is_file():
            try:
                entries = manifest.read(file)
            except ManifestError as error:  # as of a plugin: it must not take the others along
                _warn("%s is skipped: %s", address, error)
                continue
            for entry in entries:
                if (entry.hub == "hf" and not entry.revision) or (folder / entry.path).is_file():
                    entry = msgspec.structs.replace(entry, hub=address)
                first = found.setdefault(entry.arch, {}).setdefault(entry.tag, Described(address, entry))
                if (first.weights.sha256, first.weights.size) != (entry.sha256, entry.size):
                    _warn("%s: %s is ignored, %s defines other bytes first", address, entry.name, first.folder)
    return {arch: tuple(tags.values()) for arch, tags in found.items()}


def _warn(message: str, *about: object) -> None:
    import logging

    logging.getLogger("zoo").warning(message, *about)

"""The registry of this process: what is installed and registered, ``@zoo.model``, and what ``ZOO_HUB`` describes."""

import inspect
import logging
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, overload

from msgspec.structs import replace

from zoo import manifest
from zoo.errors import ManifestError, PluginError, SpecError, UnknownNameError
from zoo.registry import discovery
from zoo.registry.hooks import args_of
from zoo.registry.plugin_row import PluginRow
from zoo.registry.registry import Described, Registry
from zoo.spec import API, Model, Plugin, Preprocess
from zoo.system import garbage

PLUGIN = "here"
"""The plugin with the models of this process."""

Builder = TypeVar("Builder", bound=Callable[..., Any])

_builds: dict[str, Callable[..., Any]] = {}
"""The build hooks, which are addressed as ``zoo.registry.session:build_NAME``."""

_registered: dict[str, Plugin] = {}
_lock = threading.RLock()
_is_reading = False
log = logging.getLogger("zoo")


def __getattr__(name: str) -> Callable[..., Any]:
    try:
        return _builds[name.removeprefix("build_")]
    except KeyError:
        raise AttributeError(f"@zoo.model has registered no {name!r} in this process") from None


@cache
def current() -> Registry:
    """Returns the registry of this process: the plugins that are installed and those that were registered. It is read
    once.

    Returns:
        The registry.

    Raises:
        PluginError: A plugin called this while it was imported, or the list of disabled plugins cannot be read.

    Example:
        >>> import zoo
        >>> zoo.registry.current().find("resnet20.digits").row.name
        'resnet'
    """
    global _is_reading
    with _lock:
        if _is_reading:  # in this thread: it would import itself
            raise PluginError(
                "A plugin asked for the installed plugins while it was imported.", hint="Ask in its hooks."
            )
        _is_reading = True
        try:
            with garbage.paused():
                rows = [*discovery.discover(), *map(PluginRow.of_value, _registered.values())]
                return Registry(rows, _local_weights())
        finally:
            _is_reading = False


def clear() -> None:
    """Forgets what is installed, so that :func:`current` looks again. Registered plugins stay.

    Example:
        >>> import zoo
        >>> zoo.registry.clear()
    """
    current.cache_clear()


def register(plugin: Plugin) -> ExitStack:
    """Adds a plugin to this process, as if a distribution with it were installed.

    For notebooks and tests; for a network alone, :func:`zoo.model` is shorter. The names of models follow the rules
    for installed plugins: a built-in family keeps its short names, and a model of the same name is reached as
    ``plugin/model``. Hooks are strings; functions of a notebook or a script are ``"__main__:function"``, those of any
    module ``f"{__name__}:function"``.

    Args:
        plugin: The plugin. Its name must not be that of an installed or registered one.

    Returns:
        A context manager that unregisters the plugin on exit. Without ``with``, the plugin stays until the process
        ends, :func:`zoo.registry.unregister` is called, or ``close()`` of the returned value is.

    Raises:
        PluginError: The name is taken, ``plugin`` is not a :class:`zoo.Plugin`, or it needs a newer Zoo.

    Example:
        >>> import zoo
        >>> mine = zoo.Plugin("mine", api=2, models=(zoo.Model("my_net", build="__main__:build"),))
        >>> with zoo.register(mine):
        ...     zoo.list_models("my_*")
        ['my_net']
        >>> zoo.list_models("my_*")
        []
    """
    if not isinstance(plugin, Plugin):
        raise PluginError(
            f"Got a {type(plugin).__name__}, expected a zoo.Plugin.",
            hint="@zoo.model above a class or a function registers that alone.",
        )
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
        >>> _ = zoo.register(zoo.Plugin("mine", api=2))
        >>> zoo.registry.unregister("mine")
    """
    if name not in _registered:
        raise UnknownNameError.of("registered plugin", name, _registered)
    del _registered[name]
    clear()


def _local_weights() -> dict[str, tuple[Described, ...]]:
    """Weights that a directory named by ``ZOO_HUB`` describes in a ``manifest.toml`` of its own.

    Their files are in that directory, or else at the entry's hub. They add names and never replace any:
    a mirror is not trusted to say what a known name means. Of two directories the first decides.
    """
    by_arch: dict[str, dict[str, Described]] = {}
    for address in filter(None, map(str.strip, os.environ.get("ZOO_HUB", "").split(","))):
        folder = Path(os.path.expanduser(address))
        file = folder / "manifest.toml"
        if "://" not in address and file.is_file():
            try:
                entries = manifest.read(file)
            except ManifestError as error:  # as of a plugin: it must not take the others along
                log.warning("%s is skipped: %s", address, error)
                continue
            for entry in entries:
                if (entry.hub == "hf" and not entry.revision) or (folder / entry.path).is_file():
                    entry = replace(entry, hub=address)
                elif entry.is_relative:
                    entry = replace(entry, hub=str(folder / entry.hub))
                first = by_arch.setdefault(entry.arch, {}).setdefault(entry.tag, Described(address, entry))
                if (first.weights.sha256, first.weights.size) != (entry.sha256, entry.size):
                    log.warning("%s: %s is ignored, %s defines other bytes first", address, entry.name, first.folder)
    return {arch: tuple(tags.values()) for arch, tags in by_arch.items()}


@overload
def model(name: Builder) -> Builder: ...
@overload
def model(
    name: str = "", *, input_size: tuple[int, int, int] | None = None, num_classes: int | None = None, **fields: Any
) -> Callable[[Builder], Builder]: ...
def model(
    name: Any = "", *, input_size: tuple[int, int, int] | None = None, num_classes: int | None = None, **fields: Any
) -> Any:
    """Registers the class or the function below it as a model of this process, as timm's ``register_model`` does.

    For notebooks and scripts: ``@zoo.model`` or ``@zoo.model("my_net", input_size=(1, 28, 28), num_classes=10)``. The
    class or function returns a torch module. It gets ``num_classes`` and ``in_chans`` if it has these arguments;
    without them the network takes the declared numbers alone. A second registration of a name replaces the first, as
    when a cell is run again. Without recipes, the model is trained with AdamW and a cosine schedule (``zoo recipes``).

    Args:
        name: The model's name. By default that of the class or function, in lower case.
        input_size: The input, channels x height x width. By default 224 x 224 pixels, in as many channels as
            ``in_chans`` has by default, or 3.
        num_classes: The number of classes. By default what ``num_classes`` has by default, or 1000.
        fields: Other fields of :class:`zoo.Model`, such as ``head`` or ``preprocess``.

    Returns:
        The class or function, unchanged.

    Raises:
        PluginError: A plugin has a model of this name.
        SpecError: A value is not valid.

    Example:
        >>> import zoo
        >>> from torch import nn
        >>> @zoo.model("my_linear", input_size=(1, 8, 8))
        ... def linear(num_classes=10, in_chans=1):
        ...     return nn.Sequential(nn.Flatten(), nn.Linear(64 * in_chans, num_classes))
        >>> zoo.create("my_linear", num_classes=3)[1].out_features
        3
        >>> zoo.registry.unregister("here")
    """
    if callable(name):
        return _add(name, name.__name__.lower(), input_size, num_classes, fields)
    return lambda builder: _add(builder, name or builder.__name__.lower(), input_size, num_classes, fields)


def _add(
    builder: Builder,
    name: str,
    input_size: tuple[int, int, int] | None,
    num_classes: int | None,
    fields: dict[str, Any],
) -> Builder:
    """Puts ``builder`` as the model ``name`` into the plugin of this process."""
    defaults = {key: part.default for key, part in inspect.signature(builder).parameters.items()}
    if num_classes is None:
        num_classes = defaults["num_classes"] if isinstance(defaults.get("num_classes"), int) else 1000
    if "preprocess" not in fields:
        channels = defaults["in_chans"] if isinstance(defaults.get("in_chans"), int) else 3
        size = input_size or (channels, 224, 224)
        fields["preprocess"] = Preprocess(input_size=size, crop_pct=1.0, mean=(0.5,) * size[0], std=(0.5,) * size[0])
    elif input_size is not None:
        fields["preprocess"] = replace(fields["preprocess"], input_size=input_size)
    row = Model(name, build=f"{__name__}:build_{name}", num_classes=num_classes, **fields)
    rivals = [one.name for one in current().plugins if one.name != PLUGIN and name in {*one.models, *one.aliases}]
    if rivals:
        raise PluginError(
            f"There is already a model {name!r}, of the plugin {rivals[0]!r}.",
            hint=f'Choose another name: @zoo.model("my_{name}").',
        )
    _builds[name] = _hook(builder, row)
    before = _registered.get(PLUGIN)
    models = {one.name: one for one in before.models} if before else {}
    if before:
        unregister(PLUGIN)
    register(Plugin(PLUGIN, api=API, models=(*{**models, name: row}.values(),)))
    return builder


def _hook(builder: Callable[..., Any], row: Model) -> Callable[..., Any]:
    """Returns a build hook that calls ``builder`` with those of the two usual arguments that it has."""
    accepted = args_of(builder)
    usual = {"num_classes": row.num_classes, "in_chans": row.preprocess.input_size[0]}
    passed = [key for key in usual if accepted is None or key in accepted]

    def build(**args: Any) -> Any:
        for key in usual:
            value = args[key] if key in passed else args.pop(key)
            if key not in passed and value != usual[key]:
                raise SpecError(
                    f"{row.name} has {key} = {usual[key]}; {value} was asked for.",
                    hint=f"Give {builder.__qualname__} an argument {key}.",
                )
        network = builder(**args)
        if network is not None and not hasattr(network, "num_classes"):
            network.num_classes = args.get("num_classes", row.num_classes)
        return network

    parameters = [part for part in inspect.signature(builder).parameters.values() if part.name not in usual]
    of_usual = [inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY) for key in usual]
    rest = [part for part in parameters if part.kind is part.VAR_KEYWORD]
    parameters = [part for part in parameters if part.kind not in (part.VAR_KEYWORD, part.VAR_POSITIONAL)]
    named = [part.replace(kind=part.KEYWORD_ONLY) for part in parameters]
    build.__signature__ = inspect.Signature([*of_usual, *named, *rest])  # type: ignore[attr-defined]  # read by inspect
    return build

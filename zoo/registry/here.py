"""``@zoo.model``: networks of a notebook or a script, by name."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, overload

from msgspec.structs import replace

from zoo.errors import PluginError, SpecError
from zoo.registry import registry
from zoo.registry.arguments import names_of
from zoo.spec import API, Model, Plugin, Preprocess

PLUGIN = "here"
"""The plugin with the models of this process."""

Builder = TypeVar("Builder", bound=Callable[..., Any])

_builds: dict[str, Callable[..., Any]] = {}
"""The build hooks, which are addressed as ``zoo.registry.here:NAME``."""


def __getattr__(name: str) -> Callable[..., Any]:
    try:
        return _builds[name]
    except KeyError:
        raise AttributeError(f"@zoo.model has registered no {name!r} in this process") from None


@overload
def model(name: Builder) -> Builder: ...
@overload
def model(
    name: str = "", *, input_size: tuple[int, int, int] | None = None, classes: int | None = None, **fields: Any
) -> Callable[[Builder], Builder]: ...
def model(
    name: Any = "", *, input_size: tuple[int, int, int] | None = None, classes: int | None = None, **fields: Any
) -> Any:
    """Registers the class or the function below it as a model of this process, as timm's ``register_model`` does.

    For notebooks and scripts: ``@zoo.model`` or ``@zoo.model("my_net", input_size=(1, 28, 28), classes=10)``. The class
    or function returns a torch module. It gets ``num_classes`` and ``in_chans`` if it has these arguments; without
    them the network takes the declared numbers alone. A second registration of a name replaces the first, as when a
    cell is run again. Without recipes, the model is trained with AdamW and a cosine schedule (``zoo recipes``).

    Args:
        name: The model's name. By default that of the class or function, in lower case.
        input_size: The input, channels x height x width. By default 224 x 224 pixels, in as many channels as
            ``in_chans`` has by default, or 3.
        classes: The number of classes. By default what ``num_classes`` has by default, or 1000.
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
        return _add(name, name.__name__.lower(), input_size, classes, fields)
    return lambda builder: _add(builder, name or builder.__name__.lower(), input_size, classes, fields)


def _add(
    builder: Builder, name: str, input_size: tuple[int, int, int] | None, classes: int | None, fields: dict[str, Any]
) -> Builder:
    """Puts ``builder`` as the model ``name`` into the plugin of this process."""
    defaults = {key: part.default for key, part in inspect.signature(builder).parameters.items()}
    if classes is None:
        classes = defaults["num_classes"] if isinstance(defaults.get("num_classes"), int) else 1000
    if "preprocess" not in fields:
        channels = defaults["in_chans"] if isinstance(defaults.get("in_chans"), int) else 3
        size = input_size or (channels, 224, 224)
        fields["preprocess"] = Preprocess(input_size=size, crop_pct=1.0, mean=(0.5,) * size[0], std=(0.5,) * size[0])
    elif input_size is not None:
        fields["preprocess"] = replace(fields["preprocess"], input_size=input_size)
    row = Model(name, build=f"{__name__}:{name}", num_classes=classes, **fields)
    rivals = [
        one.name for one in registry.current().plugins if one.name != PLUGIN and name in {*one.models, *one.aliases}
    ]
    if rivals:
        raise PluginError(
            f"There is already a model {name!r}, of the plugin {rivals[0]!r}.",
            hint=f'Choose another name: @zoo.model("my_{name}").',
        )
    _builds[name] = _hook(builder, row)
    before = registry.registered(PLUGIN)
    models = {one.name: one for one in before.models} if before else {}
    if before:
        registry.unregister(PLUGIN)
    registry.register(Plugin(PLUGIN, api=API, models=(*{**models, name: row}.values(),)))
    return builder


def _hook(builder: Callable[..., Any], row: Model) -> Callable[..., Any]:
    """Returns a build hook that calls ``builder`` with those of the two usual arguments that it has."""
    known = names_of(builder)
    usual = {"num_classes": row.num_classes, "in_chans": row.preprocess.input_size[0]}
    passed = [key for key in usual if known is None or key in known]

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

    own = [part for part in inspect.signature(builder).parameters.values() if part.name not in usual]
    of_usual = [inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY) for key in usual]
    rest = [part for part in own if part.kind is part.VAR_KEYWORD]
    own = [part for part in own if part.kind not in (part.VAR_KEYWORD, part.VAR_POSITIONAL)]
    named = [part.replace(kind=part.KEYWORD_ONLY) for part in own]
    build.__signature__ = inspect.Signature([*of_usual, *named, *rest])  # type: ignore[attr-defined]  # read by inspect
    return build

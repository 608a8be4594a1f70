"""Calls a plugin's train and evaluate hooks and checks what they return."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from zoo import registry
from zoo.errors import PluginError, ZooError
from zoo.spec import Model

if TYPE_CHECKING:
    from torch import nn

    from zoo.data import ImageSet
    from zoo.data.prepared import PreparedBatches
    from zoo.evaluation import Report
    from zoo.loading import Network

DEFAULT = Model("default", build="zoo.loading:build")
"""Whose hooks are Zoo's own."""


def evaluate(row: Model, model: "nn.Module", images: "ImageSet | PreparedBatches", **options: Any) -> "Report":
    """What the model's evaluate hook reports, seen to follow from its counts."""
    from zoo import evaluation
    from zoo.evaluation import claims

    hook = registry.hook(row.evaluate, row.requires)
    surplus = _not_taken(hook, options)
    if given := [name for name in ("dtype", "compile") if name in surplus and options[name]]:
        raise PluginError(f"{row.evaluate}, which scores {row.name}, has no argument {given[0]}.", hint="Remove it.")
    options = {name: value for name, value in options.items() if name not in surplus}
    with _blaming(row.evaluate, row.name):
        report = hook(model, images, **options)
    if row.evaluate == DEFAULT.evaluate:
        return cast("Report", report)
    if not isinstance(report, evaluation.Report):
        raise PluginError(f"{row.evaluate} returned {type(report).__name__}, expected zoo.evaluation.Report.")
    try:
        return claims.confirm(report, cast("ImageSet", images))  # prepared batches have Zoo's own hook
    except ValueError as error:
        raise PluginError(f"{row.evaluate}'s report on {row.name} is inconsistent: {error}.") from None


def _not_taken(hook: Callable[..., Any], options: Mapping[str, Any]) -> set[str]:
    """Those of ``options`` that ``hook`` has no parameter for, as far as it tells."""
    try:
        taken = inspect.signature(hook).parameters
    except (TypeError, ValueError):  # of some that are not written in Python
        return set()
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values())
    return set() if takes_all else options.keys() - taken.keys()


def train(row: Model, module: "nn.Module", *given: Any, **options: Any) -> "Network":
    """What the model's train hook returns, seen to be a network."""
    from torch import nn

    hook = registry.hook(row.train, row.requires)
    with _blaming(row.train, row.name):
        trained = hook(module, *given, **options)
    if not isinstance(trained, nn.Module):
        raise PluginError(f"{row.train} returned {type(trained).__name__}, expected the trained network of {row.name}.")
    return cast("Network", trained)


@contextmanager
def _blaming(target: str, name: str) -> Iterator[None]:
    """Within it, what a plugin's hook raises becomes an error that names the hook and the model."""
    try:
        yield
    except ZooError:
        raise
    except Exception as error:  # a plugin's code may raise anything
        if target in (DEFAULT.train, DEFAULT.evaluate):
            raise
        raise PluginError(
            f"{target} failed for {name}: {type(error).__name__}: {error}", hint="zoo --debug ... shows the traceback."
        ) from error

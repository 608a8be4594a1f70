"""Calls a plugin's train and evaluate hooks and checks what they return."""

import inspect
import logging
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, cast

from zoo import registry
from zoo.errors import PluginError, UnknownNameError
from zoo.registry import hooks
from zoo.registry.hooks import blaming
from zoo.spec import Model, Preprocess

log = logging.getLogger("zoo")

if TYPE_CHECKING:
    from torch import nn

    from zoo.data import ImageSet
    from zoo.data.readers.torch_dataset import PreparedBatches
    from zoo.evaluation import Report
    from zoo.evaluation.outputs import Answers, Outputs
    from zoo.loading import Network

DEFAULT = Model("default", build="zoo.loading:build")
"""The model whose hooks are Zoo's own."""


def evaluate(
    row: Model,
    model: "nn.Module",
    images: "ImageSet | PreparedBatches",
    *,
    command: str = "",
    take: "Callable[[Outputs], object] | None" = None,
    **options: Any,
) -> "Report":
    """Scores a network by the answers of the model's evaluate hook, which sees no labels.

    A hook of a plugin for contract 1 gets them as it used to, and may return a report, which must follow from its
    counts. If it reads them, the report says so (``stated_by``). ``take`` is called with the outputs; raises
    :class:`PluginError` if the hook returns no answers.
    """
    import msgspec

    from zoo import evaluation
    from zoo.evaluation import claims, outputs, score

    defaults = inspect.signature(score.evaluate).parameters
    accepted = _accepted(row, options, defaults)
    if row.evaluate == DEFAULT.evaluate:
        batches: list[Outputs] = []
        add = None if take is None else lambda logits: batches.append(outputs.Outputs.of(logits))
        report = score.evaluate(model, images, command=command, take=add, **accepted)
        if take is not None:
            take(outputs.Outputs.together(batches))
        return report
    data = cast("ImageSet", images)  # prepared batches have Zoo's own hook
    started = time.perf_counter()
    returned, has_seen_labels = _call(row, model, data, accepted)
    if isinstance(returned, evaluation.Report):
        if take is not None:
            raise PluginError(
                f"{row.evaluate}, which scores {row.name}, returns only scores; expected logits or classes.",
                hint="Leave out --outputs, or let the hook return its answers: docs/plugins.md.",
            )
        try:
            report = claims.confirm(returned, data)
        except ValueError as error:
            raise PluginError(f"{row.evaluate}'s report on {row.name} is inconsistent: {error}.") from None
    else:
        answered = _outputs(row, returned, data)
        report = answered.report(model, data, time.perf_counter() - started, options)
        if take is not None:
            take(answered)
    extra = [f"{name} {value}" for name, value in accepted.items() if name not in defaults and value is not None]
    stated_by = row.evaluate if has_seen_labels else ""
    if stated_by:
        log.warning(
            "%s saw the labels, as plugins for contract 1 may: the score of %s is its own account, not measured",
            stated_by,
            row.name,
        )
    name = ", ".join([report.model, *extra])
    return msgspec.structs.replace(report, model=name, command=command, stated_by=stated_by)


def answers(
    row: Model, model: "nn.Module", images: "ImageSet", *, preprocess: Preprocess, dtype: str | None
) -> "Answers | None":
    """Returns the confusion matrix and the mistakes, by the model's evaluate hook; None if that only reports."""
    from zoo import evaluation
    from zoo.evaluation.outputs import find_mistakes

    if row.evaluate == DEFAULT.evaluate:
        return find_mistakes(model, images, preprocess=preprocess, is_bfloat16=dtype is not None)
    options = {"preprocess": preprocess, "dtype": dtype}
    surplus = _not_taken(registry.hook(row.evaluate, row.requires), options)
    returned, _ = _call(row, model, images, {name: options[name] for name in options.keys() - surplus})
    if isinstance(returned, evaluation.Report):
        return None
    outputs = _outputs(row, returned, images)
    with _blaming(row.evaluate, row.name):
        return outputs.mistakes(images)


def _accepted(row: Model, options: dict[str, Any], defaults: Collection[str]) -> dict[str, Any]:
    """Returns ``options`` without those that the hook need not take: they do not change the score.

    ``defaults`` are the options of Zoo's own hook. Raises :class:`UnknownNameError` for others that the hook does not
    take, :class:`PluginError` for those that would change the score.
    """
    hook = registry.hook(row.evaluate, row.requires)
    surplus = _not_taken(hook, options)
    for name in sorted(surplus):
        problem = f"{row.evaluate}, which scores {row.name}, has no argument {name}."
        if name not in defaults:
            near = UnknownNameError.of("argument", name, {*defaults, *(hooks.args_of(hook) or ())}).hint
            raise UnknownNameError(problem, hint=near or "Remove it.")
        if name in ("dtype", "compile") and options[name]:
            raise PluginError(problem, hint="Remove it.")
    return {name: value for name, value in options.items() if name not in surplus}


def _call(row: Model, model: "nn.Module", images: "ImageSet", options: Mapping[str, Any]) -> tuple[Any, bool]:
    """Returns what the hook returns, and whether it has seen the labels, which it can only at contract 1."""
    from zoo import evaluation
    from zoo.evaluation.outputs import Watched

    hook = registry.hook(row.evaluate, row.requires, role=hooks.EVALUATE, of=row.name, more=options)
    if row.api == 1:
        watched = Watched.of(images)
        with _blaming(row.evaluate, row.name):
            returned = hook(model, watched, **options)
        return returned, watched.are_labels_read or isinstance(returned, evaluation.Report)
    with _blaming(row.evaluate, row.name):
        returned = hook(model, images.without_labels(), **options)
    if isinstance(returned, evaluation.Report):
        raise PluginError(
            f"{row.evaluate} returned a report on {row.name}, expected its answers: the core scores them.",
            hint="Return zoo.evaluation.logits(...) or a class for each image: docs/plugins.md.",
        )
    return returned, False


def _outputs(row: Model, returned: object, images: "ImageSet") -> "Outputs":
    from zoo.evaluation import outputs

    try:
        return outputs.read(returned, images)
    except ValueError as error:
        raise PluginError(f"{row.evaluate}, which scores {row.name}, {error}.") from None


def _not_taken(hook: Callable[..., Any], options: Mapping[str, Any]) -> set[str]:
    """Returns those of ``options`` that ``hook`` has no parameter for, as far as it tells."""
    try:
        parameters = inspect.signature(hook).parameters
    except (TypeError, ValueError):  # of some that are not written in Python
        return set()
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return set() if takes_all else options.keys() - parameters.keys()


def train(row: Model, module: "nn.Module", *inputs: Any, **options: Any) -> "Network":
    """Calls the model's train hook; returns the trained network."""
    from torch import nn

    hook = registry.hook(row.train, row.requires, role=hooks.TRAIN, of=row.name)
    with _blaming(row.train, row.name):
        trained = hook(module, *inputs, **options)
    if not isinstance(trained, nn.Module):
        raise PluginError(f"{row.train} returned {type(trained).__name__}, expected the trained network of {row.name}.")
    return cast("Network", trained)


def _blaming(target: str, name: str) -> AbstractContextManager[None]:
    """Names the hook and the model in what a plugin's hook raises; the errors of Zoo's own hooks stay as they are."""
    return nullcontext() if target in (DEFAULT.train, DEFAULT.evaluate) else blaming(target, name)

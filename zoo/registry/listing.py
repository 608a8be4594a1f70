"""Lists of what can be created, without torch."""

import math
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase, translate
from typing import Any, NamedTuple, Never

import msgspec

from zoo import names, registry
from zoo.errors import SpecError, UnknownNameError
from zoo.manifest import Score, Weights
from zoo.registry import Found, Listed
from zoo.registry.registry import Named
from zoo.spec import Model

SORTS = ("name", "top1", "params", "macs", "year")
"""Orders of a list."""


class Selected(NamedTuple):
    """A row of the list: a model, or ``weights`` of it."""

    name: str
    entry: Listed
    weights: Weights | None


def list_models(
    pattern: str = "*",
    *,
    family: str | None = None,
    dataset: str | None = None,
    license: str | None = None,
    max_params: int | None = None,
    min_top1: float | None = None,
    pretrained: bool = False,
    sort: str = "name",
    **unknown: Never,
) -> list[str]:
    """Returns the names of architectures, or of weights, in natural order or as ``sort`` says.

    Lists weights if ``pretrained``, ``dataset``, ``license`` or ``min_top1`` is given, if they are sorted by top-1 or
    if the pattern has a dot, and architectures otherwise. Models of a collection are listed only if ``family``, or the
    pattern before a slash, names it (``timm/*``).

    Args:
        pattern: A shell pattern of names.
        family: Only models of this plugin.
        dataset: Only weights that were trained or scored on this data set.
        license: Only weights whose licence matches this shell pattern, in either case: ``apache*``.
        max_params: Only networks of at most this many parameters.
        min_top1: Only weights with at least this top-1, in per cent, on ``dataset`` or, without it, on the data set of
            their classes.
        pretrained: Whether to list weights.
        sort: By ``name``, ``top1`` (the highest first), ``params`` or ``macs`` (the least first), or ``year`` (the
            latest first). What is not known comes last.
        unknown: None; the error for an argument of timm's function says what to write.

    Returns:
        The names, which :func:`zoo.create` takes.

    Raises:
        SpecError: ``pattern`` is not one pattern.
        UnknownNameError: There is no such argument or order.

    Example:
        >>> import zoo
        >>> zoo.list_models("resnet1*2")
        ['resnet152', 'resnet1202']
        >>> zoo.list_models("resnet20", dataset="digits")
        ['resnet20.digits', 'resnet20.digits_robust']
    """
    for argument in unknown:
        near = UnknownNameError.of("argument", argument, _ARGUMENTS).hint
        raise UnknownNameError(
            f"zoo.list_models has no argument {argument!r}.",
            hint=f"{near or _INSTEAD.get(argument, '')} Arguments: {', '.join(_ARGUMENTS)}.".strip(),
        )
    if not isinstance(pattern, str):
        raise SpecError(
            f"pattern = {pattern!r} is invalid: expected one pattern, such as 'resnet*'.",
            hint="zoo.timm.list_models takes several, and lists timm's models.",
        )
    if {dataset, license, max_params, min_top1} == {None} and sort == "name":  # names alone say what is meant
        matches = _matching(pattern, family, is_tagged=pretrained or "." in pattern)
        return [name for named, tags in matches for name in _names(named, tags)]
    chosen = select(
        pattern,
        family=family,
        dataset=dataset,
        license=license,
        max_params=max_params,
        min_top1=min_top1,
        pretrained=pretrained,
        sort=sort,
    )
    return [line.name for line in chosen]


_ARGUMENTS = ("pattern", "family", "dataset", "license", "max_params", "min_top1", "pretrained", "sort")

_INSTEAD = {
    "exclude_filters": "Leave names out of the list that it returns, or use zoo.timm.list_models.",
    "filter": "Use pattern.",
    "include": "Use pattern.",
    "include_tags": "Use pretrained=True, or zoo.timm.list_models.",
    "module": "Use family, or zoo.timm.list_models.",
    "name_matches_cfg": "Use zoo.timm.list_models.",
}
"""Hints for the arguments of timm's and torchvision's functions of this name."""


def select(
    pattern: str,
    *,
    family: str | None,
    dataset: str | None,
    license: str | None,
    max_params: int | None,
    pretrained: bool,
    min_top1: float | None = None,
    sort: str = "name",
) -> list[Selected]:
    """Selects as :func:`list_models` does, with the values behind each name."""
    if sort not in SORTS:
        raise UnknownNameError.of("order", sort, SORTS, hint=f"Orders: {', '.join(SORTS)}.")
    is_tagged = pretrained or {dataset, license, min_top1} != {None} or sort == "top1" or "." in pattern
    lines: list[Selected] = []
    registered = registry.current()
    for named, tags in _matching(pattern, family, is_tagged=is_tagged):
        entry = registered.listed(named)
        if tags is None and (max_params is None or params_of(entry.model) <= max_params):
            lines.append(Selected(entry.name, entry, None))
        lines += [
            Selected(f"{entry.name}.{weights.tag}", entry, weights)
            for weights in entry.weights
            if tags is not None
            and weights.tag in tags
            and (max_params is None or params_of(entry.model, weights) <= max_params)
            and (dataset is None or dataset in trained_on(weights))
            and (license is None or fnmatchcase(weights.license.weights.casefold(), license.casefold()))
            and (min_top1 is None or _top1(weights, dataset) >= min_top1)
        ]
    if sort == "top1":
        lines.sort(key=lambda line: -_top1(line.weights, dataset) if line.weights else math.inf)
    elif sort == "year":
        lines.sort(key=lambda line: -line.entry.model.paper.year if line.entry.model.paper else 0)
    elif sort != "name":
        amount = {"params": params_of, "macs": macs_of}[sort]
        lines.sort(key=lambda line: amount(line.entry.model, line.weights) or math.inf)
    return lines


def _top1(weights: Weights, dataset: str | None) -> float:
    """Returns the top-1 on ``dataset``, or on the data set of the classes, in per cent; -inf if it is unknown."""
    scores = [score for split, score in weights.scores.items() if split.partition("/")[0] == dataset]
    score = next(iter(scores), None) if dataset else main_score(weights)[1]
    return -math.inf if score is None or score.top1 is None else score.top1


def _matching(pattern: str, family: str | None, *, is_tagged: bool) -> list[tuple[Named, Sequence[str] | None]]:
    """Returns the models that ``pattern`` means, or with ``is_tagged`` their tags that it means, in natural order."""
    registered = registry.current()
    asked = [row for row in registered.collections if row.name == family or _addresses(pattern, row.name)]
    arch, dot, tag = pattern.partition(".")
    pattern = registered.present_name(arch) + dot + tag
    if family is not None and "/" not in pattern and asked:
        pattern = f"{family}/{pattern}"
    matches = re.compile(translate(pattern)).match
    # A name has one dot: if the pattern has one, what is before it is about models. A bracket may hold the dot.
    is_split = pattern.count(".") == 1 and "[" not in pattern
    may_have = re.compile(translate(pattern.partition(".")[0] if is_split else "*")).match
    chosen: list[tuple[Named, Sequence[str] | None]] = []
    for named in registered.named(asked):
        if family not in (None, named.row.name):
            continue
        if named.bringer and not is_tagged:  # no model, but weights of one
            continue
        if "." not in pattern and matches(named.name):  # it is about models, also if their weights are listed
            chosen.append((named, named.tags if is_tagged else None))
        elif (
            is_tagged
            and may_have(named.name)
            and (tags := [tag for tag in named.tags if matches(f"{named.name}.{tag}")])
        ):
            chosen.append((named, tags))
    return sorted(chosen, key=lambda match: names.natural(match[0].name))


def _names(named: Named, tags: Sequence[str] | None) -> list[str]:
    return [named.name] if tags is None else [f"{named.name}.{tag}" for tag in tags]


def params_of(model: Model, weights: Weights | None = None) -> int:
    """Returns the number of elements in the parameters of the network of ``model`` with ``weights``; 0 if unknown."""
    return model.params if weights is None or weights.params is None else weights.params


def macs_of(model: Model, weights: Weights | None = None) -> int:
    """Returns the multiply-adds for one image; 0 if unknown, also for weights with another input size."""
    if weights is None or weights.macs is not None:
        return model.macs if weights is None else weights.macs or 0
    is_same = weights.preprocess is None or weights.preprocess.input_size == model.preprocess.input_size
    return model.macs if is_same else 0


def _addresses(pattern: str, plugin: str) -> bool:
    before, slash, _ = pattern.partition("/")
    return bool(slash) and fnmatchcase(plugin, before)


def left_out(pattern: str, family: str | None) -> list[str]:
    """Returns the collections that :func:`list_models` does not include. They are not read."""
    rows = registry.current().collections
    return [row.name for row in rows if family is None and not _addresses(pattern, row.name)]


def trained_on(weights: Weights) -> set[str]:
    """Returns the data sets of weights: that of their classes and those of their scores."""
    return {weights.classes} | {key.partition("/")[0] for key in weights.scores}


def main_score(weights: Weights) -> tuple[str, Score | None]:
    """Returns the score on the data set of the weights' classes, or the first score, with its split."""
    ranked = sorted(weights.scores.items(), key=lambda item: item[0].partition("/")[0] != weights.classes)
    return ranked[0] if ranked else (weights.classes, None)


def about(match: Found) -> dict[str, Any]:
    """Returns all that is known of a model, or of weights, as values that JSON can hold: see :func:`zoo.info`."""
    of = registry.current()
    every = [match.weights] if match.weights else of.weights_of(match.row, match.model)
    default = of.default_of(match.row, match.model)
    model: dict[str, Any] = msgspec.to_builtins(match.model)
    return model | {
        "family": match.row.name,
        "distribution": match.row.distribution,
        "version": match.row.version,
        "weights": [
            msgspec.to_builtins(weights)
            | {
                "name": weights.name,
                "default": weights == default,
                "brought_by": bringer.distribution if (bringer := of.bringer_of(match, weights.tag)) else "",
                "params": params_of(match.model, weights),
                "macs": macs_of(match.model, weights),
            }
            for weights in every
        ],
    }

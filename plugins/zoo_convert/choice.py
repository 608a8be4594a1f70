"""Selects one of the key maps that fit a checkpoint, and says why.

The names and shapes of tensors do not say what a network computes: key maps with different arguments may fit
alike. Readings that compute different functions are not chosen between, unless a score tells them apart.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from torch import Tensor, nn

from zoo import loading
from zoo.data.classes import class_names
from zoo.errors import SpecError, TensorMismatchError, UnknownNameError, WeightsError
from zoo.loading import ModelInfo, Network
from zoo.registry import Found
from zoo.spec import Preprocess
from zoo.verify import probe
from zoo_convert.fitting import AS_IS, Fitted, mismatch

if TYPE_CHECKING:
    from zoo.evaluation import Report
    from zoo_convert.onnx import Proof

Score = Callable[[nn.Module], "Report"]
"""The score of a network with its ``zoo_info`` on local data."""

Prove = Callable[[Network, Fitted, Preprocess], "Proof"]
"""Compares a network with the file's own outputs; raises :class:`TensorMismatchError` if they differ."""


ARGUMENTS = "arguments"
"""Begins the line of ``assumed`` with arguments of the build function; equal outputs prove them."""


class Stated(msgspec.Struct, frozen=True):
    """Facts that the caller states about a checkpoint; they override those of the file, the key map and the model.

    ``args`` are arguments of the build function, ``preprocess`` fields of :class:`zoo.spec.Preprocess` (a single number
    in ``mean`` and ``std`` applies to every channel), ``classes`` the data set of the head's classes, ``origin`` the
    author of the weights. A ``trunk`` has no head: the network computes features.
    """

    args: Mapping[str, Any] = {}
    preprocess: Mapping[str, Any] = {}
    classes: str = ""
    origin: str = ""
    trunk: bool = False


class Reading(msgspec.Struct, frozen=True):
    """A key map that was tried: whether it fits and, in words, how it compares; ``top1`` in per cent."""

    key_map: str
    fits: bool
    verdict: str
    top1: float | None = None


class Choice(msgspec.Struct, frozen=True):
    """The selected reading as a network; ``assumed`` lists facts that nobody stated."""

    fitted: Fitted
    info: ModelInfo
    num_classes: int
    in_chans: int
    assumed: list[str]
    readings: list[Reading]
    reason: str
    score: "Report | None" = None


class _Candidate:
    """A reading that fits; its network is built on demand."""

    def __init__(self, fitted: Fitted, match: Found, about: Mapping[str, Any], stated: Stated) -> None:
        self.fitted, self._model = fitted, match.model
        self.num_classes, self.in_chans = fitted.num_classes, fitted.in_chans
        self.assumed: list[str] = []
        preprocess = self._preprocess(about, stated)
        classes = self._classes(about, stated)
        args = {**match.model.args, **fitted.args}
        hidden = [
            f"{key} {args.get(key, '(its default)')}"
            for key in dict.fromkeys([*fitted.key_map.args, *match.model.file_args])
            if key not in stated.args and key not in about.get("args", {})
        ]
        if hidden and not about.get("model"):
            self.assumed.append(f"{ARGUMENTS} (a tensor need not show them): {', '.join(hidden)}")
        self.info = ModelInfo(match.model.name, match.model, None, None, preprocess, classes, (), args)

    def _preprocess(self, about: Mapping[str, Any], stated: Stated) -> Preprocess:
        unknown = next((key for key in stated.preprocess if key not in Preprocess.__struct_fields__), None)
        if unknown is not None:
            raise UnknownNameError.of("preprocess field", unknown, Preprocess.__struct_fields__)
        key_map = self.fitted.key_map
        try:
            declared = msgspec.to_builtins(self._model.preprocess) | dict(key_map.preprocess)
            assumed = loading.for_channels(msgspec.convert(declared, Preprocess), self.in_chans)
            values: dict[str, Any] = msgspec.to_builtins(assumed) | dict(about.get("preprocess", {}))
            for key, value in stated.preprocess.items():
                is_repeated = key in ("mean", "std") and len(value) == 1
                values[key] = list(value) * self.in_chans if is_repeated else value
            preprocess = msgspec.convert(values, Preprocess)
        except (msgspec.ValidationError, TypeError, ValueError) as error:
            raise SpecError(f"preprocess: {error}") from None
        shown = ("input_size", "crop_pct", "interpolation", "mean", "std")
        open_fields = [key for key in shown if key not in stated.preprocess and "preprocess" not in about]
        if open_fields:
            facts = ", ".join(f"{key} {_shown(getattr(preprocess, key))}" for key in open_fields)
            whose = f"key map {key_map.name!r}" if key_map.preprocess else f"the model {self._model.name}"
            self.assumed.append(f"preprocess ({whose}): {facts}")
        return preprocess

    def _classes(self, about: Mapping[str, Any], stated: Stated) -> str:
        if stated.classes or "classes" in about:
            return stated.classes or str(about["classes"])
        key_map = self.fitted.key_map
        if self.num_classes and key_map.classes and self._could_be(key_map.classes):
            self.assumed.append(f"classes (key map {key_map.name!r}): {key_map.classes}")
            return key_map.classes
        if self.num_classes:
            self.assumed.append(f"classes unknown: {self.num_classes} classes")
        return ""

    def _could_be(self, classes: str) -> bool:
        try:
            return len(class_names(classes)) == self.num_classes
        except UnknownNameError:  # the model's own number is all there is to compare with
            return self.num_classes == self._model.num_classes

    def network(self) -> Network:
        args = self.fitted.args
        with loading.skip_init():
            module, _ = loading.build(self._model, num_classes=self.num_classes, in_chans=self.in_chans, **args)
        loading.assign(module, self.fitted.tensors, self.fitted.key_map.name)
        # Whose classes it knows is an assumption that no score should depend on.
        module.zoo_info = self.info._replace(classes="")
        return module.eval()

    def is_proven(self, prove: Prove) -> bool:
        try:
            self.fitted.proof = prove(self.network(), self.fitted, self.info.preprocess)
        except TensorMismatchError as error:
            self.fitted.problem = error
        return self.fitted.problem is None

    def logits(self) -> Tensor:
        """Returns the network's outputs for noise that is the same for every reading, B K."""
        preprocess = loading.for_channels(self._model.preprocess, self.in_chans)
        return probe.outputs(self.network(), preprocess, seed=0, batch=2)["noise.logits"]

    def is_built_alike(self, other: "_Candidate") -> bool:
        mine, others = self.fitted.tensors, other.fitted.tensors
        return self.info.args == other.info.args and all(torch.equal(mine[key], others[key]) for key in mine)


def choose(
    tried: list[Fitted],
    match: Found,
    about: Mapping[str, Any],
    stated: Stated,
    source: str,
    score: Score | None = None,
    prove: Prove | None = None,
) -> Choice:
    """Chooses the reading to use of those ``tried``: of several that compute the same function, the first.

    With ``prove``, only of those that pass. With ``score``, the one with the highest accuracy. Raises
    :class:`TensorMismatchError` if none fits, and :class:`WeightsError` if those that fit compute different functions
    and there is no score to decide.
    """
    candidates = [_Candidate(fitted, match, about, stated) for fitted in tried if fitted.problem is None]
    if prove is not None:
        candidates = [candidate for candidate in candidates if candidate.is_proven(prove)]
    if not candidates:
        raise mismatch(tried, match)
    groups = _alike(candidates)
    scores: dict[str, Report] = {}
    if score is not None:
        for candidate in _to_score(groups):
            scores[candidate.fitted.key_map.name] = score(candidate.network())
    chosen = _best(candidates, groups, scores, source)
    name = chosen.fitted.key_map.name
    if len(candidates) == 1:
        reason = "the only one that fits" if len(tried) > 1 else "asked for"
        reason = "stated in the file's metadata" if about.get("model") and name == AS_IS.name else reason
    elif len(scores) > 1:
        reason = f"the best score, {scores[name].top1:.2f}%"
    else:
        reason = "the first that fits"
    if chosen.fitted.is_in_order:
        reason = f"matched in order by shape, {reason}"
    group = next(group for group in groups if chosen in group)
    return Choice(
        fitted=chosen.fitted,
        info=chosen.info,
        num_classes=chosen.num_classes,
        in_chans=chosen.in_chans,
        assumed=chosen.assumed,
        readings=[_verdict(fitted, chosen, group, candidates, scores) for fitted in tried],
        reason=reason,
        score=scores.get(name),
    )


def require_score(choice: Choice, source: str, at_least: float | None = None) -> None:
    """Raises :class:`WeightsError` if the network scores less than ``at_least`` per cent.

    By default that is halfway from chance to 100: a wrong argument often leaves a network a little better than chance.
    """
    if choice.score is None:
        return
    limit = 50 + 50 / choice.num_classes if at_least is None else at_least
    if choice.score.top1 < limit:
        args = ", ".join(f"{key}={value!r}" for key, value in choice.info.args.items())
        raise WeightsError(
            f"{source} as {choice.info.name} ({args}; key map {choice.fitted.key_map.name}) is right on "
            f"{choice.score.top1:.3f}% of {choice.score.dataset}/{choice.score.split}, less than {limit:g}%: "
            "nothing was written.",
            hint="An argument that no tensor shows may differ (--arg), or the preprocessing (--mean, --std, "
            "--preprocess). --at-least PERCENT accepts weights that score so little.",
        )


def _alike(candidates: list[_Candidate]) -> list[list[_Candidate]]:
    """Returns the candidates, grouped by the function that they compute."""
    groups: list[list[_Candidate]] = []
    logits: dict[int, Tensor] = {}

    def given(candidate: _Candidate) -> Tensor:
        if id(candidate) not in logits:
            logits[id(candidate)] = candidate.logits()
        return logits[id(candidate)]

    for candidate in candidates:
        for group in groups:
            if candidate.is_built_alike(group[0]) or _is_close(given(candidate), given(group[0])):
                group.append(candidate)
                break
        else:
            groups.append([candidate])
    return groups


def _is_close(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and torch.allclose(left, right, rtol=1e-4, atol=1e-4 * float(right.abs().max()))


def _to_score(groups: list[list[_Candidate]]) -> list[_Candidate]:
    """Returns one candidate for each function and preprocessing."""
    candidates: list[_Candidate] = []
    for group in groups:
        seen: list[Preprocess] = []
        for candidate in group:
            if candidate.info.preprocess not in seen:
                seen.append(candidate.info.preprocess)
                candidates.append(candidate)
    return candidates


def _best(
    candidates: list[_Candidate], groups: list[list[_Candidate]], scores: "Mapping[str, Report]", source: str
) -> _Candidate:
    if len(groups) == 1 and len(scores) < 2:
        return candidates[0]
    if scores:
        scored = [candidate for candidate in candidates if candidate.fitted.key_map.name in scores]
        scored.sort(key=lambda candidate: -scores[candidate.fitted.key_map.name].top1)
        group = next(group for group in groups if scored[0] in group)
        others = [candidate for candidate in scored if candidate not in group]
        low = scores[scored[0].fitted.key_map.name].interval[0]
        if all(scores[other.fitted.key_map.name].interval[1] < low for other in others):
            return scored[0]
    lines = []
    for group in groups:
        fitted = group[0].fitted
        args = ", ".join(f"{key}={value!r}" for key, value in group[0].info.args.items())
        score = scores.get(fitted.key_map.name)
        right = f" {score.correct} of {score.n} correct" if score else ""
        form = f": {fitted.key_map.origin}" if fitted.key_map.origin else ""
        lines.append(f"  --from {fitted.key_map.name}  ({args}){right}{form}")
    raise WeightsError(
        f"{source} can be converted in {len(groups)} ways that compute different functions:\n" + "\n".join(lines),
        hint="Select one with --from; in a manifest, with key_map. "
        + ("" if scores else "If you have its data set, --check DATA selects the one with the best score."),
    )


def _verdict(
    fitted: Fitted,
    chosen: _Candidate,
    group: list[_Candidate],
    candidates: list[_Candidate],
    scores: "Mapping[str, Report]",
) -> Reading:
    name = fitted.key_map.name
    candidate = next((candidate for candidate in candidates if candidate.fitted is fitted), None)
    if candidate is None:
        return Reading(name, False, f"does not fit: {str(fitted.problem).partition(chr(10))[0]}")
    top1 = scores[name].top1 if name in scores else None
    if candidate is chosen:
        return Reading(name, True, "taken", top1)
    if candidate not in group:
        return Reading(name, True, "also fits: a different network", top1)
    is_same = candidate.info.preprocess == chosen.info.preprocess
    return Reading(name, True, f"also fits: the same network, {'the same' if is_same else 'other'} preprocessing", top1)


def _shown(value: object) -> str:
    return " ".join(f"{part:g}" for part in value) if isinstance(value, tuple) else str(value)


__all__ = ["Choice", "Reading", "Score", "Stated", "choose", "require_score"]

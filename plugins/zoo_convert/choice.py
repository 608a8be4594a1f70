"""Selects one of the key maps that fit a checkpoint, and says why.

The names and shapes of tensors do not say what a network computes: key maps with different arguments may fit
alike, and so may other values of an argument that nobody stated. Readings that compute different functions are not
chosen between, unless the outputs of an ONNX file or a score tell them apart.
"""

from collections.abc import Callable, Mapping
from itertools import islice, product
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from torch import Tensor, nn

from zoo import loading
from zoo.data.classes import class_names
from zoo.errors import SpecError, TensorMismatchError, UnknownNameError, WeightsError, ZooError
from zoo.loading import ModelInfo, Network
from zoo.registry import Found
from zoo.spec import Preprocess
from zoo.verify import probe
from zoo_convert.arguments import Open, changed, open_arguments
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

_MOST = 16
"""Networks with several changed arguments that are tried."""

_SIDE = 96
"""The side of the images on which networks are compared, if it is not smaller and they take it."""


class Stated(msgspec.Struct, frozen=True):
    """Facts that the caller states about a checkpoint; they override those of the file, the key map and the model.

    ``args`` are arguments of the build function, ``preprocess`` fields of :class:`zoo.spec.Preprocess` (a single number
    in ``mean`` and ``std`` applies to every channel), ``classes`` the data set of the head's classes, ``origin`` the
    author of the weights. A ``trunk`` has no head: the network computes features. ``drop`` has patterns (globs) of the
    names of tensors to leave out.
    """

    args: Mapping[str, Any] = {}
    preprocess: Mapping[str, Any] = {}
    classes: str = ""
    origin: str = ""
    trunk: bool = False
    drop: tuple[str, ...] = ()


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
        self.args = {**match.model.args, **fitted.args}
        self.info = ModelInfo(match.model.name, match.model, None, None, preprocess, classes, (), self.args)
        self._match, self._about, self._stated = match, about, stated
        self._logits: Tensor | None = None

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
        """Returns the network's outputs for noise and a photograph that are the same for every reading, B K.

        They are small, if the network takes that.
        """
        if self._logits is None:
            preprocess = loading.for_channels(self._model.preprocess, self.in_chans)
            noise = torch.randn(1, *preprocess.input_size, generator=torch.Generator().manual_seed(0))
            images = torch.cat([noise, probe.picture_input(preprocess)])
            network = self.network()
            with torch.inference_mode():
                try:
                    self._logits = network(images[..., :_SIDE, :_SIDE]).float()
                except Exception:  # a network of one size may raise anything
                    self._logits = network(images).float()
        return self._logits

    def is_built_alike(self, other: "_Candidate") -> bool:
        mine, others = self.fitted.tensors, other.fitted.tensors
        return self.args == other.args and all(torch.equal(mine[key], others[key]) for key in mine)

    def changed(self, values: Mapping[str, Any]) -> "_Candidate | None":
        """Returns the candidate with other arguments; None unless its network has the same tensors and can be run."""
        fitted = changed(self.fitted, self._match, values)
        if fitted is None:
            return None
        candidate = _Candidate(fitted, self._match, self._about, self._stated)
        try:
            candidate.logits()
        except ZooError:
            return None
        except Exception:  # a plugin's code may raise anything with arguments that nobody tried
            return None
        return candidate

    def others(self, *, is_open: bool) -> tuple[list["_Candidate"], list[str]]:
        """Returns networks with the same tensors that compute another function, and all arguments that no tensor shows.

        Only if it ``is_open`` are the key map's arguments tried, too, and several arguments together.
        """
        stated = {*self._stated.args, *self._about.get("args", {})}
        if not is_open:
            stated |= self.fitted.key_map.args.keys()
        others: list[_Candidate] = []
        hidden: list[str] = []
        values: dict[str, list[Any]] = {}
        for argument in open_arguments(self._match, stated):
            different = self._differing(argument)
            if different:
                hidden.append(argument.name)
            if different and argument.is_settable:
                others += different
                values[argument.name] = [candidate.fitted.changed[argument.name] for candidate in different]
        rows = product(*([_UNCHANGED, *tried] for tried in values.values())) if is_open and len(values) > 1 else ()
        for row in islice(rows, _MOST):
            some = {key: value for key, value in zip(values, row, strict=True) if value is not _UNCHANGED}
            if len(some) > 1 and (candidate := self.changed(some)) is not None:
                others.append(candidate)
        return others, hidden

    def _differing(self, argument: Open) -> list["_Candidate"]:
        different: list[_Candidate] = []
        for value in argument.values:
            if argument.name in self.args and self.args[argument.name] == value:
                continue
            candidate = self.changed({argument.name: value})
            if candidate is not None and not any(
                _is_close(candidate.logits(), other.logits()) for other in (self, *different)
            ):
                different.append(candidate)
        return different

    def assume(self, hidden: list[str]) -> None:
        """Lists arguments that no tensor shows and nobody stated."""
        if hidden:
            shown = ", ".join(f"{key} {self.args.get(key, '(its default)')}" for key in hidden)
            self.assumed.append(f"{ARGUMENTS} (no tensor shows them): {shown}")


_UNCHANGED = object()


def choose(
    tried: list[Fitted],
    match: Found,
    about: Mapping[str, Any],
    stated: Stated,
    source: str,
    score: Score | None = None,
    prove: Prove | None = None,
    *,
    is_stated: bool = False,
) -> Choice:
    """Chooses the reading to use of those ``tried``: of several that compute the same function, the first.

    With ``prove``, only of those that pass. With ``score``, the one with the highest accuracy. Unless the key map
    ``is_stated``, or describes itself (:attr:`zoo.spec.KeyMap.shows_args`), its arguments are only one way among those
    that the tensors allow. Raises :class:`TensorMismatchError` if none fits, and :class:`WeightsError` if those that
    fit compute different functions and nothing decides.
    """
    by_name = [_Candidate(fitted, match, about, stated) for fitted in tried if fitted.problem is None]
    candidates = by_name if prove is None else [candidate for candidate in by_name if candidate.is_proven(prove)]
    hidden: list[str] = []
    if not about.get("model") and not any(_has_proof(candidate) for candidate in candidates):
        more: list[_Candidate] = []
        for candidate in by_name:
            is_open = not (is_stated or candidate.fitted.key_map.shows_args)
            others, names = candidate.others(is_open=is_open or candidate.fitted.problem is not None)
            hidden += [name for name in names if name not in hidden]
            if is_open or candidate.fitted.problem is not None:
                more += others if prove is None else [other for other in others if other.is_proven(prove)]
        candidates = [*candidates, *more]
    if not candidates:
        raise mismatch(tried, match)
    groups = _alike(candidates)
    scores: dict[str, Report] = {}
    if score is not None:
        for candidate in _to_score(groups):
            scores[candidate.fitted.label] = score(candidate.network())
    chosen = _best(candidates, groups, scores, source)
    name = chosen.fitted.label
    if not _has_proof(chosen):
        decided = {key for candidate in candidates for key in candidate.fitted.changed} if len(groups) > 1 else set()
        chosen.assume([key for key in hidden if key not in decided])
    listed = [*tried, *(candidate.fitted for candidate in candidates if candidate not in by_name)]
    if len(candidates) == 1:
        reason = "the only one that fits" if len(listed) > 1 else "asked for"
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
        readings=[_verdict(fitted, chosen, group, candidates, scores) for fitted in listed],
        reason=reason,
        score=scores.get(name),
    )


def _has_proof(candidate: _Candidate) -> bool:
    proof = candidate.fitted.proof
    return proof is not None and not proof.problem


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
            f"{source} as {choice.info.name} ({args}; key map {choice.fitted.label}) is right on "
            f"{choice.score.top1:.3f}% of {choice.score.dataset}/{choice.score.split}, less than {limit:g}%: "
            "nothing was written.",
            hint="An argument that no tensor shows may differ (--arg), or the preprocessing (--mean, --std, "
            "--preprocess). --at-least PERCENT accepts weights that score so little.",
        )


def _alike(candidates: list[_Candidate]) -> list[list[_Candidate]]:
    """Returns the candidates, grouped by the function that they compute."""
    groups: list[list[_Candidate]] = []
    for candidate in candidates:
        for group in groups:
            if candidate.is_built_alike(group[0]) or _is_close(candidate.logits(), group[0].logits()):
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
        scored = [candidate for candidate in candidates if candidate.fitted.label in scores]
        scored.sort(key=lambda candidate: -scores[candidate.fitted.label].top1)
        group = next(group for group in groups if scored[0] in group)
        others = [candidate for candidate in scored if candidate not in group]
        low = scores[scored[0].fitted.label].interval[0]
        if all(scores[other.fitted.label].interval[1] < low for other in others):
            return scored[0]
    lines = []
    for group in groups:
        fitted = min((candidate.fitted for candidate in group), key=lambda fitted: len(fitted.changed))
        key_map, args = fitted.key_map, {**group[0].info.model.args, **fitted.args}
        words = f"--from {key_map.name}" if not fitted.changed else ""
        words = words or " ".join(f"--arg {key}={_typed(value)}" for key, value in fitted.changed.items())
        score = next((scores[candidate.fitted.label] for candidate in group if candidate.fitted.label in scores), None)
        right = f" {score.correct} of {score.n} correct" if score else ""
        form = f": {key_map.origin}" if key_map.origin and not fitted.changed else ""
        shown = ", ".join(f"{key}={value!r}" for key, value in args.items())
        lines.append(f"  {words}  ({shown}){right}{form}")
    raise WeightsError(
        f"{source} can be converted in {len(groups)} ways that compute different functions; no tensor shows which:\n"
        + "\n".join(lines),
        hint="Select one with --from or --arg; in a manifest, with key_map or args. "
        + ("" if scores else "If you have its data set, --check DATA selects the one with the best score."),
    )


def _typed(value: Any) -> str:
    """Returns the value as the command line takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _verdict(
    fitted: Fitted,
    chosen: _Candidate,
    group: list[_Candidate],
    candidates: list[_Candidate],
    scores: "Mapping[str, Report]",
) -> Reading:
    name = fitted.label
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

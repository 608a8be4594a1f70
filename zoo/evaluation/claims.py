"""Compares measured scores with published ones, and with those of other trainings.

The question decides the method. Measured again on the same images, a score differs by rounding alone: the counts are
compared, and the images whose two best logits lie within rounding may differ; where answers are published, the images
that differ are named. On other images, or by another training, it differs by chance as well: Fisher's exact test of two
samples.
"""

from typing import Literal

import msgspec
import torch

from zoo.data.image_set import ImageSet
from zoo.evaluation.answers import AnswerSet
from zoo.evaluation.outputs import Outputs
from zoo.evaluation.score import OF_LABELS, Report, are_close, fingerprint_of, rounding_of
from zoo.manifest import Score
from zoo.statistics import LEVEL, fisher, wilson

Method = Literal["", "counts", "Fisher's exact test"]


class Difference(msgspec.Struct, frozen=True):
    """One image whose class is not the published one: its place in the data set, and the names of the three classes.

    ``is_close`` says whether its two best logits lie within rounding; None without logits.
    """

    image: int
    label: str
    published: str
    measured: str
    is_close: bool | None


class Comparison(msgspec.Struct, frozen=True):
    """Whether a measured score agrees with a claimed one, in words, by which method, and with which p-value.

    ``differences`` are the images whose class is not the published one; None if answers were not compared.
    """

    agrees: bool
    message: str
    method: Method = ""
    p: float | None = None
    differences: list[Difference] | None = None


def confirm(report: Report, data: ImageSet) -> Report:
    """Returns ``report``, which may be a plugin's word, with the numbers that follow from its counts, and from
    ``data``.

    Raises :class:`ValueError` if its counts are impossible or contradict its other values.
    """
    n, correct = report.n, report.correct
    if n != len(data) or not 0 <= correct <= n:
        raise ValueError(f"{correct} of {n} images correct, but there are {len(data)}")
    top1 = 100 * correct / n
    if not abs(report.top1 - top1) < 0.01:
        raise ValueError(f"top1 = {report.top1}, but {correct} of {n} correct images are {top1:.3f}%")
    for name in ("mean_class", "top5"):
        value = getattr(report, name)
        if value is not None and not 0 <= value <= 100:
            raise ValueError(f"{name} = {value}, expected 0 to 100")
    low, high = wilson(correct, n)
    return msgspec.structs.replace(
        report,
        dataset=data.name,
        split=data.split,
        fingerprint=fingerprint_of(data),
        top1=top1,
        interval=(100 * low, 100 * high),
    )


def left_in(claim: Score, data: ImageSet) -> torch.Tensor | None:
    """Returns the numbers of the images that ``claim`` is about, int64, if ``data`` also has those that it leaves
    out; None otherwise.
    """
    if not claim.without or len(data) != claim.n + len(claim.without) or claim.without[-1] >= len(data):
        return None
    is_in = torch.ones(len(data), dtype=torch.bool)
    is_in[list(claim.without)] = False
    return is_in.nonzero()[:, 0]


def differences(report: Report, outputs: Outputs, published: AnswerSet) -> list[Difference] | None:
    """Returns the images to which ``outputs``, with ``report``, give another class than the published one.

    None if they are of other images.
    """
    if report.fingerprint != published.fingerprint:
        return None
    predicted = outputs.ranked[:, 0].numpy()
    numbers = (predicted != published.predicted).nonzero()[0]
    close: list[bool | None] = [None] * len(numbers)
    if outputs.logits is not None and len(numbers):
        close = are_close(outputs.logits[numbers], rounding_of(report.device, report.dtype)).tolist()
    rows = []
    for number, is_close in zip(numbers.tolist(), close, strict=True):
        classes = (int(of[number]) for of in (published.labels, published.predicted, predicted))
        label, before, now = map(published.class_name, classes)
        rows.append(Difference(int(published.places[number]), label, before, now, is_close))
    return rows


def check(
    report: Report,
    claim: Score,
    *,
    allow_other_images: bool = False,
    is_another: bool = False,
    differing: list[Difference] | None = None,
) -> Comparison:
    """Returns whether a score agrees with ``claim``: one of the same network, unless it ``is_another``, as of another
    training or in int8.

    On the same images the counts must be equal, but for the images that are close; so must the answers, if
    ``differing``, the images whose class is not the published one, is known. Other images confirm nothing, unless
    ``allow_other_images``: then two samples are compared. So they are for another network, and if claim and report do
    not both name their pixels and have equally many images.
    """
    measured = f"measured top-1 {_share(report.correct, report.n)}"
    if report.stated_by:
        return Comparison(False, f"{measured}, by the account of {report.stated_by}, which saw the labels")
    if claim.top1 is None:
        return Comparison(False, f"{measured}; {claim.source} states no top-1 to compare with")
    if not is_another and report.fingerprint == claim.fingerprint and claim.fingerprint.startswith("sha256:"):
        comparison = _counts(report, claim)
        return comparison if differing is None else _answers(comparison, differing)
    comparison = _two_samples(report, claim)
    are_others, words = _other_images(report, claim)
    agrees = comparison.agrees
    if are_others and not allow_other_images:
        agrees = False
        words += ", so it is neither confirmed nor refuted"
    return msgspec.structs.replace(comparison, agrees=agrees, message=comparison.message + words)


def _two_samples(report: Report, claim: Score) -> Comparison:
    """Returns whether the scores of two samples, of images or of trainings, differ by no more than chance."""
    n = claim.n or report.n  # a claim may name no number
    p = fisher((report.correct, report.n), (round((claim.top1 or 0) * n / 100), n))
    agrees = p >= LEVEL
    message = (
        f"measured top-1 {_share(report.correct, report.n)}; claimed {claim.top1:.3f}% ({claim.source}): "
        f"{'agrees' if agrees else 'does not agree'}, Fisher's exact test of two samples, p = {p:.2g}"
    )
    return Comparison(agrees, message, "Fisher's exact test", p)


def _counts(report: Report, claim: Score) -> Comparison:
    difference = report.correct - claim.right
    close = report.close or 0
    agrees = abs(difference) <= close
    counts = f"measured {report.correct:,} of {report.n:,}, claimed {claim.right:,} ({claim.source})"
    if difference == 0:
        return Comparison(True, f"{counts}: the same count on the same images", "counts")
    far = f"{abs(difference):,} {'more' if difference > 0 else 'fewer'} on the same images"
    which = (
        "and without logits it is unknown for which of them rounding decides"
        if report.close is None
        else f"and for {close:,} of them the two best logits lie within rounding"
    )
    return Comparison(agrees, f"{counts}: {far}, {which}: {'agrees' if agrees else 'does not agree'}", "counts")


_SHOWN = 10
"""Images that a message names."""


def _answers(comparison: Comparison, differing: list[Difference]) -> Comparison:
    if not differing:
        message = f"{comparison.message}; each image has its published class"
        return msgspec.structs.replace(comparison, message=message, differences=differing)
    far = [row for row in differing if not row.is_close]
    shown = sorted(differing, key=lambda row: bool(row.is_close))[:_SHOWN]
    named = [f"{row.image} ({row.published}, now {row.measured})" for row in shown]
    more = [f"{len(differing) - _SHOWN:,} more"] if len(differing) > _SHOWN else []
    message = (
        f"{comparison.message}; of {len(differing):,} images the class is not the published one, and "
        f"{'rounding explains each' if not far else f'rounding does not explain {len(far):,}'}: "
        f"{', '.join(named + more)}"
    )
    return msgspec.structs.replace(
        comparison, agrees=comparison.agrees and not far, message=message, differences=differing
    )


def _other_images(report: Report, claim: Score) -> tuple[bool, str]:
    """Returns whether the images are known to be others, and in words."""
    are_others = claim.n not in (0, report.n)
    message = f"; the claim is on {claim.n:,} images, this score on {report.n:,}" if are_others else ""
    names_labels = [fingerprint.startswith(OF_LABELS) for fingerprint in (claim.fingerprint, report.fingerprint)]
    if claim.fingerprint and names_labels[0] != names_labels[1]:
        message += "; images were not compared, because only one of the fingerprints covers pixels"
    elif claim.fingerprint and claim.fingerprint != report.fingerprint:
        message += f"; the claim is on other images ({claim.fingerprint[:19]}, got {report.fingerprint[:19]})"
        are_others = True
    return are_others, message


def _share(correct: int, n: int) -> str:
    return f"{100 * correct / n:.3f}% ({correct:,} of {n:,})"

"""Compares measured scores with published ones."""

import msgspec

from zoo.data.image_set import ImageSet
from zoo.evaluation.score import OF_LABELS, Report, fingerprint_of
from zoo.manifest import Score
from zoo.manifest.schema import wilson


class Comparison(msgspec.Struct, frozen=True):
    """Whether a measured score agrees with a claimed one, and in words."""

    agrees: bool
    message: str


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


def check(report: Report, claim: Score, *, allow_other_images: bool = False) -> Comparison:
    """Returns whether the claimed top-1 lies within the measured interval, on the images that the claim is about.

    Other images confirm nothing, unless ``allow_other_images``: then the numbers alone are compared. Where
    claim and report do not both name their pixels, their counts of images tell.
    """
    low, high = report.interval
    measured = f"measured top-1 {report.top1:.3f}% ({report.correct} of {report.n}), 95% [{low:.3f}, {high:.3f}]"
    if report.stated_by:
        return Comparison(False, f"{measured}, by the account of {report.stated_by}, which saw the labels")
    if claim.top1 is None:
        return Comparison(False, f"{measured}; {claim.source} states no top-1 to compare with")
    agrees = low <= claim.top1 <= high
    message = f"{measured}; claimed {claim.top1:.3f}% ({claim.source}): {'agrees' if agrees else 'does not agree'}"
    are_others = claim.n != report.n
    if are_others:
        message += f"; the published score is on {claim.n:,} images, this one on {report.n:,}"
    names_labels = [fingerprint.startswith(OF_LABELS) for fingerprint in (claim.fingerprint, report.fingerprint)]
    if claim.fingerprint and names_labels[0] != names_labels[1]:
        message += "; images were not compared, because only one of the fingerprints covers pixels"
    elif claim.fingerprint and claim.fingerprint != report.fingerprint:
        message += f"; the published score is on other images ({claim.fingerprint[:19]}, got {report.fingerprint[:19]})"
        are_others = True
    if are_others and not allow_other_images:
        message += ", so it is neither confirmed nor refuted"
        agrees = False
    return Comparison(agrees, message)

"""Whether a network is right as often as it is certain: calibration errors, and the temperature that lowers them.

Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017.
"""

import math
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo import data as datasets
from zoo.data.image_set import ImageSet, hold_out, stratified_split
from zoo.errors import DataError, FileFormatError
from zoo.evaluation import hook
from zoo.evaluation.agreement import BINS
from zoo.evaluation.outputs import Outputs, read_outputs
from zoo.evaluation.score import OF_LABELS, check_classes, fingerprint_of_labels
from zoo.loading import ModelInfo, safetensors_file
from zoo.loading.create import as_network, info_of, require_classes

MEASURES = ("nll", "ece", "brier")
"""Mean cross-entropy in nats, expected calibration error, Brier score (summed over classes, in [0, 2])."""

_SAMPLES, _AT_ONCE = 1000, 50
_LIMIT = 100.0
"""The largest temperature that is considered, and the reciprocal of the smallest."""


class Measure(msgspec.Struct, frozen=True):
    """One measure with the temperatures 1 (``before``) and fitted (``after``), and their difference ``change``.

    The intervals are 95% bootstrap intervals over images; that of the change is over the same images in both.
    """

    name: str
    before: float
    before_interval: tuple[float, float]
    after: float
    after_interval: tuple[float, float]
    change: float
    change_interval: tuple[float, float]


class Calibration(msgspec.Struct, frozen=True):
    """A temperature that was fitted on ``fitted_on`` images, and its effect on ``n`` others."""

    temperature: float
    fitted_on: int
    n: int
    correct: int
    measures: list[Measure]


def calibration_error(logits: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Returns the expected calibration error: how far accuracy and confidence differ on average.

    Images are put into bins of equal width by the probability of their likeliest class. The error is the mean of the
    differences between the share of correct images and the mean probability of each bin, weighted by its images.

    Args:
        logits: float N K.
        labels: int64 N.
        bins: The number of bins.

    Returns:
        The error, in [0, 1].

    Example:
        >>> import torch, zoo
        >>> logits = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
        >>> round(zoo.evaluation.calibration_error(logits, torch.tensor([0, 1])), 4)
        0.3808
    """
    return float(_gaps(logits, labels, bins).mean(dim=0).abs().sum())


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Returns the temperature by which logits are divided so that their cross-entropy is least.

    Fit it on images that were neither trained on nor are used to report the result.

    Args:
        logits: float N K.
        labels: int64 N.

    Returns:
        The temperature: above 1 if the network is too certain.

    Raises:
        DataError: No temperature from 0.01 to 100 is best, for example because all images are correct.

    Example:
        >>> import torch, zoo
        >>> logits = torch.tensor([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [4.0, 0.0]])
        >>> round(zoo.evaluation.fit_temperature(logits, torch.tensor([0, 0, 0, 1])), 3)
        3.641
    """
    logits = logits.double()
    of_label = logits.gather(1, labels[:, None])[:, 0]

    def slope(scale: float) -> float:
        """Returns the derivative of the cross-entropy by 1 / temperature, which grows with it."""
        return float(((logits * scale).softmax(dim=1) * logits).sum(dim=1).mean() - of_label.mean())

    low, high = 1 / _LIMIT, _LIMIT
    if not slope(low) < 0 < slope(high):
        right = int((logits.argmax(dim=1) == labels).sum())
        raise DataError(
            f"The cross-entropy of {len(labels):,} images, {right:,} of them correct, is not least at any temperature "
            f"from {1 / _LIMIT:g} to {_LIMIT:g}.",
            hint="Fit on more images, some of which the network classifies wrongly.",
        )
    for _ in range(50):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / math.sqrt(low * high)


def calibrate(held_out: tuple[Tensor, Tensor], others: tuple[Tensor, Tensor], *, seed: int = 0) -> Calibration:
    """Fits a temperature on some images and measures its effect on others.

    Args:
        held_out: The logits, float N K, and labels, int64 N, of the images to fit on.
        others: Those of the images to report on.
        seed: Of the bootstrap.

    Returns:
        The temperature, and cross-entropy, calibration error and Brier score before and after.

    Raises:
        DataError: There is no best temperature: see :func:`fit_temperature`.

    Example:
        >>> import torch, zoo
        >>> logits, labels = 9 * torch.eye(3).repeat(40, 1), torch.arange(120) % 3
        >>> labels[::5] = 0
        >>> found = zoo.evaluation.calibrate((logits[:60], labels[:60]), (logits[60:], labels[60:]))
        >>> [measure.name for measure in found.measures if measure.after < measure.before]
        ['nll', 'ece', 'brier']
    """
    temperature = fit_temperature(*held_out)
    logits, labels = others
    parts = torch.cat([_parts(logits / scale, labels) for scale in (1.0, temperature)], dim=1)
    whole, samples = parts.mean(dim=0, keepdim=True), _resampled(parts, seed)
    half = parts.shape[1] // 2
    values = [_measures(sums[:, side]) for sums in (whole, samples) for side in (slice(half), slice(half, None))]
    measures = []
    for name in MEASURES:
        before, after, befores, afters = (found[name] for found in values)
        measures.append(
            Measure(
                name,
                *(float(before), _interval(befores)),
                *(float(after), _interval(afters)),
                *(float(after - before), _interval(afters - befores)),
            )
        )
    correct = int((logits.argmax(dim=1) == labels).sum())
    return Calibration(temperature, len(held_out[1]), len(labels), correct, measures)


def measures_of(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Returns each of ``MEASURES`` for the images with these logits, float N K, and labels, int64 N."""
    found = _measures(_parts(logits, labels).mean(dim=0, keepdim=True))
    return {name: float(value) for name, value in found.items()}


def _parts(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns what each image adds to the means that the measures follow from, float64 N 2 + bins.

    Cross-entropy, squared error of the probabilities, and, in the column of its bin, correct (0 or 1) less confidence.
    """
    logits = logits.double()
    probabilities = logits.softmax(dim=1)
    nll = F.cross_entropy(logits, labels, reduction="none")
    brier = (probabilities - F.one_hot(labels, logits.shape[1])).square().sum(dim=1)
    return torch.cat([nll[:, None], brier[:, None], _gaps(logits, labels, BINS)], dim=1)


def _measures(means: Tensor) -> dict[str, Tensor]:
    """Returns the measures that follow from S means of parts, S 2 + bins."""
    return dict(zip(MEASURES, (means[:, 0], means[:, 2:].abs().sum(dim=1), means[:, 1]), strict=True))


def _gaps(logits: Tensor, labels: Tensor, bins: int) -> Tensor:
    confidence, predicted = logits.double().softmax(dim=1).max(dim=1)
    column = (confidence * bins).ceil().long().clamp(1, bins) - 1  # a bin has its upper end
    gaps = torch.zeros(len(labels), bins, dtype=torch.float64)
    return gaps.scatter_(1, column[:, None], ((predicted == labels).double() - confidence)[:, None])


def _resampled(parts: Tensor, seed: int) -> Tensor:
    """Returns the means of ``parts`` over images drawn with replacement, as often as the bootstrap draws them."""
    generator = torch.Generator().manual_seed(seed)
    n, means = len(parts), []
    for _ in range(_SAMPLES // _AT_ONCE):
        numbers = torch.randint(n, (_AT_ONCE, n), generator=generator)
        counts = torch.zeros(_AT_ONCE, n, dtype=torch.float64)
        counts.scatter_add_(1, numbers, torch.ones(1, dtype=torch.float64).expand_as(numbers))
        means.append(counts @ parts / n)
    return torch.cat(means)


def _interval(samples: Tensor) -> tuple[float, float]:
    low, high = samples.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


_SALT = "calibrate"


def calibrate_file(file: Path, count: int) -> tuple[Calibration, str]:
    """Fits a temperature on ``count`` images of a file of outputs, and reports on the others; and what they are.

    Raises :class:`FileFormatError` for a file without logits, DataError as :func:`calibrate`.
    """
    stored = read_outputs(file)
    logits = stored.outputs.logits
    if logits is None:
        raise FileFormatError(f"{file} has classes and no logits, so there is nothing to calibrate.")
    rest, chosen = stratified_split(stored.labels, count, _SALT)
    sides = [(logits[part], stored.labels[part]) for part in (chosen, rest)]
    report = stored.about.report
    return calibrate(sides[0], sides[1]), f"{count:,} images of {report.dataset}/{report.split}, the others measured"


def calibrate_network(
    name: str, data: str | None, split: str, count: int | None, **options: Any
) -> tuple[Calibration, str]:
    """Fits a temperature for a network; and on which images.

    These are the images that the weights' own training held out, or ``count`` images of the split. The effect is
    measured on the split, without the latter.

    Args:
        name: Weights, or a model for its default weights.
        data: A data set's name or path. By default the one whose classes the weights know.
        split: The split to report on.
        count: How many images of the split to fit on. By default those that the training held out.
        options: ``weights``, as for :func:`zoo.evaluate`, and options of the model's evaluate hook.

    Raises:
        DataError: The training held out no images and ``count`` is None, or see :func:`calibrate`.
        PluginError: The model's evaluate hook returns no logits.
    """
    model = as_network(name, weights=options.pop("weights", None))
    info = info_of(model)
    require_classes(model)
    images = check_classes(model, datasets.load(data or info.classes, split))
    if count is None:
        held_out = images_held_out(info)
        source = f"{len(held_out):,} images of {held_out.name} that training held out"
    else:
        images, held_out = hold_out(images, count, 0)
        source = f"{count:,} images of {images.name}/{split}, the others measured"

    def logits_of(images: ImageSet) -> tuple[Tensor, Tensor]:
        collected: list[Outputs] = []
        hook.evaluate(info.model, model, images, preprocess=info.preprocess, take=collected.append, **options)
        logits = collected[0].logits
        if logits is None:
            raise DataError(f"{info.name} is scored by classes and has no logits, so there is nothing to calibrate.")
        return torch.as_tensor(logits), images.labels

    return calibrate(logits_of(held_out), logits_of(images)), source


def images_held_out(info: ModelInfo) -> ImageSet:
    """Returns the images that the training of these weights held out, according to their run record.

    Raises :class:`DataError` if there are none, or if the data set here has others.
    """
    hint = "--hold-out N fits on N images of the split, and reports on the others."
    try:
        assert info.file is not None
        run = safetensors_file.metadata(info.file)["run"]
        validation, trained, recipe = run["data"]["validation"], run["data"]["train"], run["recipe"]
        if recipe["validation"]:
            images = datasets.load(str(trained["name"]), str(trained["split"]))
            _, images = hold_out(images, int(recipe["validation"]), int(recipe["seed"]))
        else:
            images = datasets.load(str(validation["name"]), str(validation["split"]))
        expected = str(validation["fingerprint"])
    except (AssertionError, LookupError, TypeError, ValueError):
        raise DataError(
            f"No images were held out when {info.name} was trained, as far as its file says.", hint=hint
        ) from None
    got = fingerprint_of_labels(images) if expected.startswith(OF_LABELS) else images.fingerprint
    if got != expected:
        raise DataError(
            f"{info.name} was trained without {expected[:19]}; held out of {images.name} here are {got[:19]}.",
            hint=hint,
        )
    return images

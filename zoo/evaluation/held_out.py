"""Calibration by name: which images a temperature is fitted on, and which it is reported on."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo import data as datasets
from zoo.creation import as_network, info_of, require_classes
from zoo.data.image_set import ImageSet, hold_out, stratified_split
from zoo.errors import DataError, FileFormatError
from zoo.evaluation import hook
from zoo.evaluation.calibration import Calibration, calibrate
from zoo.evaluation.measured import OF_LABELS, fingerprint_of_labels
from zoo.evaluation.outputs import Outputs
from zoo.evaluation.score import check_classes
from zoo.evaluation.stored_outputs import read_outputs
from zoo.loading import ModelInfo, safetensors_file

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
    images = datasets.load(data or info.classes, split)
    check_classes(model, images)
    if count is None:
        held = images_held_out(info)
        said = f"{len(held):,} images of {held.name} that training held out"
    else:
        images, held = hold_out(images, count, 0)
        said = f"{count:,} images of {images.name}/{split}, the others measured"

    def logits_of(part: ImageSet) -> tuple[Tensor, Tensor]:
        found: list[Outputs] = []
        hook.evaluate(info.model, model, part, preprocess=info.preprocess, take=found.append, **options)
        logits = found[0].logits
        if logits is None:
            raise DataError(f"{info.name} is scored by classes and has no logits, so there is nothing to calibrate.")
        return torch.as_tensor(logits), part.labels

    return calibrate(logits_of(held), logits_of(images)), said


def images_held_out(info: ModelInfo) -> ImageSet:
    """The images that the training of these weights held out, according to their run record.

    Raises :class:`DataError` if there are none, or if the data set here has others.
    """
    hint = "--hold-out N fits on N images of the split, and reports on the others."
    try:
        assert info.file is not None
        run = safetensors_file.metadata(info.file)["run"]
        held, trained, recipe = run["data"]["validation"], run["data"]["train"], run["recipe"]
        if recipe["validation"]:
            images = datasets.load(str(trained["name"]), str(trained["split"]))
            _, images = hold_out(images, int(recipe["validation"]), int(recipe["seed"]))
        else:
            images = datasets.load(str(held["name"]), str(held["split"]))
        expected = str(held["fingerprint"])
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

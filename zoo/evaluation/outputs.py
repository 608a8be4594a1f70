"""Answers of an evaluate hook, logits or classes; the mistakes among them; and the files that keep them.

A file stores logits in float16, each row less its largest, which is stored in float32: what decides a softmax is near
the largest and loses least. The likeliest classes are stored as the network ranked them, so that rounding changes no
count of correct images.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor, nn

from zoo.data.image_set import ImageSet
from zoo.data.preprocess import Transform
from zoo.errors import FileFormatError
from zoo.evaluation.forward import batches, device_of, in_eval_mode, precision_of
from zoo.evaluation.score import TOP, Report, Tally, provenance, rounding_of
from zoo.loading import safetensors_file
from zoo.spec import Preprocess
from zoo.system import storage


class Mistake(NamedTuple):
    """Image ``number``, its class, and the class that the network gives the highest ``probability``, if known."""

    number: int
    true: int
    predicted: int
    probability: float | None


class Answers(NamedTuple):
    """``confusion``, int64 K K, counts images by true and by predicted class; ``mistakes``, most certain first."""

    confusion: Tensor
    mistakes: list[Mistake]


def find_mistakes(
    model: nn.Module, data: ImageSet, *, preprocess: Preprocess, is_bfloat16: bool = False, batch_size: int = 256
) -> Answers:
    """Returns the answers of ``model``, where it is, to all images of ``data``."""
    device = device_of(model)
    predicted: list[Tensor] = []
    probabilities: list[Tensor] = []
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=is_bfloat16)
    with in_eval_mode(model), torch.inference_mode(), autocast:
        for images, _ in batches(data, Transform(preprocess), batch_size):
            logits = model(images.to(device, memory_format=torch.channels_last)).float().cpu()
            best = logits.softmax(dim=1).max(dim=1)
            predicted.append(best.indices)
            probabilities.append(best.values)
    return answers(torch.cat(predicted), torch.cat(probabilities), data.labels, len(data.classes))


def answers(predicted: Tensor, probabilities: Tensor | None, labels: Tensor, classes: int) -> Answers:
    """Returns the classes ``predicted``, int64 N, with their ``probabilities``, float32 N, against ``labels``.

    Without probabilities, mistakes are in the order of the images.
    """
    confusion = torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes)
    wrong = (predicted != labels).nonzero()[:, 0]
    certain = [None] * len(wrong) if probabilities is None else probabilities[wrong].tolist()
    columns = zip(wrong.tolist(), labels[wrong].tolist(), predicted[wrong].tolist(), certain, strict=True)
    mistakes = [Mistake(*row) for row in columns]
    mistakes.sort(key=lambda mistake: -(mistake.probability or 0.0))
    return Answers(confusion, mistakes)


class Outputs(NamedTuple):
    """The answers to N images: classes, int64 N k, the likeliest first; and its logits, float32 N K, if known."""

    ranked: Tensor
    logits: Tensor | None

    @classmethod
    def of(cls, logits: Tensor) -> "Outputs":
        """Returns the outputs whose logits, float32 N K, are ``logits``."""
        return cls(logits.topk(min(TOP, logits.shape[1]), dim=1).indices, logits)

    @classmethod
    def together(cls, batches: "list[Outputs]") -> "Outputs":
        """Returns the outputs of all ``batches``, in order."""
        logits = [batch.logits for batch in batches if batch.logits is not None]
        return cls(torch.cat([batch.ranked for batch in batches]), torch.cat(logits) if logits else None)

    def subset(self, indices: Tensor) -> "Outputs":
        """Returns those to the images ``indices``, int64."""
        return Outputs(self.ranked[indices], None if self.logits is None else self.logits[indices])

    def mistakes(self, data: ImageSet) -> Answers:
        """Returns the confusion matrix and the mistakes; raises :class:`ValueError` for a class that ``data`` does
        not have.
        """
        if (highest := int(self.ranked[:, 0].max())) >= len(data.classes):
            raise ValueError(f"class {highest} is predicted, but {data.name} has {len(data.classes)} classes")
        probabilities = None if self.logits is None else self.logits.softmax(dim=1).max(dim=1).values
        return answers(self.ranked[:, 0], probabilities, data.labels, len(data.classes))

    def report(
        self, model: nn.Module, data: ImageSet, seconds: float, options: dict[str, Any], command: str = ""
    ) -> Report:
        """Returns the report; ``options`` are those of the hook."""
        device, precision = options.get("device") or device_of(model), precision_of(options.get("dtype"))
        tally = Tally(len(data.classes), rounding_of(device, precision))
        if self.logits is None:
            tally.add_classes(self.ranked, data.labels)
        else:
            tally.add_logits(self.logits, data.labels)
        return Report(
            **provenance(model, data, tally.done, command=command),
            **tally.scores(),
            images_per_s=tally.done / seconds,
            seconds=seconds,
            device=str(device),
            dtype=precision,
        )


_OF_LABELS = ("labels", "identities", "fingerprint", "subset")


class Watched(ImageSet):
    """An image set whose ``are_labels_read`` says whether anyone asked for its labels, or for what they are part of."""

    are_labels_read = False

    @classmethod
    def of(cls, images: ImageSet) -> "Watched":
        """Returns ``images``, watched."""
        watched = cls.__new__(cls)
        vars(watched).update(vars(images))  # they are checked already
        return watched

    def __len__(self) -> int:
        return len(vars(self)["labels"])

    def __getattribute__(self, name: str) -> Any:
        if name in _OF_LABELS:
            object.__setattr__(self, "are_labels_read", True)
        return super().__getattribute__(name)


def read(returned: object, data: ImageSet) -> Outputs:
    """Returns what a hook returned for ``data``; raises :class:`ValueError` unless it is logits or classes of each
    image.
    """
    try:
        values = torch.as_tensor(returned).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"returned {type(returned).__name__}, expected {_EXPECTED}") from None
    is_logits = values.is_floating_point() and values.ndim == 2
    is_classes = values.dtype in _INTEGERS and values.ndim in (1, 2)
    if not (is_logits or is_classes) or len(values) != len(data) or not values.numel():
        raise ValueError(
            f"returned {values.dtype} of shape {tuple(values.shape)} for {len(data):,} images, expected {_EXPECTED}"
        )
    if is_classes:
        if int(values.min()) < 0:
            raise ValueError(f"returned the class {int(values.min())}, expected numbers from 0 on")
        return Outputs(values.long().view(len(data), -1), None)
    if not values.isfinite().all():
        raise ValueError("returned logits that contain NaN or infinity")
    if int(data.labels.max()) >= values.shape[1]:
        raise ValueError(f"returned logits of {values.shape[1]} classes for labels up to {int(data.labels.max())}")
    return Outputs.of(values.float())


_EXPECTED = "logits (images, classes), or one class an image as integers, or its classes with the likeliest first"
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


VERSION = 1
_LEAST = -65504.0
"""The smallest finite float16: the probability of such a class is 0 in any precision."""


class About(msgspec.Struct, frozen=True):
    """The description of outputs: ``sha256`` is that of the weights, ``report`` what the network scored."""

    version: int
    sha256: str
    classes: tuple[str, ...]
    report: Report


class StoredOutputs(NamedTuple):
    """Outputs with the ``labels`` of their images, int64 N, and their ``identities``, uint8 N 32.

    An identity is the sha256 of an image's size, label and pixels (:attr:`zoo.data.ImageSet.identities`).
    """

    about: About
    outputs: Outputs
    labels: Tensor
    identities: Tensor


def write_outputs(file: Path, outputs: Outputs, data: ImageSet, report: Report, sha256: str) -> None:
    """Writes ``outputs`` for the images ``data`` to ``file``; ``sha256`` is that of the weights."""
    tensors = {
        "ranked": outputs.ranked.to(torch.int32),
        "labels": data.labels.to(torch.int32),
        "identities": data.identities,
    }
    if outputs.logits is not None:
        largest = outputs.logits.max(dim=1).values
        tensors["largest"] = largest
        tensors["logits"] = (outputs.logits - largest[:, None]).clamp(min=_LEAST).half()
    about = About(VERSION, sha256, tuple(data.classes), report)
    safetensors_file.write(tensors, file, {"outputs": msgspec.to_builtins(about)})


def read_outputs(file: str | Path) -> StoredOutputs:
    """Reads a file that :func:`zoo.evaluate` wrote (``outputs``).

    Args:
        file: The file.

    Returns:
        The outputs, labels and identities, and what they are.

    Raises:
        FileFormatError: The file has other contents.
        WeightsError: The file cannot be read.

    Example:
        >>> import zoo
        >>> report = zoo.evaluate("resnet20.digits", "digits", outputs="outputs.safetensors")
        >>> stored = zoo.evaluation.read_outputs("outputs.safetensors")
        >>> stored.outputs.logits.shape, stored.about.report == report
        (torch.Size([360, 10]), True)
    """
    file = Path(file)
    tensors = safetensors_file.read(file)
    try:
        about = msgspec.convert(safetensors_file.metadata(file)["outputs"], About)
        if about.version != VERSION:
            raise ValueError(f"version {about.version} is not {VERSION}: it was written by another version of Zoo")
        return _checked(about, tensors)
    except (KeyError, ValueError) as error:  # msgspec's errors are ValueErrors
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise FileFormatError(
            f"{file}: not a file of outputs: {reason}.", hint="zoo evaluate NAME --data D --outputs FILE writes one."
        ) from None


def _checked(about: About, tensors: dict[str, Tensor]) -> StoredOutputs:
    ranked, labels, identities = (tensors[name] for name in ("ranked", "labels", "identities"))
    n, classes = about.report.n, len(about.classes)
    logits = tensors.get("logits")
    shapes = {
        "ranked": (ranked, (n, *ranked.shape[1:2])),
        "labels": (labels, (n,)),
        "identities": (identities, (n, 32)),
    }
    if logits is not None:
        shapes |= {"logits": (logits, (n, *logits.shape[1:2])), "largest": (tensors["largest"], (n,))}
    for name, (tensor, shape) in shapes.items():
        if tuple(tensor.shape) != shape or 0 in shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {n} rows")
    columns = classes if logits is None else logits.shape[1]
    for name, tensor, limit in (("ranked", ranked, max(columns, classes)), ("labels", labels, min(columns, classes))):
        if tensor.is_floating_point() or int(tensor.min()) < 0 or int(tensor.max()) >= limit:
            raise ValueError(f"{name} are not numbers of {limit} classes")
    if logits is not None:
        logits = logits.float() + tensors["largest"].float()[:, None]
        if not logits.isfinite().all():
            raise ValueError("logits contain NaN or infinity")
    return StoredOutputs(about, Outputs(ranked.long(), logits), labels.long(), identities)


def write_mistakes(folder: Path, images: ImageSet, answers: Answers) -> None:
    """Writes ``confusion.csv`` and ``mistakes.csv`` for the ``answers`` to ``images``.

    A class that no image has and no answer names is left out of the matrix: photographs of three of ImageNet's classes
    do not need 1,000 columns.
    """
    names = images.classes
    present = (answers.confusion.sum(0) + answers.confusion.sum(1)).nonzero()[:, 0]
    titles = [names[number] for number in present.tolist()]
    counts = zip(titles, answers.confusion[present][:, present].tolist(), strict=True)
    storage.replace(folder / "confusion.csv", _table(["true", *titles], ([name, *row] for name, row in counts)))
    wrong = (
        [images.where(number), names[true], names[predicted], "" if probability is None else f"{probability:.4f}"]
        for number, true, predicted, probability in answers.mistakes
    )
    storage.replace(folder / "mistakes.csv", _table(["file", "true", "predicted", "probability"], wrong))


def _table(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([titles, *rows])
    return text.getvalue().encode(errors="surrogateescape")

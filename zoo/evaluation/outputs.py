"""What an evaluate hook returns: logits or classes, which the core scores. And what it gets at contract 1."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo.data.image_set import ImageSet
from zoo.evaluation.forward import device_of, precision_of
from zoo.evaluation.measured import provenance
from zoo.evaluation.mistakes import Answers, answers
from zoo.evaluation.score import Report
from zoo.evaluation.tally import TOP, Tally


class Outputs(NamedTuple):
    """For each of N images its classes, int64 N k, the likeliest first; and its logits, float32 N K, if known."""

    ranked: Tensor
    logits: Tensor | None

    @classmethod
    def of(cls, logits: Tensor) -> "Outputs":
        """The outputs whose logits, float32 N K, are ``logits``."""
        return cls(logits.topk(min(TOP, logits.shape[1]), dim=1).indices, logits)

    @classmethod
    def together(cls, batches: "list[Outputs]") -> "Outputs":
        """The outputs of all ``batches``, in order."""
        logits = [batch.logits for batch in batches if batch.logits is not None]
        return cls(torch.cat([batch.ranked for batch in batches]), torch.cat(logits) if logits else None)

    def mistakes(self, data: ImageSet) -> Answers:
        """The confusion matrix and the mistakes; raises :class:`ValueError` for a class that ``data`` does not have."""
        if (highest := int(self.ranked[:, 0].max())) >= len(data.classes):
            raise ValueError(f"class {highest} is predicted, but {data.name} has {len(data.classes)} classes")
        probabilities = None if self.logits is None else self.logits.softmax(dim=1).max(dim=1).values
        return answers(self.ranked[:, 0], probabilities, data.labels, len(data.classes))

    def report(
        self, model: nn.Module, data: ImageSet, seconds: float, options: dict[str, Any], command: str = ""
    ) -> Report:
        """The report; ``options`` are those of the hook."""
        tally = Tally(len(data.classes))
        if self.logits is None:
            tally.add_classes(self.ranked, data.labels)
        else:
            tally.add_logits(self.logits, data.labels)
        return Report(
            **provenance(model, data, tally.done, command=command),
            **tally.scores(),
            images_per_s=tally.done / seconds,
            seconds=seconds,
            device=str(options.get("device") or device_of(model)),
            dtype=precision_of(options.get("dtype")),
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


def read(found: object, data: ImageSet) -> Outputs:
    """What a hook returned for ``data``; raises :class:`ValueError` unless it is logits or classes of each image."""
    try:
        values = torch.as_tensor(found).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"returned {type(found).__name__}, expected {_EXPECTED}") from None
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

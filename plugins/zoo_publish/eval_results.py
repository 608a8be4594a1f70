"""The scores of a release as the Hugging Face Hub reads them: ``model-index`` of the card, ``.eval_results/*.yaml``.

https://github.com/huggingface/hub-docs has both formats: ``modelcard.md`` and ``eval_results.yaml``. Both are written
from the manifest's scores.
"""

from typing import TYPE_CHECKING

from zoo.manifest import Score, Weights
from zoo.manifest.schema import percent_interval

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

FILE = ".eval_results/zoo.yaml"

_TASK = "image-classification"
_HF = "hf:"
_ON_HUB = {
    "cifar10": "uoft-cs/cifar10",
    "mnist": "ylecun/mnist",
    "fashion_mnist": "zalando-datasets/fashion_mnist",
    "imagenet": "ILSVRC/imagenet-1k",
}
"""The Hub's names of data sets that Zoo knows under its own."""


def hub_name(dataset: str) -> str:
    """Returns the name of a data set on the Hub, empty if it is not there."""
    if dataset.startswith(_HF):
        return dataset.removeprefix(_HF).partition(":")[0]
    return _ON_HUB.get(dataset, "")


def model_index(entry: Weights) -> "list[EvalResult]":
    """Returns all scores of ``entry``: the card's results."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=_TASK,
            task_name="Image classification",
            dataset_type=hub_name(dataset) or dataset,
            dataset_name=dataset,
            dataset_split=split,
            metric_type="accuracy",
            metric_name=name,
            metric_value=_share(value),
        )
        for dataset, split, score in _scores(entry)
        for name, value in (("top-1 accuracy", score.top1), ("top-5 accuracy", score.top5))
        if value is not None
    ]


def render(entry: Weights) -> bytes:
    """Returns the file of evaluation results, with the top-1 on each data set of the Hub; empty if there is none."""
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
    from huggingface_hub.utils import yaml_dump  # type: ignore[attr-defined]  # imported there without a type

    entries = [
        EvalResultEntry(
            dataset_id=hub_name(dataset), task_id=_TASK, value=_share(score.top1), notes=_notes(split, score)
        )
        for dataset, split, score in _scores(entry)
        if hub_name(dataset) and score.top1 is not None
    ]
    return yaml_dump(eval_result_entries_to_yaml(entries)).encode() if entries else b""


def _scores(entry: Weights) -> list[tuple[str, str, Score]]:
    return [(where.rpartition("/")[0], where.rpartition("/")[2], score) for where, score in entry.scores.items()]


def _share(percent: float) -> float:
    return round(percent / 100, 6)


def _notes(split: str, score: Score) -> str:
    """Returns what the value is of: the format has no field for the split, the number of images or an interval."""
    interval = percent_interval(score.top1 or 0.0, score.n, score.correct)
    facts = [f"top-1 accuracy on {split}, {score.n:,} images"]
    facts += [f"95% interval {interval[0] / 100:.4f} to {interval[1] / 100:.4f}"] if interval else []
    return ", ".join([*facts, *filter(None, (score.fingerprint, score.command or score.source))])

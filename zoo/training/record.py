"""What a run writes down of itself."""

from hashlib import sha256
from typing import Any

import msgspec
import torch
from torch import nn

from zoo.data.images import ImageSet
from zoo.evaluation import versions
from zoo.spec import Preprocess
from zoo.training.inputs import TrainingData
from zoo.training.recipe import Recipe
from zoo.training.run import Run


def describe(
    model: nn.Module, data: TrainingData, recipe: Recipe, preprocess: Preprocess, run: Run, device: torch.device
) -> dict[str, Any]:
    """The run's config.json: all that it takes to train this again, and where it was done."""
    info = getattr(model, "zoo_info", None)
    sets = {"train": data.train, "validation": data.validation}
    return {
        "model": info.model.name if info is not None else type(model).__name__,
        "args": msgspec.to_builtins(getattr(info, "args", {})),
        "recipe": msgspec.to_builtins(recipe),
        "data": {
            role: {"name": images.name, "split": images.split, "n": len(images), "fingerprint": _fingerprint(images)}
            for role, images in sets.items()
            if images is not None
        },
        "preprocess": msgspec.to_builtins(preprocess),
        "versions": versions(),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "command": run.command,
    }


def _fingerprint(images: ImageSet) -> str:
    """Of resident images the whole; of others, which would take a decoding of all, their labels' alone."""
    if images.pixels is not None:
        return images.fingerprint
    return f"labels sha256:{sha256(images.labels.numpy().tobytes()).hexdigest()}"

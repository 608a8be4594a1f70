"""A training that takes a second: its data, its network, its recipe."""

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from zoo.data import ImageSet
from zoo.data.augmentation import Augmentation
from zoo.spec import Preprocess
from zoo.training import Recipe, Run, split, train
from zoo.training.run import Silent

PREPROCESS = Preprocess(input_size=(1, 8, 8), crop_pct=1.0, mean=(0.3,), std=(0.4,))


RECIPE = Recipe(
    epochs=4, batch_size=16, lr=0.05, ema=0.9, warmup_epochs=1, augment=Augmentation(pad_crop=1, flip=True), seed=3
)


def images(count: int = 72, *, is_resident: bool = True) -> ImageSet:
    """Returns noise with a bright row that tells the class."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 4
    pixels = torch.randint(100, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
    pixels[torch.arange(count), 0, 2 * labels] += 150
    if is_resident:
        return ImageSet("rows", "train", ("a", "b", "c", "d"), labels, pixels)
    read = lambda index: Image.fromarray(pixels[index, 0].numpy())  # noqa: E731
    return ImageSet("rows", "train", ("a", "b", "c", "d"), labels, read=read, channels=1)


def network(*, has_norm: bool = True) -> nn.Module:
    """Builds a network with all that could break resuming: batch statistics, dropout, tied weights."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
    third = nn.Conv2d(8, 8, 3, padding=1)
    third.weight = second.weight
    norm: list[nn.Module] = [nn.BatchNorm2d(8), nn.Dropout(0.2)] if has_norm else []
    return nn.Sequential(first, *norm, nn.ReLU(), second, nn.ReLU(), third, nn.Flatten(), nn.Linear(512, 4))


def run(directory: Path, recipe: Recipe = RECIPE, data: ImageSet | None = None, **options: Any) -> dict[str, Tensor]:
    """Returns the state that a training leaves."""
    model = options.pop("model", None) or network()
    criterion = options.pop("criterion", None)
    options.setdefault("display", Silent())
    data = data or images()
    train(
        model, split(data, recipe), recipe, Run(directory, **options), preprocess=PREPROCESS, device="cpu",
        criterion=criterion,
    )  # fmt: skip
    return {key: value.clone() for key, value in model.state_dict().items()}


def rows(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    assert [key for key in left if not torch.equal(left[key], right[key])] == []


RECIPE_FIELDS = {field: getattr(RECIPE, field) for field in Recipe.__struct_fields__}


class StopAt(Silent):
    """Does something at one step of one epoch."""

    def __init__(self, epoch: int, step: int, action: Any) -> None:
        self.moment, self.action = (epoch, step), action

    def step(self, epoch: int, step: int, loss: float, lr: float) -> None:
        if (epoch, step) == self.moment:
            self.action()

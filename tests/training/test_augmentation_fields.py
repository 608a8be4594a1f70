"""Each field of an augmentation changes what a network sees: one without an effect, or without a row here, fails."""

from typing import Any

import msgspec
import pytest
import torch
from PIL import Image

from zoo.data import ImageSet
from zoo.data.augmentation import Augmentation
from zoo.spec import Preprocess
from zoo.system import distributed
from zoo.training import Recipe
from zoo.training.inputs import TrainTransform, portion_of

CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "resized_crop": ({}, {"resized_crop": {"scale": [0.2, 0.3]}}),
    "pad_crop": ({}, {"pad_crop": 2}),
    "padding": ({"pad_crop": 4}, {"pad_crop": 4, "padding": "reflect"}),
    "flip": ({}, {"flip": True}),
    "affine": ({}, {"affine": {"degrees": 30}}),
    "pca_color": ({}, {"pca_color": 0.5}),
    "cutout": ({}, {"cutout": 4}),
    "color_jitter": ({}, {"color_jitter": {"brightness": 0.5}}),
    "rand_augment": ({}, {"rand_augment": {"number": 2, "magnitude": 20}}),
    "trivial_augment": ({}, {"trivial_augment": True}),
    "random_erasing": ({}, {"random_erasing": 1.0}),
    "mixup": ({}, {"mixup": 1.0}),
    "cutmix": ({}, {"cutmix": 1.0}),
    "mix_probability": ({"mixup": 1.0}, {"mixup": 1.0, "mix_probability": 0.0}),
    "cutmix_share": (
        {"mixup": 1.0, "cutmix": 1.0, "cutmix_share": 0.0},
        {"mixup": 1.0, "cutmix": 1.0, "cutmix_share": 1.0},
    ),
}
"""By field: settings without and with it."""

ELSEWHERE = {"redraw"}
"""Changes a data set, not an image: tests/data/test_sources.py."""


def seen(settings: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns a photograph's pixels at the network's input, and a batch with its labels."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (8, 3, 16, 16), dtype=torch.uint8, generator=generator)
    labels = torch.arange(8) % 4
    images = ImageSet("noise", "train", ("a", "b", "c", "d"), labels, pixels)
    recipe = msgspec.convert({"epochs": 1, "batch_size": 8, "augment": settings}, Recipe)
    preprocess = Preprocess(input_size=(3, 16, 16), crop_pct=1.0)
    portion = portion_of(len(images), recipe, distributed.current())
    transform = TrainTransform(recipe, preprocess, images, portion, torch.device("cpu"))
    photograph = Image.fromarray(torch.randint(256, (40, 40, 3), dtype=torch.uint8, generator=generator).numpy())
    return transform.cut(photograph, 0, 0), *transform.batch(pixels, torch.arange(8), labels, 0, 0)


def test_every_field_has_a_row() -> None:
    fields = {field.name for field in msgspec.structs.fields(Augmentation)}
    assert fields == CHANGES.keys() | ELSEWHERE


@pytest.mark.parametrize("field", CHANGES)
def test_it_changes_what_a_network_sees(field: str) -> None:
    before, after = CHANGES[field]
    assert not all(
        left.shape == right.shape and left.equal(right) for left, right in zip(seen(before), seen(after), strict=True)
    )


def test_without_any_nothing_changes() -> None:
    assert all(map(torch.equal, seen({}), seen({})))

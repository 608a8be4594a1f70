"""Transforms for the user's own data: equal to ``zoo.preprocess``, and to torchvision's transforms for training."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.errors import DataError, MissingExtraError, SpecError


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    pixels = np.random.default_rng(0).integers(256, size=(12, 15, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((150, 120))  # smooth


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return zoo.create("resnet20.c10")


def test_every_form_of_an_image_gives_what_preprocess_does(
    model: torch.nn.Module, photo: Image.Image, tmp_path: Path
) -> None:
    photo.save(tmp_path / "photo.png")
    array = np.array(photo)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    expected, transform = zoo.preprocess(model)(photo), zoo.transforms(model)
    for image in (photo, tmp_path / "photo.png", str(tmp_path / "photo.png"), array, tensor):
        assert torch.equal(transform(image), expected)
    assert torch.equal(transform(torch.stack([tensor, tensor])), torch.stack([expected, expected]))


def test_a_name_means_what_its_network_does(model: torch.nn.Module, photo: Image.Image) -> None:
    assert torch.equal(zoo.transforms("resnet20.c10")(photo), zoo.preprocess(model)(photo))
    assert repr(zoo.transforms("resnet18")) == repr(zoo.transforms(zoo.create("resnet18")))


def test_grey_images_are_repeated_for_a_network_of_colour(model: torch.nn.Module, photo: Image.Image) -> None:
    grey = photo.convert("L")
    expected = zoo.preprocess(model)(grey.convert("RGB"))
    for image in (np.array(grey), np.array(grey)[..., None], torch.from_numpy(np.array(grey))[None]):
        assert torch.equal(zoo.transforms(model)(image), expected)


def test_size_replaces_the_side_of_the_input(photo: Image.Image) -> None:
    timm = pytest.importorskip("timm.data")
    mean, std = zoo.Preprocess().mean, zoo.Preprocess().std
    reference = timm.create_transform(128, mean=mean, std=std, interpolation="bilinear", crop_pct=0.875)
    assert torch.equal(zoo.transforms("resnet18", size=128)(photo), reference(photo))
    with pytest.raises(SpecError, match="must be positive"):
        zoo.transforms("resnet18", size=0)


@pytest.mark.parametrize("form", ["Pillow", "path", "array"])
def test_training_crops_flips_and_normalises_as_torchvisions_first_transforms(
    photo: Image.Image, tmp_path: Path, form: str
) -> None:
    v1 = pytest.importorskip("torchvision.transforms")
    declared = zoo.Preprocess()
    steps = [v1.RandomResizedCrop(96, scale=(0.35, 1.0)), v1.RandomHorizontalFlip(), v1.ToTensor()]
    reference = v1.Compose([*steps, v1.Normalize(declared.mean, declared.std)])
    transform = zoo.transforms("resnet18", train=True, size=96)
    photo.save(tmp_path / "photo.png")
    image = {"Pillow": photo, "path": tmp_path / "photo.png", "array": np.array(photo)}[form]
    for seed in range(4):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            expected = reference(photo)
            torch.manual_seed(seed)
            torch.testing.assert_close(transform(image), expected)


def test_a_transform_for_training_is_torchvisions_and_takes_batches(photo: Image.Image) -> None:
    v2 = pytest.importorskip("torchvision.transforms.v2")
    transform = zoo.transforms("resnet20.c10", train=True)
    assert isinstance(transform, v2.Compose)
    batch = torch.from_numpy(np.array(photo)).permute(2, 0, 1).expand(2, -1, -1, -1)
    made = v2.Compose([transform])(batch)
    assert type(made) is torch.Tensor
    assert made.shape == (2, 3, 32, 32)
    grey = zoo.transforms(zoo.create("resnet20", in_chans=1), train=True)
    assert grey(photo).shape == (1, 32, 32)


def test_training_without_torchvision_names_the_extra(monkeypatch: pytest.MonkeyPatch, photo: Image.Image) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.transforms", None)
    with pytest.raises(MissingExtraError, match="torchvision") as found:
        zoo.transforms("resnet20", train=True)
    assert "pip install 'zoo-vision[data]'" in str(found.value)
    assert zoo.transforms("resnet20")(photo).shape == (3, 32, 32)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (torch.zeros(3, 8, 8), "Got torch.float32 of shape .3, 8, 8., expected a uint8 tensor C H W or B C H W"),
        (torch.zeros(8, 8, dtype=torch.uint8), "expected a uint8 tensor C H W"),
        (np.zeros((3, 8, 8), dtype=np.uint8), "expected a uint8 array H W or H W C with 1, 3 or 4 channels"),
        (np.zeros((8, 8, 3)), "Got float64"),
        (7, "Got int, expected a Pillow image, a path"),
    ],
)
def test_what_is_not_an_image_is_an_error(image: object, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        zoo.transforms("resnet20")(image)

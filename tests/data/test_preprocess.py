"""Preprocessing equals timm's and torchvision's; transforms for the user's own data sets give the same."""

import os
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.data import ImageSet, Transform, load
from zoo.errors import DataError, MissingExtraError, SpecError
from zoo.spec import Preprocess

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def _timm(preprocess: Preprocess):
    create_transform = pytest.importorskip("timm.data").create_transform
    return create_transform(
        input_size=preprocess.input_size,
        is_training=False,
        interpolation=preprocess.interpolation,
        mean=preprocess.mean,
        std=preprocess.std,
        crop_pct=preprocess.crop_pct,
        crop_mode=preprocess.crop_mode,
    )


@pytest.fixture(scope="module")
def photographs() -> list[Image.Image]:
    """Real photographs, each of another width, every fourth in grey."""
    archive = Path(os.environ.get("ZOO_DATA", "")) / "caltech101_h140.tar"
    if not archive.is_file():
        pytest.skip("ZOO_DATA has no caltech101_h140.tar")
    images: dict[int, Image.Image] = {}
    with tarfile.open(archive) as tar:
        for number, member in enumerate(tar):
            if member.isfile() and number % 97 == 0:
                image = Image.open(BytesIO(tar.extractfile(member).read()))
                images.setdefault(image.width, image.convert("L") if len(images) % 4 == 3 else image.convert("RGB"))
            if len(images) == 16:
                return list(images.values())
    raise AssertionError("the archive has fewer shapes than this test wants")


@pytest.fixture(scope="module")
def cifar10() -> ImageSet:
    if not (Path(os.environ.get("ZOO_DATA", "")) / "cifar10").is_dir():
        pytest.skip("ZOO_DATA has no cifar10")
    return load("cifar10", "test")


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("size", "crop_pct"),
    [((224, 224), 0.875), ((299, 299), 1.0), ((97, 97), 0.95), ((64, 96), 0.9), ((161, 73), 0.875), ((33, 200), 1.0)],
)
def test_photographs_become_the_tensors_that_timm_makes(photographs, interpolation, size, crop_pct):
    preprocess = Preprocess(input_size=(3, *size), crop_pct=crop_pct, interpolation=interpolation, **IMAGENET)
    ours, timms = Transform(preprocess), _timm(preprocess)
    for image in photographs:
        assert torch.equal(ours(image), timms(image.convert("RGB"))), image.size


@pytest.mark.parametrize("crop_mode", ["squash", "border"])
@pytest.mark.parametrize(("size", "crop_pct"), [((224, 224), 1.0), ((97, 97), 0.9), ((64, 96), 0.9)])
def test_photographs_are_squashed_or_bordered_as_timm_does(photographs, crop_mode, size, crop_pct):
    preprocess = Preprocess((3, *size), crop_pct, "bicubic", crop_mode=crop_mode, **IMAGENET)
    ours, timms = Transform(preprocess), _timm(preprocess)
    for image in photographs:
        assert torch.equal(ours(image), timms(image.convert("RGB"))), image.size


def test_a_crop_larger_than_the_image_gets_black_around_it_as_in_timm(photographs):
    preprocess = Preprocess((3, 64, 64), 1.15, "bicubic", **IMAGENET)
    for image in photographs:
        assert torch.equal(Transform(preprocess)(image), _timm(preprocess)(image.convert("RGB"))), image.size


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (3, 2), (31, 33), (500, 7)])
@pytest.mark.parametrize("target", [(32, 32), (7, 40), (5, 5)])
def test_odd_shapes_are_resized_padded_and_cut_as_timm_does(size, target):
    width, height = size
    image = Image.effect_noise((width, height), 80).convert("RGB")
    preprocess = Preprocess(input_size=(3, *target), crop_pct=0.8, interpolation="bicubic", **IMAGENET)
    assert torch.equal(Transform(preprocess)(image), _timm(preprocess)(image))


def test_an_image_smaller_than_the_crop_gets_black_around_it_as_in_torchvision():
    # The non-square resize can round below the target: then CenterCrop pads.
    from torchvision.transforms import CenterCrop

    pixels = torch.arange(3 * 5 * 8, dtype=torch.uint8).view(1, 3, 5, 8)
    transform = Transform(Preprocess(input_size=(3, 10, 7)))
    assert torch.equal(transform._cut(pixels), CenterCrop((10, 7))(pixels))


def test_grey_preprocessing_equals_timm_on_grey_images(photographs):
    preprocess = Preprocess(input_size=(1, 64, 64), crop_pct=0.875, mean=(0.5,), std=(0.25,))
    for image in photographs:
        assert torch.equal(Transform(preprocess)(image), _timm(preprocess)(image.convert("L")))


@pytest.mark.first(6)
@pytest.mark.parametrize("input_size", [(3, 32, 32), (3, 28, 28), (3, 64, 64), (3, 24, 40), (1, 32, 32), (1, 20, 20)])
@pytest.mark.parametrize("crop_pct", [1.0, 0.875])
def test_a_batch_equals_an_image_at_a_time(cifar10, input_size, crop_pct):
    transform = Transform(Preprocess(input_size, crop_pct, "bicubic", (0.5,) * input_size[0], (0.2,) * input_size[0]))
    expected = torch.stack([transform(cifar10.image(index)) for index in range(8)])
    assert torch.equal(transform.batch(cifar10.pixels[:8]), expected)


def test_images_taken_from_memory_and_from_files_are_the_same() -> None:
    digits = load("digits", "test")
    decoded = ImageSet("digits", "test", digits.classes, digits.labels, read=digits.image, channels=1)
    transform = Transform(Preprocess((1, 6, 6), mean=(0.5,), std=(0.25,)))
    numbers = torch.tensor([5, 0, 5])
    taken = transform.take(digits, numbers)
    assert torch.equal(taken, transform.take(decoded, numbers))
    assert torch.equal(taken[1], transform(digits.image(0)))


def test_a_batch_of_grey_pixels_is_repeated_for_a_colour_network():
    transform = Transform(Preprocess(input_size=(3, 4, 4), crop_pct=1.0, mean=(0.0,) * 3, std=(1.0,) * 3))
    pixels = torch.arange(32, dtype=torch.uint8).view(2, 1, 4, 4)
    assert torch.equal(transform.batch(pixels), (pixels / 255).expand(2, 3, 4, 4))


def test_grey_from_colour_is_pillows_for_every_level():
    pixels = torch.randint(256, (1, 3, 256, 256), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    transform = Transform(Preprocess(input_size=(1, 256, 256), crop_pct=1.0, mean=(0.0,), std=(1.0,)))
    image = Image.fromarray(pixels[0].permute(1, 2, 0).numpy())
    gray = torch.frombuffer(bytearray(image.convert("L").tobytes()), dtype=torch.uint8).view(1, 1, 256, 256)
    assert torch.equal(transform.batch(pixels), gray / 255)


def test_palettes_are_looked_up():
    transform = Transform(Preprocess(input_size=(3, 8, 8), crop_pct=1.0))
    palette = Image.effect_noise((8, 8), 90).convert("RGB").quantize(16)
    expected = transform(palette.convert("RGB"))
    palette.info["transparency"] = bytes([255]) * 16  # Pillow would warn of this
    assert torch.equal(transform(palette), expected)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_thirty_two_bits_a_channel_are_refused_rather_than_clipped(mode):
    with pytest.raises(DataError, match="32 bits per channel"):
        Transform(Preprocess())(Image.new(mode, (300, 300)))


def test_what_is_no_batch_of_pixels_is_refused():
    transform = Transform(Preprocess(input_size=(3, 4, 4), crop_pct=1.0))
    with pytest.raises(DataError, match="expected uint8"):
        transform.batch(torch.zeros(1, 3, 4, 4))
    with pytest.raises(DataError, match="2 channels"):
        transform.batch(torch.zeros(1, 2, 4, 4, dtype=torch.uint8))


def test_a_transform_leaves_its_input_as_it_was():
    transform = Transform(Preprocess(input_size=(3, 4, 4), crop_pct=1.0))
    pixels = torch.full((2, 3, 4, 4), 7, dtype=torch.uint8)
    transform.batch(pixels)
    assert (pixels == 7).all()


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
    gray = photo.convert("L")
    expected = zoo.preprocess(model)(gray.convert("RGB"))
    for image in (np.array(gray), np.array(gray)[..., None], torch.from_numpy(np.array(gray))[None]):
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
    gray = zoo.transforms(zoo.create("resnet20", in_chans=1), train=True)
    assert gray(photo).shape == (1, 32, 32)


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

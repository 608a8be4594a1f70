"""Torchvision's augmentation in recipes: its own results for the same seeds, on each image and on batches."""

import sys
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from zoo.data.augment import Policies
from zoo.data.augmentation import Augmentation, ColorJitter, RandAugment
from zoo.errors import MissingExtraError, SpecError

v2 = pytest.importorskip("torchvision.transforms.v2")
BILINEAR = v2.InterpolationMode.BILINEAR
SEEDS = (3, 1, 4)


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    coarse = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return (torch.nn.functional.interpolate(coarse, 24, mode="bilinear") * 255).to(torch.uint8)


def seeded(seed: int, transform, *inputs: Tensor):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return transform(*inputs)


@pytest.mark.parametrize(
    ("settings", "reference"),
    [
        (Augmentation(color_jitter=ColorJitter(0.4, 0.3, 0.2, 0.1)), v2.ColorJitter(0.4, 0.3, 0.2, 0.1)),
        (Augmentation(rand_augment=RandAugment()), v2.RandAugment(2, 9, interpolation=BILINEAR)),
        (Augmentation(rand_augment=RandAugment(3, 15)), v2.RandAugment(3, 15, interpolation=BILINEAR)),
        (Augmentation(trivial_augment=True), v2.TrivialAugmentWide(interpolation=BILINEAR)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_is_varied_as_by_torchvision_with_its_seed(
    pixels: Tensor, settings: Augmentation, reference: torch.nn.Module, channels: int
) -> None:
    images = pixels[:, :channels]
    before = torch.get_rng_state()
    made = Policies(settings, 2).vary(images, SEEDS)
    assert torch.equal(torch.get_rng_state(), before)
    assert made.dtype == torch.uint8
    assert not torch.equal(made, images)
    for image, seed, found in zip(images, SEEDS, made, strict=True):
        assert torch.equal(found, seeded(seed, reference, image))


def test_erasing_sets_a_rectangle_of_torchvisions_to_the_mean(pixels: Tensor) -> None:
    images = pixels / 255 + 1
    made = Policies(Augmentation(random_erasing=1.0), 2).erase(images, SEEDS)
    for image, seed, found in zip(images, SEEDS, made, strict=True):
        assert torch.equal(found, seeded(seed, v2.RandomErasing(1.0), image))
        assert (found == 0).any()
        assert torch.equal(found[found != 0], image[found != 0])


def test_mixup_mixes_images_and_labels_in_the_same_shares(pixels: Tensor) -> None:
    """Zhang et al. 2017, equation 1: lambda x_i + (1 - lambda) x_j, and the same of the labels."""
    images = pixels / 255
    mixed, shares = Policies(Augmentation(mixup=0.8), 5).mix(images, torch.tensor([0, 1, 4]), 7)
    assert shares.shape == (3, 5)
    torch.testing.assert_close(shares.sum(1), torch.ones(3))
    for row, (own, other) in enumerate([(0, 4), (1, 0), (4, 1)]):
        share = shares[row, own]
        torch.testing.assert_close(shares[row, other], 1 - share)
        torch.testing.assert_close(mixed[row], share * images[row] + (1 - share) * images[row - 1])


def test_cutmix_labels_are_the_shares_of_the_area(pixels: Tensor) -> None:
    """Yun et al. 2019, section 3.1."""
    images = torch.arange(3.0)[:, None, None, None].expand(3, 3, 24, 24).contiguous()
    mixed, shares = Policies(Augmentation(cutmix=1.0), 3).mix(images, torch.arange(3), 2)
    for row in range(3):
        own = Fraction(int((mixed[row, 0] == row).sum()), 24 * 24)
        assert 0 < own < 1
        torch.testing.assert_close(shares[row, row], torch.tensor(float(own)))
        torch.testing.assert_close(shares[row, row - 1], torch.tensor(float(1 - own)))


@pytest.mark.parametrize(("probability", "share"), [(1.0, 0.5), (0.5, 0.25), (0.0, 0.5)])
def test_batches_are_mixed_as_often_as_the_settings_say(pixels: Tensor, probability: float, share: float) -> None:
    settings = Augmentation(mixup=1.0, cutmix=1.0, mix_probability=probability, cutmix_share=share)
    policies, count = Policies(settings, 3), 400
    images = torch.stack([torch.zeros(1, 8, 8), torch.ones(1, 8, 8)])
    kinds = {"none": 0, "mixup": 0, "cutmix": 0}
    for seed in range(count):
        mixed, shares = policies.mix(images, torch.tensor([0, 1]), seed)
        is_whole = bool((shares.max(1).values == 1).all())
        is_cut = bool(((mixed == 0) | (mixed == 1)).all())
        kinds["none" if is_whole and is_cut else "cutmix" if is_cut else "mixup"] += 1
    expected = {"mixup": probability * (1 - share), "cutmix": probability * share}
    for kind, chance in expected.items():  # an empty rectangle of CutMix leaves a batch as it is
        allowed = 4 * (count * chance * (1 - chance)) ** 0.5 + (0.1 * count if kind == "cutmix" else 0)
        assert abs(kinds[kind] - count * chance) <= allowed
    assert probability or kinds["none"] == count


def test_labels_are_shares_also_of_a_batch_that_is_not_mixed(pixels: Tensor) -> None:
    images, labels = pixels / 255, torch.tensor([2, 0, 1])
    same, shares = Policies(Augmentation(mixup=1.0, mix_probability=0), 3).mix(images, labels, 0)
    assert torch.equal(same, images)
    assert torch.equal(shares, torch.eye(3)[labels])


def test_settings_that_exclude_each_other_are_an_error() -> None:
    with pytest.raises(SpecError, match="exclude each other"):
        Augmentation(rand_augment=RandAugment(), trivial_augment=True)


def test_torchvision_is_needed_only_if_a_setting_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.transforms", None)
    assert not Augmentation(flip=True, cutout=2).uses_torchvision
    with pytest.raises(MissingExtraError, match="torchvision"):
        Policies(Augmentation(mixup=0.2), 3)

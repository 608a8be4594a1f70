"""MNIST turned and moved: against Pillow, torch's own turns and shifts, and pinned fingerprints."""

import os
from math import pi, radians
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from zoo.data import Augmentation, ImageSet, hold_out, load
from zoo.errors import RecipeError
from zoo.spec import Preprocess
from zoo.system.distributed import ALONE, Processes
from zoo.training import Recipe, choose
from zoo.training.inputs import batches
from zoo_invariant import plugin
from zoo_invariant.data import MAPS, drawn, moved

NAMES = ("mnist_rot", "mnist_r", "mnist_rts")


def digits(count: int, side: int = 28) -> Tensor:
    """Blobs on black, uint8 N 1 side side."""
    values = torch.rand(count, 1, 7, 7, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(values, size=(side - 8, side - 8), mode="bicubic").clamp(0, 1)
    return F.pad((255 * smooth).round().to(torch.uint8), (4, 4, 4, 4))


@pytest.fixture
def small_mnist(tmp_path: Path) -> Path:
    """A folder with a data set of MNIST's form, of 40 and 20 images."""
    pixels = digits(60)[:, 0].numpy()
    labels = (np.arange(60) % 10).astype(np.uint8)
    np.savez(tmp_path / "mnist.npz", x_train=pixels[:40], y_train=labels[:40], x_test=pixels[40:], y_test=labels[40:])
    return tmp_path


def ones(count: int) -> Tensor:
    return torch.ones(count, dtype=torch.float64)


def no_shift(count: int) -> Tensor:
    return torch.zeros(count, 2, dtype=torch.float64)


# ---- The maps ----


def test_quarter_turns_are_torchs_counter_clockwise_ones() -> None:
    images = digits(3)
    for turns in range(4):
        got = moved(images, pi / 2 * turns * ones(3), ones(3), no_shift(3), canvas=28)
        assert torch.equal(got, torch.rot90(images, turns, (2, 3)))


def test_an_angle_turns_as_pillow_does() -> None:
    images = digits(2)
    for degrees in (10.0, -37.0, 123.0):
        got = moved(images, radians(degrees) * ones(2), ones(2), no_shift(2), canvas=28)
        for image, ours in zip(images, got, strict=True):
            theirs = Image.fromarray(image[0].numpy()).rotate(degrees, Image.Resampling.BILINEAR)
            difference = (torch.from_numpy(np.array(theirs)).float() - ours[0].float()).abs()
            assert difference.max() <= 2  # Pillow rounds twice


def test_a_shift_in_pixels_moves_right_and_down_on_a_larger_black_canvas() -> None:
    images = digits(1)
    got = moved(images, 0 * ones(1), ones(1), torch.tensor([[3.0, -5.0]], dtype=torch.float64), canvas=42)
    assert torch.equal(got, F.pad(images, (7 + 3, 7 - 3, 7 - 5, 7 + 5)))


def test_twice_the_scale_is_twice_the_size_about_the_centre() -> None:
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    image[..., 12:16, 10:18] = 255  # 4 high, 8 wide
    got = moved(image, 0 * ones(1), 2 * ones(1), no_shift(1), canvas=56) > 127
    assert got.sum() == 8 * 16
    assert got[..., 24:32, 20:36].all()


def test_draws_fill_the_ranges_and_the_frame_stays_within_the_canvas() -> None:
    draws = torch.rand(4, 20000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for name, (degrees, scale) in {
        "mnist_rot": ((0, 360), (1, 1)),
        "mnist_r": ((-90, 90), (1, 1)),
        "mnist_rts": ((-45, 45), (0.7, 1.2)),
    }.items():
        angles, scales, shifts = drawn(MAPS[name], draws, 28)
        assert angles.rad2deg().min() == pytest.approx(degrees[0], abs=0.1)
        assert angles.rad2deg().max() == pytest.approx(degrees[1], abs=0.1)
        assert (scales.min().item(), scales.max().item()) == pytest.approx(scale, abs=1e-3)
        reach = shifts.abs() + 28 / 2 * scales[:, None]
        assert reach.max() <= MAPS[name].canvas / 2 + 1e-9
        assert reach.max() > MAPS[name].canvas / 2 - 0.1  # and uses the room


def test_no_digit_is_cut_by_the_canvas() -> None:
    square = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    square[..., 4:24, 4:24] = 255  # MNIST's digits fill 20x20 at most, centred by mass
    draws = torch.rand(4, 500, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    angles, scales, shifts = drawn(MAPS["mnist_rts"], draws, 28)
    images = moved(square.expand(500, -1, -1, -1), angles, scales, shifts, canvas=42)
    area = images.double().sum(dim=(1, 2, 3)) / 255
    # A corner of the full square may touch the border: a pixel or so of 200 to 600.
    torch.testing.assert_close(area, 400 * scales**2, rtol=0.02, atol=1.0)


# ---- The data sets ----


def test_images_hang_neither_on_the_global_seed_nor_on_the_number_of_threads() -> None:
    images = digits(50)
    draws = torch.rand(4, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    maps = drawn(MAPS["mnist_rts"], draws, 28)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            torch.manual_seed(count)
            results.append(moved(images, *maps, canvas=42))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("name", NAMES)
def test_a_set_is_mnists_digits_and_labels_in_their_order(name: str, small_mnist: Path) -> None:
    plain, images = load("mnist", "train", root=small_mnist), load(name, "train", root=small_mnist)
    assert (images.name, images.split, len(images), images.classes) == (name, "train", 40, plain.classes)
    assert torch.equal(images.labels, plain.labels)
    side = 42 if name == "mnist_rts" else 28
    assert images.pixels.shape == (40, 1, side, side)
    # A turn keeps an image's sum but for what is rounded; a magnification multiplies it.
    ratio = images.pixels.double().sum(dim=(1, 2, 3)) / plain.pixels.double().sum(dim=(1, 2, 3))
    if name == "mnist_rts":
        assert 0.45 < ratio.min() < ratio.max() < 1.5
    else:
        torch.testing.assert_close(ratio, torch.ones(40, dtype=torch.float64), rtol=0.02, atol=0.0)


def test_the_splits_are_drawn_apart_and_kept_in_memory(small_mnist: Path) -> None:
    train, test = (load("mnist_rot", split, root=small_mnist) for split in ("train", "test"))
    assert train.fingerprint != test.fingerprint
    assert load("invariant/mnist_rot", "test", root=small_mnist) is test


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_redrawn_image_is_another_map_of_its_digit_whatever_is_drawn_beside_it(small_mnist: Path) -> None:
    images = load("mnist_rts", "train", root=small_mnist)
    everything = images.redraw(torch.arange(40), seeded(1))
    assert torch.equal(images.redraw(torch.tensor([7, 3]), seeded(1)), everything[[7, 3]])
    for others in (images.pixels, images.redraw(torch.arange(40), seeded(2))):
        assert not (everything == others).flatten(1).all(dim=1).any()
    digit = load("mnist", "train", root=small_mnist).subset([3], "train").pixels
    draws = torch.rand(4, 40, dtype=torch.float64, generator=seeded(1))[:, [3]]
    assert torch.equal(moved(digit, *drawn(MAPS["mnist_rts"], draws, 28), canvas=42), everything[[3]])


def test_images_held_out_stay_and_those_left_are_redrawn_as_in_the_whole(small_mnist: Path) -> None:
    images = load("mnist_rot", "train", root=small_mnist)
    rest, held_out = hold_out(images, 10, seed=0)
    (index,) = (images.pixels == rest.pixels[4]).flatten(1).all(dim=1).nonzero()[0].tolist()
    assert torch.equal(rest.redraw(torch.tensor([4]), seeded(5)), images.redraw(torch.tensor([index]), seeded(5)))
    assert held_out.pixels is not None


def epochs_of(images: ImageSet, recipe: Recipe, group: Processes = ALONE) -> list[Tensor]:
    """Returns all inputs of two epochs."""
    preprocess = Preprocess(input_size=(1, 42, 42), crop_pct=1.0, mean=(0.0,), std=(1.0,))
    made = batches(images, recipe, preprocess, torch.device("cpu"), group)
    return [torch.cat([inputs for inputs, _ in made.epoch(epoch)]) for epoch in (0, 1)]


class OneOfTwo(Processes):
    count = 2

    def __init__(self, rank: int) -> None:
        self.rank = rank


def test_training_moves_digits_anew_each_epoch_and_the_same_way_in_several_processes(small_mnist: Path) -> None:
    images = load("mnist_rts", "train", root=small_mnist)
    recipe = Recipe(batch_size=40, augment=Augmentation(redraw=True))

    def shown(inputs: Tensor) -> set[bytes]:
        return {image.numpy().tobytes() for image in inputs}

    first, second = epochs_of(images, recipe)
    fixed = epochs_of(images, Recipe(batch_size=40))
    assert shown(fixed[0]) == shown(fixed[1])
    assert len(shown(first) | shown(second) | shown(fixed[0])) == 3 * 40
    assert torch.equal(epochs_of(images, recipe)[1], second)
    parts = [epochs_of(images, recipe, OneOfTwo(rank))[0] for rank in (0, 1)]
    assert torch.equal(torch.cat(parts), first)


def test_images_that_were_not_drawn_cannot_be_redrawn() -> None:
    recipe = Recipe(augment=Augmentation(redraw=True))
    with pytest.raises(RecipeError, match=r"augment.redraw: digits is not a data set of randomly(.|\n)*redraw=false"):
        epochs_of(load("digits", "train"), recipe)


@pytest.mark.parametrize(("data", "expected"), [("mnist_rts", True), ("mnist_rot", True), ("mnist", False)])
def test_a_spatial_transformer_is_shown_digits_moved_anew_by_default(data: str, expected: bool) -> None:
    assert choose(plugin, "stn_cnn_mnist", data).augment.redraw is expected


PINNED = {
    ("mnist_rot", "train"): "053090f0f450e419ce859412eb42785b84aacad29591f237983e9e40eb6c4d52",
    ("mnist_rot", "test"): "becaf4d9e2c3c64db193676651a966e24e306a90403259c5175b15e65f50041e",
    ("mnist_r", "train"): "d2447e7bdb0fc254f4f4ed89935d1681902db321a91c5fde16b9a50e1b287139",
    ("mnist_r", "test"): "e3d4de236cac7ec5a8e04abccc87b827190e4233fda7fef02989f2ef63d9799c",
    ("mnist_rts", "train"): "741bad253109d675203538fdc32611833fe03f4f448be643177503f127791a44",
    ("mnist_rts", "test"): "076eed7a1fadada8a9af342e7970069220c1bcffe8040a1099cd2a92f2b720bc",
}


@pytest.mark.parametrize(
    ("name", "split"), [pytest.param(*key, marks=[pytest.mark.slow] if key[1] == "train" else []) for key in PINNED]
)
def test_the_images_are_those_that_scores_were_measured_on(name: str, split: str) -> None:
    if not os.environ.get("ZOO_DATA"):
        pytest.skip("ZOO_DATA is not set")
    assert load(name, split).fingerprint == f"sha256:{PINNED[name, split]}"

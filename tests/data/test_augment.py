"""Augmentation: closed forms, and torchvision's affine where there is none."""

import msgspec
import pytest
import torch
import torch.nn.functional as F

from zoo.data import Affine, Augment, Augmentation
from zoo.data.augment import add_colors, crop, cut_out, flip, pad, warp
from zoo.errors import DataError

EVERYTHING = Augmentation(
    pad_crop=4, flip=True, affine=Affine(15.0, 0.1, (0.9, 1.1), 10.0), cutout=8, padding="reflect", pca_color=0.1
)


def _pixels(batch: int = 8, channels: int = 3, height: int = 12, width: int = 10) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (batch, channels, height, width), dtype=torch.uint8, generator=generator)


def _augment(settings: Augmentation, seed: int = 0) -> Augment:
    return Augment(settings, torch.Generator().manual_seed(seed))


def test_nothing_happens_by_default():
    assert torch.equal(_augment(Augmentation())(_pixels()), _pixels())


def test_one_seed_gives_one_result_and_the_input_stays_as_it_was():
    pixels = _pixels()
    first, again, other = (_augment(EVERYTHING, seed)(pixels) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(pixels, _pixels())
    assert (first.shape, first.dtype) == (pixels.shape, torch.uint8)


def test_a_restored_generator_continues_as_before():
    generator = torch.Generator().manual_seed(3)
    augment = Augment(EVERYTHING, generator)
    augment(_pixels())
    state = generator.get_state()
    expected = augment(_pixels())
    resumed = torch.Generator()
    resumed.set_state(state)
    assert torch.equal(Augment(EVERYTHING, resumed)(_pixels()), expected)


def test_the_global_generator_is_not_drawn_from():
    torch.manual_seed(0)
    expected = torch.get_rng_state()
    _augment(EVERYTHING)(_pixels())
    assert torch.equal(torch.get_rng_state(), expected)


def test_reflecting_pads_as_torch_does():
    pixels = _pixels()
    assert torch.equal(pad(pixels, 3, "reflect"), F.pad(pixels.float(), (3,) * 4, mode="reflect").to(torch.uint8))
    with pytest.raises(DataError, match="cannot be padded by 10"):
        pad(pixels, 10, "reflect")


@pytest.mark.parametrize("padding", ["zero", "reflect"])
def test_each_sample_is_a_window_of_its_padded_image_and_all_windows_occur(padding):
    image = _pixels(1, 3, 6, 5)
    batch = image.expand(1500, -1, -1, -1)
    mode = "constant" if padding == "zero" else "reflect"
    padded = F.pad(image[0].float(), (2,) * 4, mode=mode).to(torch.uint8)
    windows = {
        padded[:, y : y + 6, x : x + 5].contiguous().numpy().tobytes(): (y, x) for y in range(5) for x in range(5)
    }
    assert len(windows) == 25
    counts = dict.fromkeys(windows.values(), 0)
    for sample in _augment(Augmentation(pad_crop=2, padding=padding))(batch):
        counts[windows[sample.contiguous().numpy().tobytes()]] += 1
    # 60 expected of each: chi-squared with 24 degrees of freedom passes 51.2 once in a thousand.
    assert sum((count - 60) ** 2 / 60 for count in counts.values()) < 51.2


def test_crop_takes_each_sample_at_its_own_place():
    pixels = _pixels(4)
    top, left = torch.tensor([0, 3, 2, 1]), torch.tensor([4, 0, 2, 1])
    expected = [pixels[i, :, top[i] : top[i] + 9, left[i] : left[i] + 6] for i in range(4)]
    assert torch.equal(crop(pixels, top, left, 9, 6), torch.stack(expected))


def test_flip_mirrors_exactly_the_chosen_samples():
    pixels, chosen = _pixels(), torch.tensor([True, False] * 4)
    flipped = flip(pixels, chosen)
    assert torch.equal(flipped[~chosen], pixels[~chosen])
    assert torch.equal(flipped[chosen], pixels[chosen].flip(-1))


def test_half_of_the_samples_are_flipped():
    batch = torch.tensor([0, 1], dtype=torch.uint8).expand(10_000, 1, 1, 2)
    share = _augment(Augmentation(flip=True))(batch)[:, 0, 0, 0].float().mean()
    assert abs(share - 0.5) < 0.017  # 3.4 standard deviations


@pytest.mark.parametrize("side", [1, 4, 5, 40])
def test_cutout_blackens_one_square_clipped_at_the_border(side):
    pixels = torch.full((120, 2, 12, 10), 9, dtype=torch.uint8)
    row, column = torch.arange(12).repeat_interleave(10), torch.arange(10).repeat(12)
    cut = cut_out(pixels, row, column, side)
    for sample, y, x in zip(cut, row.tolist(), column.tolist(), strict=True):
        expected = torch.full((2, 12, 10), 9, dtype=torch.uint8)
        top, left = y - side // 2, x - side // 2
        expected[:, max(top, 0) : top + side, max(left, 0) : left + side] = 0
        assert torch.equal(sample, expected)


def test_cutouts_centre_falls_on_every_pixel():
    batch = torch.ones(3000, 1, 6, 5, dtype=torch.uint8)
    counts = (_augment(Augmentation(cutout=1))(batch) == 0).sum(0).flatten().double()
    assert counts.sum() == 3000
    assert ((counts - 100) ** 2 / 100).sum() < 58.3  # one in a thousand, 29 degrees of freedom


def test_pca_colours_are_multiples_of_imagenets_components():
    pixels = torch.full((3, 3, 2, 2), 100, dtype=torch.uint8)
    changed = add_colors(pixels, torch.eye(3))  # once each component
    # 100 + 255 * 0.2175 * (-0.5675, -0.5808, -0.5836) and so on, by hand
    for image, expected in zip(changed, [(69, 68, 68), (103, 100, 97), (100, 99, 100)], strict=True):
        assert torch.equal(image, torch.tensor(expected, dtype=torch.uint8)[:, None, None].expand(3, 2, 2))


def test_pca_colours_vary_as_the_components_covariance_says():
    batch = torch.full((40_000, 3, 1, 1), 128, dtype=torch.uint8)
    changed = _augment(Augmentation(pca_color=0.5))(batch)[:, :, 0, 0].double()
    vectors = torch.tensor(
        [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], dtype=torch.float64
    )
    sizes = 0.5 * 255 * torch.tensor([0.2175, 0.0188, 0.0045], dtype=torch.float64)
    expected = vectors @ torch.diag(sizes**2) @ vectors.T + torch.eye(3) / 12  # rounding
    torch.testing.assert_close(torch.cov(changed.T), expected, rtol=0.05, atol=0.5)
    torch.testing.assert_close(changed.mean(0), torch.full((3,), 128.0, dtype=torch.float64), rtol=0, atol=0.5)


def test_pca_colours_are_clipped_and_need_three_channels():
    bright = torch.full((1, 3, 1, 1), 250, dtype=torch.uint8)
    assert add_colors(bright, torch.tensor([[-9.0, 0.0, 0.0]])).flatten().tolist() == [255] * 3
    assert add_colors(bright, torch.tensor([[+9.0, 0.0, 0.0]])).flatten().tolist() == [0] * 3
    with pytest.raises(DataError, match="1 channels, expected R, G and B"):
        _augment(Augmentation(pca_color=0.1))(_pixels(channels=1))


def _warp(pixels, degrees=0.0, translate=(0.0, 0.0), scale=1.0, shear=0.0):
    batch = len(pixels)
    return warp(
        pixels,
        degrees=torch.full((batch,), degrees),
        translate=torch.tensor([translate]).expand(batch, 2),
        scale=torch.full((batch,), scale),
        shear=torch.full((batch,), shear),
    )


def test_no_warp_changes_nothing():
    assert torch.equal(_warp(_pixels()), _pixels())


@pytest.mark.parametrize("side", [8, 9, 32])
@pytest.mark.parametrize("turns", [-1, 1, 2])
def test_a_quarter_turn_is_rot90(side, turns):
    pixels = _pixels(2, 3, side, side)
    assert torch.equal(_warp(pixels, degrees=90.0 * turns), pixels.rot90(-turns, (2, 3)))


def test_a_whole_shift_is_a_shift():
    pixels = _pixels(2)
    moved = _warp(pixels, translate=(3.0, -2.0))
    assert torch.equal(moved[:, :, :-2, 3:], pixels[:, :, 2:, :-3])
    assert moved[:, :, -2:].max() == 0
    assert moved[:, :, :, :3].max() == 0


@pytest.mark.parametrize("degrees", [0.0, 20.0, -65.0])
@pytest.mark.parametrize("translate", [[0, 0], [3, -2]])
@pytest.mark.parametrize("scale", [0.7, 1.3])
@pytest.mark.parametrize("shear", [0.0, 25.0])
def test_warps_are_torchvisions_affine_maps(degrees, translate, scale, shear):
    affine = pytest.importorskip("torchvision.transforms.functional").affine
    interpolation = pytest.importorskip("torchvision.transforms").InterpolationMode.BILINEAR
    pixels = _pixels(2, 3, 21, 16)
    expected = affine(pixels, degrees, translate, scale, [shear, 0.0], interpolation=interpolation)
    ours = _warp(pixels, degrees, (float(translate[0]), float(translate[1])), scale, shear)
    assert (ours.int() - expected.int()).abs().max() <= 1  # torchvision's matrix has float32's rounding
    assert (ours != expected).float().mean() < 0.01


def test_each_sample_is_warped_by_its_own_draw():
    batch = _pixels(1, 1, 16, 16).expand(50, -1, -1, -1)
    warped = _augment(Augmentation(affine=Affine(degrees=30.0)))(batch)
    assert len({sample.numpy().tobytes() for sample in warped}) == 50


def test_random_translation_of_an_oblong_image_is_in_shares_of_each_side():
    batch = torch.zeros(500, 1, 11, 41, dtype=torch.uint8)
    batch[:, :, 5, 20] = 255
    moved = _augment(Augmentation(affine=Affine(translate=0.2)))(batch)[:, 0].float()
    mass = moved.sum((1, 2))
    rows = (moved.sum(2) * torch.arange(11)).sum(1) / mass - 5
    columns = (moved.sum(1) * torch.arange(41)).sum(1) / mass - 20
    assert 2.0 < rows.abs().max() < 2.3  # 0.2 * 11
    assert 7.8 < columns.abs().max() < 8.3  # 0.2 * 41


def test_random_magnification_fills_its_range():
    batch = torch.zeros(500, 1, 41, 41, dtype=torch.uint8)
    batch[:, :, 13:28, 13:28] = 255  # 15 x 15
    sides = (_augment(Augmentation(affine=Affine(scale=(0.6, 1.4))))(batch).float() / 255).sum((1, 2, 3)).sqrt() / 15
    assert sides.min().item() == pytest.approx(0.6, abs=0.03)
    assert sides.max().item() == pytest.approx(1.4, abs=0.03)
    assert sides.mean().item() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    "settings",
    [
        {"pad_crop": -1},
        {"padding": "wrap"},
        {"affine": {"degrees": 200.0}},
        {"affine": {"scale": [0.0, 1.0]}},
        {"affine": {"scale": [1.2, 1.0]}},
        {"affine": {"shear": 90.0}},
        {"cutout": 1.5},
        {"flipp": True},
        {"affine": {"angle": 3.0}},
    ],
)
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(settings, Augmentation)


def test_floats_are_no_pixels():
    with pytest.raises(DataError, match="expected uint8"):
        _augment(Augmentation())(torch.zeros(1, 3, 4, 4))

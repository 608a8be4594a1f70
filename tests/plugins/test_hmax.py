"""The hmax family against its paper's table 1, closed forms, plain loops over patches, and what it claims of images."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.reference import photographs
from torch import Tensor, nn
from torch.nn import functional as F

import zoo
from zoo import data
from zoo.data import ImageSet
from zoo.errors import DataError, SpecError
from zoo.loading.create import info_of
from zoo.testing import Check, conformance
from zoo.training import Recipe, Run, TrainingData, by_name
from zoo.training.run import Silent
from zoo_hmax import plugin
from zoo_hmax.model import BANDS, HMAX, ORIENTATIONS, S1, S2, SIDES, box_sums, gabor
from zoo_hmax.training import fit, imprint, train

(MODEL,) = plugin.models
SCALES = [scale for band in BANDS for scale in band.scales]
SETTINGS = {"epochs": 1, "weight_decay": 0.65, "batch_size": 32}


@pytest.mark.first(15)
@conformance("hmax")
def test_conformance(check: Check) -> None:
    check()


@pytest.fixture(scope="module")
def gray() -> Tensor:
    """Photographs as the network sees them, N 1 140 140 in [0, 1]."""
    return (photographs(3, 140).mean(dim=1, keepdim=True) + 1) / 2


@pytest.fixture(scope="module")
def small() -> HMAX:
    torch.manual_seed(0)
    return HMAX(prototypes=3, num_classes=5).eval()


# ---- Sizes ----


def test_sigma_and_wavelength_follow_the_closed_form_within_a_tenth_of_the_table() -> None:
    assert [scale.size for scale in SCALES] == list(range(7, 38, 2))
    for index, scale in enumerate(SCALES):
        wavelength = 2 * scale.size / (4 - 0.05 * index)
        assert scale.wavelength == pytest.approx(wavelength, abs=0.1)
        assert scale.sigma == pytest.approx(0.8 * wavelength, abs=0.1)


def test_windows_of_c1_grow_by_two_and_overlap_by_half() -> None:
    assert [(band.window, band.step) for band in BANDS] == [(8 + 2 * b, 4 + b) for b in range(8)]


def test_band_8_of_filters_35_and_37_pools_over_22() -> None:
    assert ([scale.size for scale in BANDS[7].scales], BANDS[7].window, BANDS[7].step) == ([35, 37], 22, 11)
    pool = HMAX(prototypes=1).c1[7]
    silent = torch.zeros(1, 2, 4, 140, 140)
    silent[0, 1, 2, 21, 21] = 1  # the last pixel of the first window, and of it alone but for its overlaps
    seen = pool(silent)[0, 2].nonzero().tolist()
    assert seen == [[0, 0], [0, 1], [1, 0], [1, 1]]
    silent[0, 1, 2, 21, 21], silent[0, 1, 2, 22, 22] = 0, 1
    assert pool(silent)[0, 2].nonzero().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]


@pytest.mark.parametrize(("height", "width"), [(140, 140), (140, 201)])
def test_maps_of_s1_are_as_large_as_the_image_and_of_c1_a_window_every_step(
    small: HMAX, height: int, width: int
) -> None:
    image, heights = torch.rand(1, 1, height, width), []
    for s1, c1, band in zip(small.s1, small.c1, BANDS, strict=True):
        simple = s1(image)
        assert simple.shape == (1, 2, 4, height, width)
        grid = [math.ceil((length - band.window) / band.step) + 1 for length in (height, width)]
        complex_ = c1(simple)
        assert complex_.shape == (1, 4, *grid)
        heights.append(complex_.shape[2])
    assert heights == [34, 27, 23, 19, 17, 15, 13, 12]


def test_the_cost_is_that_of_filters_where_they_fit_and_prototypes_on_maps_of_c1() -> None:
    filters = sum(8 * band.scales[1].size ** 2 * (141 - band.scales[1].size) ** 2 for band in BANDS)
    grids = [math.ceil((140 - band.window) / band.step) + 1 for band in BANDS]
    prototypes = sum(250 * 4 * n**2 * max(1, grid - n + 1) ** 2 for n in SIDES for grid in grids)
    assert MODEL.macs == filters + prototypes + 1000 * 102
    assert MODEL.params == 1000 * 102 + 102


# ---- S1 and C1 ----


@pytest.mark.first(4)
@pytest.mark.parametrize("scale", SCALES, ids=lambda scale: str(scale.size))
def test_a_filter_is_the_papers_gabor_in_a_disc_of_mean_zero_and_norm_one(scale: Any) -> None:
    reach = scale.size // 2
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(float)
    disc = np.hypot(rows, columns) <= scale.size / 2
    for degrees in ORIENTATIONS:
        theta = np.deg2rad(degrees)
        along = columns * np.cos(theta) + rows * np.sin(theta)
        across = -columns * np.sin(theta) + rows * np.cos(theta)
        wave = np.exp(-(along**2 + 0.09 * across**2) / 2 / scale.sigma**2) * np.cos(
            2 * np.pi * along / scale.wavelength
        )
        got = gabor(scale, degrees).double().numpy()
        assert abs(got.sum()) < 1e-5
        assert np.linalg.norm(got) == pytest.approx(1, abs=1e-5)
        assert not got[~disc].any()
        slope, _ = np.polyfit(wave[disc], got[disc], 1)
        assert slope > 0
        assert np.corrcoef(wave[disc], got[disc])[0, 1] == pytest.approx(1, abs=1e-6)


def test_s1_is_normalised_by_local_energy(small: HMAX, gray: Tensor) -> None:
    """Each cell is the cosine between its filter and the patch it sees, without sign; at the border it is silent."""
    image = gray[:1]
    for band in (0, 7):
        simple = small.s1[band](image)[0]
        assert 0 <= float(simple.min()) < float(simple.max()) <= 1
        margin = BANDS[band].scales[1].size // 2
        assert not simple[..., :margin, :].any()
        assert not simple[..., -margin:].any()
        for number, scale in enumerate(BANDS[band].scales):
            for top, left in ((margin, margin), (60, 71), (139 - margin, 139 - margin)):
                half = scale.size // 2
                patch = image[0, 0, top - half : top + half + 1, left - half : left + half + 1]
                expected = [abs(float((gabor(scale, d) * patch).sum() / patch.norm())) for d in ORIENTATIONS]
                torch.testing.assert_close(simple[number, :, top, left], torch.tensor(expected), atol=2e-6, rtol=1e-4)


def test_a_black_image_is_silent_and_has_a_gradient() -> None:
    image = torch.zeros(1, 1, 140, 140, requires_grad=True)
    simple = S1(BANDS[0].scales)(image)
    assert not simple.any()
    simple.sum().backward()
    assert image.grad.isfinite().all()


def test_c1_is_the_maximum_over_both_scales_and_a_window(small: HMAX, gray: Tensor) -> None:
    for s1, c1, band in zip(small.s1, small.c1, BANDS, strict=True):
        simple = s1(gray[:1])[0].numpy()  # 2 4 H W
        complex_ = c1(torch.from_numpy(simple)[None])[0].numpy()
        for row, column in ((0, 0), (2, 5), (complex_.shape[1] - 1, complex_.shape[2] - 1)):
            top, left = row * band.step, column * band.step
            window = simple[:, :, top : top + band.window, left : left + band.window]
            assert np.array_equal(complex_[:, row, column], window.max(axis=(0, 2, 3)))


def test_box_sums_keep_their_precision_where_it_is_dark_beside_light() -> None:
    image = torch.cat([torch.ones(1, 1, 60, 60), torch.rand(1, 1, 60, 60) * 1e-6], dim=2)
    got = box_sums(image, 7)
    expected = F.avg_pool2d(image.double(), 7, stride=1, divisor_override=1)
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=0)


# ---- S2 and C2 ----


@pytest.mark.parametrize("side", SIDES)
def test_distances_are_over_all_four_orientations(side: int) -> None:
    cells, maps = S2(6, side), torch.rand(2, 4, 19, 21)
    patches = F.unfold(maps, side).transpose(1, 2)  # B positions 4 side side
    expected = torch.cdist(patches.double(), cells.prototypes.flatten(1).double()).square()
    got = cells(maps)
    assert got.shape == (2, 6, 19 - side + 1, 21 - side + 1)
    torch.testing.assert_close(got.flatten(2).transpose(1, 2).double(), expected, rtol=1e-4, atol=1e-3)


def test_a_map_smaller_than_a_prototype_is_continued_by_silence() -> None:
    cells, maps = S2(2, 16), torch.rand(1, 4, 13, 20)
    padded = F.pad(maps, (0, 0, 0, 3))
    expected = (padded[..., 2:18] - cells.prototypes).square().sum(dim=(1, 2, 3))
    assert cells(maps).shape == (1, 2, 1, 5)
    torch.testing.assert_close(cells(maps)[0, :, 0, 2], expected, rtol=1e-4, atol=1e-4)


def test_beta_depends_on_the_size_of_a_patch(gray: Tensor) -> None:
    network, alike = HMAX(prototypes=2, beta=0.5), HMAX(prototypes=2, beta=0.5, scale_by_size=False)
    alike.load_state_dict(network.state_dict())
    maps = network.forward_c1(gray)
    with torch.no_grad():
        scaled, unscaled = (net.forward_features(gray).split(2, dim=1) for net in (network, alike))
    for index, side in enumerate(SIDES):
        cells = network.s2[index].prototypes
        nearest = torch.full((len(gray), 2), math.inf)
        for band in maps:
            if min(band.shape[2:]) >= side:
                patches = F.unfold(band, side).transpose(1, 2)
                nearest = nearest.minimum(torch.cdist(patches, cells.flatten(1)).square().amin(dim=1))
            else:
                nearest = nearest.minimum(network.s2[index](band).amin(dim=(2, 3)))
        torch.testing.assert_close(scaled[index], torch.exp(-0.5 * 16 / side**2 * nearest), rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(unscaled[index], torch.exp(-0.5 * nearest), rtol=1e-3, atol=1e-6)
    assert float(unscaled[3].max()) < 1e-6 < float(scaled[3].min())  # large prototypes would be silent


def test_an_image_of_any_size_from_37_pixels_on_has_features(small: HMAX) -> None:
    with torch.no_grad():
        assert small(torch.rand(2, 1, 37, 90)).shape == (2, 5)
    with pytest.raises(DataError, match="36 x 90 pixels: the largest filter sees 37 x 37"):
        small(torch.rand(2, 1, 36, 90))


def test_a_colour_image_becomes_grey_as_pillow_makes_it(gray: Tensor) -> None:
    color, one, two = HMAX(prototypes=2, in_chans=3), HMAX(prototypes=2), HMAX(prototypes=2, in_chans=2)
    for network in (color, two):
        network.load_state_dict(one.state_dict())
    photograph = (photographs(1, 140) + 1) / 2
    luma = (photograph * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)
    with torch.no_grad():
        torch.testing.assert_close(color(photograph), one(luma), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(two(gray.repeat(1, 2, 1, 1)), one(gray), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(color(gray.repeat(1, 3, 1, 1)), one(gray), rtol=1e-4, atol=1e-4)


# ---- Training ----


def as_set(images: Tensor) -> ImageSet:
    """Returns images N C H W in [0, 1] with labels 0, 1, 0, ..."""
    pixels = (images * 255).round().to(torch.uint8)
    return ImageSet("few", "train", ("a", "b"), torch.arange(len(pixels)) % 2, pixels)


def test_prototypes_are_patches_of_c1_of_training_images_and_follow_the_seed(gray: Tensor) -> None:
    images, network = as_set(gray), HMAX(prototypes=4)
    imprint(network, images, MODEL.preprocess, seed=1)
    maps = network.forward_c1(images.pixels.float() / 255)
    for side, cells in zip(SIDES, network.s2, strict=True):
        patches = torch.cat(
            [F.unfold(band, side).transpose(1, 2).flatten(0, 1) for band in maps if min(band.shape[2:]) >= side]
        )
        for prototype in cells.prototypes:
            assert (patches - prototype.flatten()).abs().amax(dim=1).min() < 1e-5
    again, other = HMAX(prototypes=4), HMAX(prototypes=4)
    imprint(again, images, MODEL.preprocess, seed=1)
    imprint(other, images, MODEL.preprocess, seed=2)
    assert all(torch.equal(a.prototypes, b.prototypes) for a, b in zip(network.s2, again.s2, strict=True))
    assert not any(torch.equal(a.prototypes, b.prototypes) for a, b in zip(network.s2, other.s2, strict=True))


@pytest.mark.parametrize("classes", [2, 3])
def test_the_linear_layer_is_the_svm_with_the_features_standardisation_folded_in(classes: int) -> None:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % classes
    features = torch.randn(60, 5, generator=generator) * torch.tensor([1, 10, 0.1, 1, 2.0]) + labels[:, None] + 3
    estimator = make_pipeline(StandardScaler(), LinearSVC(C=0.05, random_state=0))
    expected = torch.from_numpy(estimator.fit(features.double().numpy(), labels.numpy()).decision_function(features))
    head = nn.Linear(5, classes)
    fit(head, features, labels, C=0.05)
    got = head(features).double()
    if classes == 2:
        expected = torch.stack([-expected, expected], dim=1)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_images_too_small_for_a_prototype_are_refused(gray: Tensor, tmp_path: Path) -> None:
    small_input = Recipe(**SETTINGS, input_size=64)
    preprocess = zoo.spec.Preprocess(input_size=(1, 64, 64), crop_pct=1.0, mean=(0.0,), std=(1.0,))
    run = Run(tmp_path, display=Silent())
    with pytest.raises(DataError, match="no map of C1 to cut a prototype of 16 x 16"):
        train(HMAX(prototypes=1), TrainingData(as_set(gray)), small_input, run, preprocess=preprocess, device="cpu")


@pytest.mark.parametrize(("arguments", "said"), [({"prototypes": 0}, "prototypes = 0"), ({"beta": 0.0}, "beta = 0.0")])
def test_an_argument_that_makes_no_network_is_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        HMAX(**arguments)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run on 150 digits, 30 of them held out, with 15 prototypes of each size."""
    images = data.load("digits", "train")
    output = tmp_path_factory.mktemp("hmax") / "run"
    by_name.train(
        "hmax",
        images.subset(torch.arange(150), "train"),
        args={"prototypes": 15},
        settings={"validation": 30, "seed": 3, "input_size": 80},
        output=output,
        device="cpu",
        display=Silent(),
    )
    return output


@pytest.mark.slow
def test_digits_are_learnt_and_the_record_says_how(trained: Path) -> None:
    row = json.loads((trained / "log.jsonl").read_text())
    assert row["train_top1"] > 95
    assert row["val_top1"] > 60  # chance is 10
    network = zoo.create("hmax", weights=trained / "model.safetensors")
    assert (info_of(network).args["prototypes"], network.num_classes, network.num_features) == (15, 10, 60)
    config = json.loads((trained / "config.json").read_text())
    assert config["recipe"]["seed"] == 3
    assert config["data"]["validation"]["n"] == 30


def test_prototypes_of_other_images_are_kept_where_training_starts_from_them(trained: Path, tmp_path: Path) -> None:
    """The paper's universal features."""
    images = data.load("digits", "test").subset(torch.arange(40), "train")
    network = by_name.train(
        "hmax", images, init=trained / "model.safetensors", output=tmp_path / "run", device="cpu", display=Silent()
    )
    before = zoo.create("hmax", weights=trained / "model.safetensors")
    assert all(torch.equal(a.prototypes, b.prototypes) for a, b in zip(network.s2, before.s2, strict=True))
    assert not torch.equal(network.fc.weight, before.fc.weight)

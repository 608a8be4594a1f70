"""The gabor family against OpenCV, scikit-image, the authors' formula pixel by pixel, golden sizes, closed forms."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.reference import params_of
from support.seeded import noise
from torch import Tensor, nn
from torch.nn import functional as F

import zoo
from zoo import training
from zoo.errors import SpecError
from zoo.loading import safetensors_file
from zoo.modules.gabor import bank, gabor_filter, sigma_of
from zoo.testing import Check, conformance
from zoo.training import optimization
from zoo_gabor import plugin
from zoo_gabor.model import cnn4, gcn4
from zoo_gabor.modulation import GConv, modulators
from zoo_gabor.resnet import GaborWideResNet

MODELS = {model.name: model for model in plugin.models}


@conformance("gabor")
def test_conformance(check: Check) -> None:
    check()


# ---- The filter bank ----

FILTERS = [
    {"wavelength": 6.0, "orientation": 0.0, "phase": 0.0, "sigma": 3.0, "gamma": 0.5},
    {"wavelength": 4.0, "orientation": 0.7, "phase": 0.9, "sigma": 2.5, "gamma": 0.8},
    {"wavelength": 9.5, "orientation": 2.3, "phase": -1.2, "sigma": 4.0, "gamma": 1.3},
    {"wavelength": 5.0, "orientation": math.pi / 2, "phase": math.pi / 2, "sigma": 2.0, "gamma": 1.0},
    {"wavelength": 5.0, "orientation": 3.12, "phase": 0.9, "sigma": 2.2, "gamma": 0.7},  # found from below 0
]


@pytest.mark.parametrize("args", FILTERS)
def test_a_filter_is_opencvs_whose_axes_run_the_other_way(args: dict[str, float]) -> None:
    cv2 = pytest.importorskip("cv2", reason="opencv is not installed")
    theirs = cv2.getGaborKernel(
        (21, 21), args["sigma"], args["orientation"], args["wavelength"], args["gamma"], -args["phase"], cv2.CV_64F
    )
    np.testing.assert_allclose(gabor_filter(**args, size=21).numpy(), theirs, atol=1e-12)


@pytest.mark.parametrize("args", FILTERS)
def test_a_complex_filter_is_scikit_images_but_for_its_factor(args: dict[str, float]) -> None:
    filters = pytest.importorskip("skimage.filters", reason="scikit-image is not installed")
    sigma_x, sigma_y = args["sigma"], args["sigma"] / args["gamma"]
    theirs = filters.gabor_kernel(
        1 / args["wavelength"], args["orientation"], sigma_x=sigma_x, sigma_y=sigma_y, offset=args["phase"]
    )
    theirs = theirs * (2 * math.pi * sigma_x * sigma_y)
    size = max(theirs.shape)
    ours = gabor_filter(**args, size=size, part="complex").numpy()
    rows, columns = ((size - side) // 2 for side in theirs.shape)
    ours = ours[rows : size - rows, columns : size - columns]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_one_octave_is_scikit_images_sigma() -> None:
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    from skimage.filters._gabor import _sigma_prefactor

    for octaves in (0.5, 1.0, 2.0):
        assert sigma_of(7.0, octaves) == pytest.approx(7.0 * _sigma_prefactor(octaves))
    assert sigma_of(1.0) == pytest.approx(0.56, abs=0.003)


def test_even_and_odd_are_the_parts_of_the_complex_filter_and_its_energy_has_no_stripes() -> None:
    args: dict[str, Any] = {"phase": 0.4, "sigma": 3.0, "gamma": 1.0, "size": 15}
    both = gabor_filter(6.0, 0.5, part="complex", **args)
    assert torch.equal(both.real, gabor_filter(6.0, 0.5, **args))
    assert torch.equal(both.imag, gabor_filter(6.0, 0.5, part="odd", **args))
    offset = torch.arange(15.0, dtype=torch.float64) - 7
    spread = offset.square().unsqueeze(0) + offset.square().unsqueeze(1)
    torch.testing.assert_close(both.abs(), torch.exp(-spread / 18))


@pytest.mark.parametrize("part", ["even", "odd"])
def test_without_dc_a_filter_is_blind_to_brightness_and_still_ends_in_nothing(part: Any) -> None:
    args: dict[str, Any] = {"phase": 0.3, "gamma": 0.8, "part": part}
    plain, without = (gabor_filter(8.0, 0.6, remove_dc=removed, **args) for removed in (False, True))
    assert abs(plain.sum()) > 1e-3
    assert abs(without.sum()) < 1e-12
    assert without[0].abs().max() < 0.02


def test_the_dc_term_in_closed_form() -> None:
    k, sigma = 2 * math.pi / 6, 2.2
    plain = gabor_filter(6.0, 0.0, sigma=sigma, gamma=1.0, size=41)
    without = gabor_filter(6.0, 0.0, sigma=sigma, gamma=1.0, size=41, remove_dc=True)
    envelope = gabor_filter(1e12, 0.0, sigma=sigma, gamma=1.0, size=41)
    torch.testing.assert_close(plain - without, math.exp(-((k * sigma) ** 2) / 2) * envelope, atol=1e-9, rtol=1e-6)


def test_a_bank_has_all_wavelengths_and_orientations_in_one_size() -> None:
    filters = bank([4.0, 8.0], 6, gamma=0.5)
    assert filters.shape == (2, 6, 55, 55)  # three standard deviations of 0.56 * 8 / 0.5 to every side
    torch.testing.assert_close(filters[1, 2], gabor_filter(8.0, math.pi / 3, gamma=0.5))
    torch.testing.assert_close(filters[0, 4], gabor_filter(4.0, 2 * math.pi / 3, gamma=0.5, size=55))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"wavelength": 0.0}, "wavelength = 0.0"),
        ({"sigma": -1.0}, "sigma = -1.0"),
        ({"gamma": math.inf}, "gamma = inf"),
        ({"size": 0}, "size = 0"),
        ({"part": "real"}, "part = 'real'"),
    ],
)
def test_a_filter_that_there_is_not_is_refused_by_name(args: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        gabor_filter(**{"wavelength": 4.0, "orientation": 0.0, **args})
    with pytest.raises(SpecError, match="expected at least one of each"):
        bank([], 4)


# ---- Modulation: the traps ----


def by_the_authors_formula(orientations: int, scale: int, side: int) -> Tensor:
    """Returns the real part of the bank, pixel by pixel, as the released code has it, without its scaling."""
    values = torch.empty(orientations, side, side, dtype=torch.float64)
    k = math.pi / 2 / math.sqrt(2) ** (scale - 1)
    for u in range(orientations):
        theta = u / orientations * math.pi
        for row in range(side):
            for column in range(side):
                y, x = row - (side - 1) / 2, column - (side - 1) / 2
                wave = math.cos(k * math.cos(theta) * x + k * math.sin(theta) * y) - math.exp(-(math.pi**2) / 2)
                values[u, row, column] = k**2 * math.exp(-(k**2) * (x**2 + y**2) / (2 * math.pi**2)) * wave / math.pi**2
    return values


def to_unit_range(one: Tensor) -> Tensor:
    return (one - one.min()) / (one.max() - one.min())


@pytest.mark.parametrize(("orientations", "scale", "side"), [(4, 1, 3), (4, 2, 5), (4, 4, 7), (6, 3, 5), (1, 1, 3)])
def test_the_real_part_only_scaled_by_minimum_and_maximum_of_each_orientation(
    orientations: int, scale: int, side: int
) -> None:
    expected = torch.stack([to_unit_range(one) for one in by_the_authors_formula(orientations, scale, side)])
    got = modulators(orientations, scale, side)
    torch.testing.assert_close(got, expected)
    assert got.amin((1, 2)).tolist() == [0.0] * orientations
    assert got.amax((1, 2)).tolist() == [1.0] * orientations
    torch.testing.assert_close(got, got.flip(1, 2))  # an odd part would not be symmetric about the centre


def test_a_kernel_of_one_pixel_is_all_ones() -> None:
    assert torch.equal(modulators(4, 2, 1), torch.ones(4, 1, 1, dtype=torch.float64))
    conv = GConv(3, 2, 1, orientations=4, scale=2)
    for u in range(4):
        assert torch.equal(conv.filters()[u::4], conv.weight.view(2, 12, 1, 1))


@pytest.mark.parametrize("kernel_size", [3, 5, 7])
def test_one_scale_per_layer_which_is_the_layers_number(kernel_size: int) -> None:
    network = gcn4(kernel_size=kernel_size)
    for layer in range(1, 5):
        conv = network.get_submodule(f"block{layer}.conv")
        assert conv.scale == layer
        expected = [to_unit_range(one) for one in by_the_authors_formula(4, layer, kernel_size)]
        torch.testing.assert_close(conv.bank, torch.stack(expected).float())


def one_layer(**changes: Any) -> GConv:
    torch.manual_seed(0)
    return GConv(**{"in_maps": 2, "out_maps": 3, "kernel_size": 5, "orientations": 4, "scale": 2, **changes})


def in_copies(conv: GConv, x: Tensor, weight: Tensor) -> Tensor:
    """Returns the layer by an explicit loop: copy u of each map's filter, its inputs as they come, modulator u."""
    bank = [to_unit_range(one).float() for one in by_the_authors_formula(4, conv.scale, 5)]
    kernels = weight.view(3, 2 * 4, 5, 5)  # O I U*k k -> O IU k k
    maps = [F.conv2d(x, kernels[[out]] * bank[u], padding=conv.padding) for out in range(3) for u in range(4)]
    return torch.cat(maps, dim=1)


def test_orientation_is_the_inner_index_and_input_orientations_are_not_rotated() -> None:
    conv, x = one_layer(padding=2), noise(2, 8, 9, 9)
    expected = in_copies(conv, x, conv.weight)
    torch.testing.assert_close(conv(x), expected)
    # Channel 6 is map 1, orientation 2: it listens to that map's filter alone.
    with torch.no_grad():
        conv.weight[0].zero_()
        silent = conv(x).abs().amax((0, 2, 3))
    assert (silent[:4] == 0).all()
    torch.testing.assert_close(conv(x)[:, 4:], expected[:, 4:])
    assert not torch.allclose(expected, in_copies(conv, x.unflatten(1, (2, 4)).roll(1, 2).flatten(1, 2), conv.weight))


def test_the_gradient_of_a_weight_sums_over_its_copies() -> None:
    conv, x = one_layer(padding=2), noise(2, 8, 9, 9)
    conv(x).square().sum().backward()
    # dC = sum over u of dC_u times modulator u, C_u being copies with gradients of their own.
    bank = [to_unit_range(one).float() for one in by_the_authors_formula(4, 2, 5)]
    copies = [(conv.weight.detach().view(3, 8, 5, 5) * one).requires_grad_() for one in bank]
    sum(F.conv2d(x, copy, padding=2).square().sum() for copy in copies).backward()
    expected = sum(copy.grad * one for copy, one in zip(copies, bank, strict=True))
    torch.testing.assert_close(conv.weight.grad, expected.view_as(conv.weight), rtol=1e-4, atol=1e-3)


def test_a_first_layer_sees_each_input_channel_once_an_orientation() -> None:
    conv, x = one_layer(first=True, padding=2), noise(2, 2, 9, 9)
    expanded = torch.cat([x[:, [channel]] for channel in range(2) for _ in range(4)], dim=1)
    torch.testing.assert_close(conv(x), in_copies(conv, expanded, conv.weight), rtol=1e-4, atol=1e-5)


def test_weights_for_grey_images_are_adapted_to_colour(tmp_path: Path) -> None:
    network, file = gcn4(kernel_size=3).eval(), tmp_path / "gcn.safetensors"
    safetensors_file.write(network.state_dict(), file, {"model": "gcn4_3x3"})
    color = zoo.create("gcn4_3x3", weights=file, in_chans=3).eval()
    gray = noise(2, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(color(gray.expand(-1, 3, -1, -1)), network(gray), rtol=1e-4, atol=1e-5)


def test_weights_begin_with_hes_variance_by_the_fan_of_all_orientations() -> None:
    conv = GConv(64, 64, 3, orientations=4, scale=1)
    assert conv.weight.var().item() == pytest.approx(2 / (9 * 64 * 4), rel=0.02)


# ---- Networks ----


@pytest.mark.parametrize(("name", "params"), [("gcn4_3x3", 245_954), ("gcn4_5x5", 515_394), ("gcn4_7x7", 919_554)])
def test_the_digit_networks_have_the_golden_size(name: str, params: int) -> None:
    assert params_of(gcn4(**MODELS[name].args)) == MODELS[name].params == params


@pytest.mark.parametrize("kernel_size", [3, 5, 7])
@pytest.mark.parametrize("orientations", [1, 2, 4, 6, 8])
def test_another_number_of_orientations_changes_the_size_in_closed_form(kernel_size: int, orientations: int) -> None:
    filters = (10 + 10 * 20 + 20 * 40 + 40 * 80) * orientations * kernel_size**2
    norms = 2 * (10 + 20 + 40 + 80) * orientations
    network = gcn4(kernel_size=kernel_size, orientations=orientations)
    assert params_of(network) == filters + norms + (80 + 1) * 1024 + (1024 + 1) * 10
    assert network.eval()(noise(1, 1, 28, 28)).shape == (1, 10)


def test_the_plain_network_has_the_golden_size() -> None:
    network = cnn4()
    assert params_of(network) == MODELS["cnn4_3x3"].params == 3_087_754
    assert not any(isinstance(module, GConv | nn.BatchNorm2d) for module in network.modules())


def test_5x5_has_the_sizes_of_the_authors_code() -> None:
    network, x, sizes = gcn4(kernel_size=5).eval(), noise(1, 1, 28, 28), []
    for name in network.default_layers:
        block = network.get_submodule(name)
        sizes.append(tuple(block.conv(x).shape[1:]))
        x = block(x)
    assert sizes == [(40, 28, 28), (80, 28, 28), (160, 10, 10), (320, 1, 1)]
    assert x.shape == (1, 320, 1, 1)


def test_the_maximum_over_orientations_stands_between_features_and_hidden_layer() -> None:
    network = gcn4(kernel_size=3).eval()
    features = noise(2, 320, 1, 1)
    strongest = torch.stack([features[:, 4 * one : 4 * one + 4, 0, 0].max(1).values for one in range(80)], 1)
    with torch.no_grad():
        hidden = network.fc1(strongest).relu()
        torch.testing.assert_close(network.forward_head(features, pre_logits=True), hidden)
        torch.testing.assert_close(network.forward_head(features), network.fc2(hidden))


def wide_resnet_size(depth: int, maps: list[int], u: int, classes: int) -> int:
    """Parameters summed layer by layer: filters of O I U k k, normalisation of all channels."""
    stem, *stages = maps
    total, before = 3 * stem * u * 9, stem
    for stage, width in enumerate(stages):
        if before != width or stage > 0:
            total += before * width * u  # the projection
        for _ in range((depth - 4) // 6):
            total += (before + width) * width * u * 9 + 2 * (before + width) * u
            before = width
    return total + 2 * before * u + (before * u + 1) * classes


@pytest.mark.parametrize("name", ["gcn16_narrow", "gcn40_1", pytest.param("gcn40_2", marks=pytest.mark.slow)])
def test_the_residual_networks_have_the_size_of_the_closed_form(name: str) -> None:
    args = MODELS[name].args
    with torch.device("meta"):
        for orientations, classes in ((4, 10), (2, 100)):
            network = GaborWideResNet(**args, orientations=orientations, num_classes=classes)
            assert params_of(network) == wide_resnet_size(args["depth"], args["maps"], orientations, classes)
    assert wide_resnet_size(args["depth"], args["maps"], 4, 10) == MODELS[name].params


def test_each_stage_may_have_a_scale_of_its_own() -> None:
    network = GaborWideResNet(depth=10, maps=[2, 2, 4, 4], scales=[1, 2, 3, 4])
    found = {name.split(".")[0]: module.scale for name, module in network.named_modules() if isinstance(module, GConv)}
    assert found == {"conv1": 1, "layer1": 2, "layer2": 3, "layer3": 4}


def test_a_residual_unit_adds_its_input_as_it_came() -> None:
    unit = GaborWideResNet(depth=10, maps=[2, 2, 4, 4]).layer2[0].eval()
    x = noise(2, 8, 8, 8)
    with torch.no_grad():
        unit.conv2.weight.zero_()
        expected = F.conv2d(x, unit.shortcut.weight.view(4, 8, 1, 1).repeat_interleave(4, 0), stride=2)
        torch.testing.assert_close(unit(x), expected)


@pytest.mark.parametrize(
    ("build", "args", "said"),
    [
        (gcn4, {"kernel_size": 4}, "kernel_size = 4"),
        (gcn4, {"kernel_size": 3, "orientations": 0}, "orientations = 0"),
        (GaborWideResNet, {"depth": 20, "maps": [2, 2, 4, 4]}, "depth = 20"),
        (GaborWideResNet, {"depth": 16, "maps": [2, 2, 4]}, r"maps = \[2, 2, 4\]"),
        (GaborWideResNet, {"depth": 16, "maps": [2, 2, 4, 4], "scales": [1, 0, 1, 1]}, "scale = 0"),
    ],
)
def test_an_argument_outside_its_range_is_refused_by_name(build: Any, args: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        build(**args)


# ---- Training ----


def test_papers_recipe_is_adadelta_that_halves_every_ten_epochs() -> None:
    recipe = training.choose(plugin, "gcn4_3x3", "mnist", "paper_mnist")
    optimizer = optimization.create_optimizer(gcn4(kernel_size=3), recipe)
    assert isinstance(optimizer, torch.optim.Adadelta)
    settings = optimizer.param_groups[0]
    assert (settings["rho"], settings["eps"], settings["weight_decay"]) == (0.9, 1e-6, 3e-5)
    rates = optimization.Schedule(optimizer, recipe, 100)
    assert [rates.set(epoch * 100) for epoch in (0, 9, 10, 25, 49)] == [1.0, 1.0, 0.5, 0.25, 0.0625]


@pytest.mark.parametrize(("dataset", "name"), [("mnist", "fast_mnist"), ("mnist_rot", "redrawn_mnist")])
def test_digits_are_never_mirrored_and_turned_only_by_their_data_set(dataset: str, name: str) -> None:
    recipe = training.choose(plugin, "gcn4_3x3", dataset)
    assert (recipe.name, recipe.augment.flip, recipe.augment.affine) == (name, False, None)
    assert recipe.augment.redraw is (dataset == "mnist_rot")

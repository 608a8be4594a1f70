"""Deformable convolution against torch's and by hand, scattering against kymatio's own transform."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.reference import cifar10_test_images
from support.seeded import noise
from torch import nn

import zoo
from zoo_invariant.deformable import DeformConv2d, deform_cnn
from zoo_invariant.scattering import Scattering

# ---- Deformable convolution ----


@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 1), (1, 0)])
def test_with_offsets_of_zero_it_is_torchs_convolution(stride: int, padding: int) -> None:
    layer = DeformConv2d(3, 5, 3, stride=stride, padding=padding)
    plain = nn.Conv2d(3, 5, 3, stride=stride, padding=padding, bias=False)
    plain.load_state_dict({"weight": layer.weight})
    images = noise(2, 3, 9, 11)
    torch.testing.assert_close(layer(images), plain(images))


@pytest.mark.parametrize(("stride", "padding", "far"), [(1, 1, 2.0), (2, 1, 2.0), (1, 0, 20.0)])
def test_moved_taps_and_their_gradients_are_those_of_torchvision(stride: int, padding: int, far: float) -> None:
    from torchvision.ops import deform_conv2d

    layer = DeformConv2d(3, 5, 3, stride=stride, padding=padding)
    nn.init.normal_(layer.offset.weight, std=far / 5)
    nn.init.normal_(layer.offset.bias, std=far)
    images = noise(2, 3, 9, 11).requires_grad_()
    expected = deform_conv2d(images, layer.offset(images), layer.weight, stride=stride, padding=padding)
    got = layer(images)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    wanted = (images, *layer.parameters())
    sides = (torch.autograd.grad(out.square().sum(), wanted) for out in (got, expected))
    for ours, theirs in zip(*sides, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_every_offset_of_a_new_network_is_zero() -> None:
    network = deform_cnn(deformable=3)
    offsets = [module.offset for module in network.modules() if isinstance(module, DeformConv2d)]
    assert len(offsets) == 3
    for offset in offsets:
        assert offset.weight.abs().max() == 0
        assert offset.bias.abs().max() == 0


def test_offsets_are_dy_then_dx_a_tap_row_by_row() -> None:
    layer = DeformConv2d(1, 1, 3, padding=1)
    images = noise(1, 1, 8, 8)
    taps = [(row, column) for row in range(3) for column in range(3)]
    for tap, (row, column) in enumerate(taps):
        with torch.no_grad():
            layer.weight.zero_()
            layer.weight[0, 0, row, column] = 1
            layer.offset.bias.zero_()
            layer.offset.bias[2 * tap] = 2  # dy
            layer.offset.bias[2 * tap + 1] = -1  # dx
            got = layer(images)
        padded = F.pad(images, (4, 4, 4, 4))
        top, left = 4 + row - 1 + 2, 4 + column - 1 - 1
        torch.testing.assert_close(got, padded[..., top : top + 8, left : left + 8], msg=str((row, column)))


def test_between_pixels_it_is_bilinear_and_outside_it_is_zero() -> None:
    layer = DeformConv2d(1, 1, 1)
    images = noise(1, 1, 6, 6)
    with torch.no_grad():
        layer.weight.fill_(1)
        layer.offset.bias.copy_(torch.tensor([0.25, 0.5]))
        got = layer(images)
    down, right = F.pad(images, (0, 0, 0, 1)), F.pad(images, (0, 1))
    both = F.pad(images, (0, 1, 0, 1))
    expected = 0.75 * (0.5 * images + 0.5 * right[..., 1:])
    expected += 0.25 * (0.5 * down[..., 1:, :] + 0.5 * both[..., 1:, 1:])
    torch.testing.assert_close(got, expected)


def test_taps_are_placed_in_float32_under_bfloat16_autocast() -> None:
    layer = DeformConv2d(2, 3, 3, padding=1)
    nn.init.normal_(layer.offset.weight)
    images = noise(1, 2, 9, 9)
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            got = layer(images)
        torch.testing.assert_close(got, layer(images))


def test_an_offset_that_is_not_a_number_shows_in_the_output_and_crashes_nothing() -> None:
    layer = DeformConv2d(1, 2, 3, padding=1)
    images = noise(1, 1, 8, 8)
    for wrong, shows in ((float("nan"), True), (float("inf"), True), (1e30, False)):
        with torch.no_grad():
            layer.offset.get_parameter("bias")[3] = wrong
        out = layer(images)
        assert out.isnan().all() == shows
        out.sum().backward()


# ---- Scattering ----


def kymatios(scale: int, side: int) -> Any:
    # Not kymatio.torch, which asks SciPy for a function that 1.17 no longer has.
    from kymatio.scattering2d.frontend.torch_frontend import ScatteringTorch2D

    return ScatteringTorch2D(scale, (side, side))


@pytest.mark.first(2)
@pytest.mark.parametrize(
    ("scale", "side", "coefficients", "places"), [(1, 32, 9, 16), (2, 32, 81, 8), (3, 32, 217, 4), (2, 28, 81, 7)]
)
def test_coefficients_are_kymatios_in_its_order(scale: int, side: int, coefficients: int, places: int) -> None:
    images = cifar10_test_images(2)[0][..., :side, :side].contiguous()
    with torch.no_grad():
        expected = kymatios(scale, side)(images)  # B C K h w
        got = Scattering(scale, side)(images)
    assert expected.shape == (2, 3, coefficients, places, places)
    torch.testing.assert_close(got, expected.flatten(1, 2), rtol=1e-5, atol=1e-6)


def test_scattering_runs_in_float32_under_bfloat16_autocast() -> None:
    transform, images = Scattering(2, 16), noise(2, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        got = transform(images)
    assert got.dtype == torch.float32
    assert torch.equal(got, transform(images))


def test_coefficients_can_be_differentiated_where_maps_are_zero_too() -> None:
    transform = Scattering(2, 16)
    images = torch.zeros(1, 1, 16, 16, requires_grad=True)
    transform(images).sum().backward()
    assert images.grad.isfinite().all()


def test_a_row_that_needs_a_library_says_which_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    for name, missing, extra in (("scatter_linear", "kymatio", "invariant"), ("hmax", "sklearn", "data")):
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda module, *rest, gone=missing: None if module == gone else find(module, *rest),
        )
        with pytest.raises(zoo.MissingExtraError, match=missing) as error:
            zoo.create(name)
        assert f"zoo-vision[{extra}]" in str(error.value) + str(error.value.__dict__)

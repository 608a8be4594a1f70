"""Networks with a part of their own arithmetic take any floating-point type and any number of images."""

import math

import pytest
import torch

import zoo

ARITHMETIC = ["stn_tutorial_mnist", "stn_cnn_mnist", "deform_cnn", "scatter_linear", "scatter_cnn_small"]


@pytest.fixture(autouse=True)
def _needs_libraries() -> None:
    pytest.importorskip("kymatio", reason="needs zoo-vision[invariant]")
    pytest.importorskip("torchvision", reason="needs torchvision")


def outputs(name: str, dtype: torch.dtype, count: int = 3) -> torch.Tensor:
    torch.manual_seed(0)
    network = zoo.create(name).eval()
    for parameter in network.parameters():  # a transformer begins as the identity, an offset as 0
        parameter.data += 0.01 * torch.randn_like(parameter)
    images = torch.rand(count, *network.zoo_info.preprocess.input_size)
    with torch.no_grad():
        logits: torch.Tensor = network.to(dtype)(images.to(dtype))
    return logits


@pytest.mark.parametrize("name", ARITHMETIC)
def test_in_float64_the_outputs_are_those_of_float32_up_to_its_rounding(name: str) -> None:
    single, double = outputs(name, torch.float32), outputs(name, torch.float64)
    assert double.dtype == torch.float64
    assert torch.allclose(single.double(), double, rtol=1e-4, atol=1e-4 * float(double.abs().max()))


@pytest.mark.parametrize("name", ARITHMETIC)
def test_in_bfloat16_the_outputs_are_near(name: str) -> None:
    single, half = outputs(name, torch.float32), outputs(name, torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert float((half.float() - single).abs().max() / single.abs().max()) < 0.1


EMPTY = ["gcn4_3x3", "cnn4_3x3", "orn4_pool", "orn4_align", "stn_tutorial_mnist", "scatter_linear", "scatter_cnn_small"]


@pytest.mark.parametrize("name", [*EMPTY, "sift_bovw_svm", "hog_svm"])
def test_no_images_have_no_logits(name: str) -> None:
    assert outputs(name, torch.float32, count=0).shape == (0, zoo.create(name).num_classes)


def test_in_float64_a_bank_of_gabor_filters_has_its_digits() -> None:
    """The centre of a filter of 3x3 is the largest value of its orientation: exactly 1, and others are irrational."""
    network = zoo.create("gcn4_3x3").double()
    bank = network.block1.conv.bank
    k = math.pi / 2
    cosine = [math.exp(-(k**2) * (x * x + y * y) / (2 * math.pi**2)) * (math.cos(k * x) - math.exp(-(math.pi**2) / 2))
              for y in (-1, 0, 1) for x in (-1, 0, 1)]  # fmt: skip
    least, most = min(cosine), max(cosine)
    expected = torch.tensor([(value - least) / (most - least) for value in cosine], dtype=torch.float64)
    assert bank.dtype == torch.float64
    assert torch.allclose(bank[0].flatten(), expected, rtol=1e-14, atol=1e-15)

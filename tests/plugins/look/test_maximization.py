"""Activation maximisation: optima that are known, and what a maximising image must do."""

import os
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import zoo
import zoo_look as look
from zoo import data
from zoo.errors import SpecError, UnknownNameError
from zoo_look.maximization import COLORS, Ascent, gaussian_blur, total_variation, transformed
from zoo_look.network import Rectifiers, maps_of, opened, reached


def mean_activations(name: str, layer: str, images: Tensor) -> Tensor:
    """Returns B C: each channel's mean over the map, before a ReLU that made it."""
    means = []
    with opened(name) as network, reached(network, layer) as run, torch.no_grad():
        for some in images.split(250):
            with Rectifiers() as seen:
                output = run(some)
            means.append(maps_of(seen.before(output), layer).mean((2, 3)))
    return torch.cat(means)


@pytest.mark.parametrize("how", ["in a ball", "with an L2 penalty"])
def test_the_best_image_for_a_first_layer_unit_is_its_filter(how: str) -> None:
    """Of w.x over a ball, or less a multiple of |x|^2, the maximum is a multiple of w (Cauchy and Schwarz)."""
    settings: dict[str, Any] = (
        {"radius": 1.0, "steps": 150, "rate": 0.1} if how == "in a ball" else {"l2": 1.0, "steps": 200, "rate": 0.02}
    )
    result = look.maximize(
        "resnet20.c10",
        "conv1",
        [6, 7],
        position=(16, 16),
        parametrisation="pixels",
        clip=False,
        jitter=0,
        tv=0.0,
        **settings,
    )
    filters: Tensor = zoo.create("resnet20.c10").get_submodule("conv1").weight
    for image, kernel in zip(result.inputs, filters[[6, 7]], strict=True):
        expected = torch.zeros_like(image)
        expected[:, 15:18, 15:18] = kernel.detach()
        assert float(F.cosine_similarity(image.flatten(), expected.flatten(), dim=0)) > 0.9999
    if how == "in a ball":
        norms = filters[[6, 7]].flatten(1).norm(dim=1)
        torch.testing.assert_close(result.values, norms.detach(), rtol=1e-3, atol=0)


@pytest.mark.first(1)
@pytest.mark.parametrize("name", ["resnet20.digits", "dtp_mlp.mnist", "gcn4_3x3.mnist"])
def test_images_that_maximise_a_logit_are_of_that_class(name: str) -> None:
    """Grey images of 8 and of 28 pixels a side, and a network without convolutions."""
    unmoved = {"jitter": 0, "rotate": 0, "zoom": 0} if "mlp" in name else {}  # it knows no translation
    found = look.maximize(name, "", range(10), **unmoved)
    with torch.no_grad():
        assert zoo.create(name).eval()(found.inputs).argmax(1).tolist() == list(range(10))
    assert ((found.images >= 0) & (found.images <= 1)).all()


def test_a_result_depends_on_the_seed_and_on_nothing_else() -> None:
    ask: dict[str, Any] = {"steps": 5, "restarts": 2}
    pair = look.maximize("resnet20.digits", "layer1", [3, 9], **ask)
    alone = look.maximize("resnet20.digits", "layer1", 9, **ask)
    torch.manual_seed(99)
    again = look.maximize("resnet20.digits", "layer1", [3, 9], batch_size=1, **ask)
    other = look.maximize("resnet20.digits", "layer1", 9, seed=1, **ask)
    torch.testing.assert_close(pair.inputs[1:], alone.inputs, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(pair.inputs, again.inputs, rtol=1e-3, atol=1e-3)
    assert torch.equal(look.maximize("resnet20.digits", "layer1", 9, **ask).inputs, alone.inputs)
    assert (other.inputs - alone.inputs).abs().max() > 0.01


@pytest.mark.parametrize("parametrisation", ["fourier", "pixels"])
@pytest.mark.parametrize("clip", [True, False])
def test_any_size_and_any_number_of_channels_will_do(parametrisation: Any, clip: bool) -> None:
    for name, channels in (("resnet20.digits", 1), ("resnet20.c10", 3)):
        result = look.maximize(
            name, "layer1", [0], size=(11, 18), steps=12, blur=0.7, tv=1e-4, parametrisation=parametrisation, clip=clip
        )
        assert result.inputs.shape == (1, channels, 11, 18)
        assert result.values > result.noise[0]


def test_what_a_relu_silences_is_climbed_in_front_of_it() -> None:
    """Channels of a concatenation of ReLUs that answer nothing to noise are driven up nevertheless."""
    before = look.maximize("googlenet_small.c10", "inception4e", range(16), steps=0).values
    after = look.maximize("googlenet_small.c10", "inception4e", range(16), steps=6, rate=0.2).values
    silent = before < -0.1
    assert silent.sum() >= 3
    assert (after - before)[silent].mean() > 0.1


def test_the_best_of_all_restarts_is_kept() -> None:
    result = look.maximize("resnet20.digits", "layer2", [0, 1, 2], restarts=3, steps=5, jitter=0)
    assert torch.equal(result.values, result.restarts.amax(1))
    for unit in range(3):
        torch.testing.assert_close(
            mean_activations("resnet20.digits", "layer2", result.inputs[unit : unit + 1])[0, unit],
            result.values[unit],
            rtol=1e-4,
            atol=1e-5,
        )


def test_more_total_variation_or_l2_costs_gives_calmer_images() -> None:
    plain, smooth, small = (
        look.maximize("resnet20.digits", "layer1", 0, steps=30, clip=False, **cost)
        for cost in ({}, {"tv": 0.05}, {"l2": 0.05})
    )
    assert total_variation(smooth.inputs) < 0.5 * total_variation(plain.inputs)
    assert small.inputs.norm() < 0.5 * plain.inputs.norm()


def test_blurring_is_torchvision_s() -> None:
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    images = torch.rand(2, 3, 16, 20, generator=torch.Generator().manual_seed(0))
    inner = (..., slice(4, -4), slice(4, -4))  # borders are treated otherwise
    expected = functional.gaussian_blur(images, [7, 7], [1.0, 1.0])
    torch.testing.assert_close(gaussian_blur(images, 1.0)[inner], expected[inner])


@pytest.mark.skipif("ZOO_DATA" not in os.environ, reason="needs CIFAR-10 in ZOO_DATA")
def test_colours_correlate_as_those_of_photographs_do() -> None:
    pixels = data.load("cifar10", "train").pixels[:5000].float()
    expected = torch.corrcoef(pixels.movedim(1, 0).flatten(1))
    correlations = torch.corrcoef(COLORS @ torch.randn(3, 100_000, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(correlations, expected, atol=0.07, rtol=0)


def test_an_image_is_turned_and_scaled_as_by_torchvision() -> None:
    functional = pytest.importorskip("torchvision.transforms.functional")
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    turn, size = (2 * torch.rand(2, generator=torch.Generator().manual_seed(7)) - 1).tolist()
    moved = transformed(images, Ascent(rotate=20, zoom=0.2), torch.Generator().manual_seed(7))
    expected = functional.affine(
        images, -20 * turn, [0, 0], 1 + 0.2 * size, [0.0, 0.0], functional.InterpolationMode.BILINEAR
    )
    inner = (..., slice(8, -8), slice(8, -8))  # borders are mirrored here, black there
    torch.testing.assert_close(moved[inner], expected[inner], atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.skipif("ZOO_DATA" not in os.environ, reason="needs CIFAR-10 in ZOO_DATA")
def test_nearly_all_channels_answer_more_to_their_image_than_to_any_photograph() -> None:
    """Against the best of 5,000 training images, and against the same image with its pixels shuffled."""
    name, layer = "resnet20.c10", "layer2"
    channels = list(range(24))
    result = look.maximize(name, layer, channels, restarts=3, steps=96, tv=0.0)
    images = data.load("cifar10", "train").subset(range(5000), "first 5,000")
    inputs = data.Transform(zoo.create(name).zoo_info.preprocess).batch(images.pixels)
    photographs = mean_activations(name, layer, inputs).amax(0)[channels]
    order = torch.randperm(32 * 32, generator=torch.Generator().manual_seed(0))
    shuffled = result.inputs.flatten(2)[..., order].view_as(result.inputs)
    controls = mean_activations(name, layer, shuffled)[torch.arange(24), channels]
    assert (result.values > photographs).float().mean() >= 0.9
    assert (result.values > controls).float().mean() >= 0.95


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"channels": 10}, UnknownNameError, "0 to 9"),
        ({"layer": "layer4"}, UnknownNameError, "layer"),
        ({"layer": "layer1", "position": (8, 1)}, UnknownNameError, "no unit"),
        ({"steps": -1}, SpecError, "negative"),
        ({"restarts": 0}, SpecError, "restarts"),
        ({"radius": 1.0}, SpecError, "radius"),
        ({"parametrisation": "wavelets"}, SpecError, "wavelets"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        look.maximize("resnet20.digits", **settings)


@pytest.mark.parametrize(("side", "steps", "rate"), [(32, 128, 0.05), (96, 150, 0.015)])
def test_settings_that_nobody_chose_follow_the_images_size(side: int, steps: int, rate: float) -> None:
    told: list[tuple[int, int]] = []
    result = look.maximize(
        "alexnet_small.c10", "features.0", 0, size=(side, side), tv=0.002, progress=lambda *at: told.append(at)
    )
    assert (result.ascent.steps, result.ascent.rate, result.ascent.tv) == (steps, rate, 0.002)
    assert told[-1] == (steps, steps)
    full = ((result.images < 0.02) | (result.images > 0.98)).float().mean()
    assert side == 32 or full < 0.5, "colours at their limits hide a picture"

"""The invariant family: sizes of closed form, symmetries as properties, torchvision, kymatio, SciPy, Pillow."""

from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support import reference
from support.reference import macs_of, params_of
from support.seeded import noise
from torch import nn

import zoo
from zoo import training
from zoo.errors import SpecError
from zoo.testing import Check, conformance
from zoo_invariant import plugin
from zoo_invariant.deformable import deform_cnn
from zoo_invariant.hybrid import scatter_cnn, scatter_linear, scatter_wrn
from zoo_invariant.oriented import ORAlign, ORConv2d, ORPool, mnist_cnn, orn
from zoo_invariant.training import parameter_groups
from zoo_invariant.transformer import STN, SpatialTransformer, control_points, pixel_places, stn_cnn

MODELS = {model.name: model for model in plugin.models}


@pytest.mark.first(75)
@conformance("invariant")
def test_conformance(check: Check) -> None:
    check()


def on_meta(name: str, **args: Any) -> Any:
    return reference.on_meta(MODELS[name], **args)


# ---- Sizes ----


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("mnist_cnn", 3_087_754),
        ("orn4_pool", 245_354),
        ("orn4_align", 491_114),
        ("orn8_pool", 397_514),
        ("orn8_align", 970_954),
    ],
)
def test_oriented_networks_and_the_plain_one_have_the_published_size(name: str, params: int) -> None:
    assert params_of(on_meta(name)) == MODELS[name].params == params


def orn_in_closed_form(orientations: int, encoding: str, first_planes: int) -> int:
    sizes = [(1, first_planes, 10), *((maps, orientations, 2 * maps) for maps in (10, 20, 40))]
    filters = sum(before * planes * 9 * after + after * orientations for before, planes, after in sizes)
    encoded = 80 * (orientations if encoding == "align" else 1)
    return filters + encoded * 1024 + 1024 + 1024 * 10 + 10


@pytest.mark.parametrize("orientations", [4, 8])
@pytest.mark.parametrize("encoding", ["align", "pool"])
def test_an_image_of_one_plane_takes_n_times_fewer_first_weights(orientations: int, encoding: str) -> None:
    for lift, planes in (("copies", orientations), ("one", 1)):
        network = on_meta(f"orn{orientations}_{encoding}", lift=lift)
        assert params_of(network) == orn_in_closed_form(orientations, encoding, planes)


def layers(*sizes: tuple[int, int, int, int]) -> tuple[int, int]:
    """Parameters and multiply-adds of layers with biases: kernel side, inputs, outputs, side of the output."""
    return (
        sum(k * k * before * after + after for k, before, after, _ in sizes),
        sum(k * k * before * after * side**2 for k, before, after, side in sizes),
    )


RTS_CLASSIFIER = ((9, 1, 32, 34), (7, 32, 32, 11), (5, 32, 256, 1), (1, 256, 10, 1))
RTS_LOCALISATION = ((5, 1, 20, 38), (5, 20, 20, 15), (7, 20, 20, 1), (1, 20, 6, 1))
TUTORIAL_CLASSIFIER = ((5, 1, 10, 24), (5, 10, 20, 8), (4, 20, 50, 1), (1, 50, 10, 1))
TUTORIAL_LOCALISATION = ((7, 1, 8, 22), (5, 8, 10, 7), (3, 10, 32, 1), (1, 32, 6, 1))


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("stn_cnn_mnist", (*RTS_CLASSIFIER, *RTS_LOCALISATION)),
        ("cnn_mnist_rts", RTS_CLASSIFIER),
        ("stn_tutorial_mnist", (*TUTORIAL_CLASSIFIER, *TUTORIAL_LOCALISATION)),
        (
            "mnist_cnn",
            ((3, 1, 80, 30), (3, 80, 160, 13), (3, 160, 320, 6), (3, 320, 640, 1), (1, 640, 1024, 1), (1, 1024, 10, 1)),
        ),
    ],
)
def test_networks_for_digits_have_the_size_of_the_closed_form(
    name: str, parts: tuple[tuple[int, int, int, int], ...]
) -> None:
    row = MODELS[name]
    network = on_meta(name)
    assert (params_of(network), macs_of(network, row.preprocess.input_size)) == (row.params, row.macs) == layers(*parts)


def test_a_projective_map_takes_two_numbers_more_and_a_spline_two_a_control_point() -> None:
    affine = params_of(on_meta("stn_cnn_mnist"))
    assert params_of(on_meta("stn_cnn_mnist", warp="projective")) == affine + 2 * 21
    assert params_of(on_meta("stn_cnn_mnist", warp="tps")) == affine + (2 * 16 - 6) * 21


def conv_bn(before: int, after: int, *, bias: bool, kernel: int = 3) -> int:
    return kernel**2 * before * after + bias * after + 2 * after


def test_the_deformable_network_has_the_size_of_the_closed_form() -> None:
    convs = [(1, 16), (16, 32), (32, 64), (64, 64)]
    offsets = sum(9 * before * 18 + 18 for before, _ in convs[2:])
    expected = sum(conv_bn(*sizes, bias=False) for sizes in convs) + offsets + 64 * 10 + 10
    assert params_of(on_meta("deform_cnn")) == MODELS["deform_cnn"].params == expected
    assert params_of(on_meta("deform_cnn", deformable=0)) == expected - offsets


def test_hybrid_networks_have_the_size_of_the_closed_form() -> None:
    linear = 2 * 243 + 243 * 64 * 10 + 10
    widths = [243, 256, 256, 256, 512, 512, 512, 1024, 1024]
    small = [243, 128, 128, 256, 256]
    pairs, small_pairs = (list(pairwise(chain)) for chain in (widths, small))
    expected = {
        "scatter_linear": linear,
        "scatter_cnn": 2 * 243 + sum(conv_bn(*pair, bias=True) for pair in pairs) + 4 * 1024 * 10 + 10,
        "scatter_cnn_small": 2 * 243 + sum(conv_bn(*pair, bias=True) for pair in small_pairs) + 4 * 256 * 10 + 10,
        "scatter_wrn12_8": wrn_in_closed_form(8),
    }
    for name, params in expected.items():
        assert params_of(on_meta(name)) == MODELS[name].params == params, name


def wrn_in_closed_form(k: int) -> int:
    params, chans = 243 * 16 * k * 9, 16 * k
    for width in (32 * k, 64 * k):
        params += 9 * (chans * width + 3 * width * width) + chans * width  # four convolutions, a 1x1 shortcut
        params += 2 * (chans + 3 * width)
        chans = width
    return params + 2 * chans + chans * 10 + 10


# ---- Oriented response networks ----


@cache
def oriented(orientations: int, planes: int) -> ORConv2d:
    torch.manual_seed(0)
    layer = ORConv2d(3, 5, orientations=orientations, planes=planes).double()
    nn.init.normal_(layer.bias)
    layer.bias.data = layer.bias.data.view(5, orientations)[:, :1].repeat(1, orientations).flatten()
    return layer


@pytest.mark.parametrize("orientations", [4, 8])
def test_copies_a_quarter_apart_are_the_filter_turned_by_torch_with_its_channels_spun(orientations: int) -> None:
    layer = oriented(orientations, orientations)
    filters = layer.weight.unflatten(3, (3, 3))  # out in N 3 3
    copies = layer.rotated().view(5, orientations, 3, orientations, 3, 3)
    for turns in range(4):
        k = turns * orientations // 4
        expected = torch.rot90(filters, -turns, (3, 4)).roll(k, dims=2)
        assert torch.equal(copies[:, k], expected)


def test_an_eighth_of_a_turn_moves_each_outer_cell_to_the_next_and_keeps_the_centre() -> None:
    layer = ORConv2d(1, 1, orientations=8, planes=1)
    layer.weight.data = torch.arange(9.0).view(1, 1, 1, 9)
    copies = layer.rotated().detach().view(8, 3, 3)
    assert copies[0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert copies[1].tolist() == [[3, 0, 1], [6, 4, 2], [7, 8, 5]]


@pytest.mark.parametrize("encoding", ["align", "pool"])
@pytest.mark.parametrize("orientations", [4, 8])
@pytest.mark.parametrize("lift", ["copies", "one"])
def test_features_of_an_image_and_of_the_image_turned_by_90_degrees_are_the_same(
    orientations: int, encoding: Any, lift: Any
) -> None:
    torch.manual_seed(0)
    network = orn(orientations=orientations, encoding=encoding, lift=lift).double().eval()
    images = noise(2, 1, 30, 30, dtype=torch.float64)  # 30, 28, 14, 12, 6, 6, 3, 1: every pool halves exactly
    with torch.no_grad():
        features = [network.forward_features(torch.rot90(images, turns, (2, 3))) for turns in range(4)]
    assert features[0].std() > 0.01
    for turned in features[1:]:
        torch.testing.assert_close(turned, features[0], rtol=1e-9, atol=1e-9)
    plain = mnist_cnn(width=8).double().eval()
    with torch.no_grad():
        seen = [plain.forward_features(torch.rot90(images, turns, (2, 3))) for turns in range(2)]
    assert (seen[0] - seen[1]).abs().max() > 0.01


def test_oralign_puts_the_strongest_response_first_and_keeps_the_order_around() -> None:
    responses = torch.tensor([3.0, 9, 1, 2, 5, 0, 0, 7])[None, :, None, None]
    assert ORAlign(4)(responses).flatten().tolist() == [9, 1, 2, 3, 7, 5, 0, 0]
    assert ORPool(4)(responses).flatten().tolist() == [9, 7]


def test_one_filter_collects_the_gradients_of_its_copies() -> None:
    layer = oriented(4, 1)
    maps = noise(1, 3, 6, 6, dtype=torch.float64)
    copies = layer.rotated().detach().requires_grad_()
    F.conv2d(maps, copies, layer.bias.detach()).square().sum().backward()
    (got,) = torch.autograd.grad(layer(maps).square().sum(), layer.weight)
    by_copy = copies.grad.view(5, 4, 3, 3, 3)
    expected = sum(torch.rot90(by_copy[:, k], k, (2, 3)) for k in range(4))  # each turned back
    torch.testing.assert_close(got.view(5, 3, 3, 3), expected)


@pytest.mark.parametrize(
    ("build", "args", "got"),
    [
        (orn, {"orientations": 6}, "orientations = 6"),
        (orn, {"encoding": "mean"}, "encoding = 'mean'"),
        (orn, {"lift": "two"}, "lift = 'two'"),
        (stn_cnn, {"warp": "perspective"}, "warp = 'perspective'"),
        (stn_cnn, {"design": "svhn"}, "design = 'svhn'"),
        (stn_cnn, {"localisation_lr": -0.1}, "localisation_lr = -0.1"),
        (deform_cnn, {"deformable": 4}, "deformable = 4"),
        (scatter_linear, {"J": 5}, "J = 5 for images of 32 pixels"),
        (scatter_linear, {"side": 224}, "images of 224 pixels"),
        (scatter_cnn, {"widths": ()}, r"widths = \(\)"),
        (scatter_wrn, {"widen": 0}, "widen = 0"),
    ],
)
def test_an_argument_that_means_nothing_is_refused_by_name(build: Any, args: dict[str, Any], got: str) -> None:
    with pytest.raises(SpecError, match=got):
        build(**args)


# ---- Spatial transformers ----


def transformer(warp: Any) -> SpatialTransformer:
    """Returns one that is told what to do by its bias alone."""
    return SpatialTransformer(nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()), 4, warp)


@pytest.mark.parametrize("warp", ["affine", "projective", "tps"])
def test_a_transformer_begins_as_the_identity_whatever_the_image(warp: Any) -> None:
    images = noise(3, 1, 9, 12)
    with torch.no_grad():
        torch.testing.assert_close(transformer(warp)(images), images, rtol=1e-4, atol=1e-5)


def test_align_corners_is_true_for_grid_and_sampling_so_that_2_over_width_less_1_is_one_pixel() -> None:
    images = noise(2, 1, 9, 12)
    moving = transformer("affine")
    with torch.no_grad():
        moving.theta.bias.copy_(torch.tensor([1, 0, 2 / (12 - 1), 0, 1, 2 * 2 / (9 - 1)]))
        moved = moving(images)
    expected = F.pad(images, (0, 1, 0, 2))[..., 2:, 1:]  # one pixel to the left, two up; 0 comes in
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-5)


def test_a_projective_map_divides_by_its_third_row() -> None:
    moving = transformer("projective")
    numbers = torch.tensor([[1.1, 0.1, 0.05, -0.1, 0.9, -0.05, 0.2, -0.1]])
    matrix = torch.cat([numbers[0], torch.ones(1)]).view(3, 3)
    grid = moving.grid(numbers, 5, 7)
    for row, column in ((0, 0), (4, 6), (2, 3), (1, 5)):
        x, y, z = matrix @ torch.tensor([2 * column / 6 - 1, 2 * row / 4 - 1, 1.0])
        torch.testing.assert_close(grid[0, row, column], torch.stack([x / z, y / z]))


def test_a_spline_is_scipys_through_the_shifted_control_points() -> None:
    interpolate = pytest.importorskip("scipy.interpolate")
    shifts = 0.2 * noise(1, 32)
    points = control_points().double()
    spline = interpolate.RBFInterpolator(points, points + shifts.view(16, 2), kernel="thin_plate_spline")
    expected = torch.from_numpy(spline(pixel_places(5, 7).double().numpy())).float()
    got = transformer("tps").grid(shifts, 5, 7)
    torch.testing.assert_close(got.view(-1, 2), expected, rtol=1e-4, atol=1e-4)


def test_the_grid_is_float32_under_bfloat16_autocast() -> None:
    images = noise(2, 1, 42, 42)
    moving = transformer("affine")
    with torch.no_grad():
        moving.theta.bias[2] = 1 / 41  # half a pixel, which bfloat16 near 1 cannot tell from none
        with torch.autocast("cpu", torch.bfloat16):
            got = moving(images)
        expected = moving(images)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected)


def test_outside_the_image_a_transformer_sees_black() -> None:
    preprocess = MODELS["stn_cnn_mnist"].preprocess
    assert (preprocess.mean, preprocess.std) == ((0.0,), (1.0,))
    moving = transformer("affine")
    with torch.no_grad():
        moving.theta.bias[2] = 10
        assert moving(torch.ones(1, 1, 9, 9)).abs().max() == 0


def test_the_transformer_learns_at_its_own_rate() -> None:
    recipe = training.choose(plugin, "stn_cnn_mnist", "mnist_rts", settings={"decay_norm_and_bias": False})
    model = stn_cnn(localisation_lr=0.1)
    groups = parameter_groups(model, recipe)
    rates = {id(value): group["lr_scale"] for group in groups for value in group["params"]}
    assert len(rates) == sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert rates[id(parameter)] == (0.1 if name.startswith("transformer.") else 1.0), name
    decays = {value.ndim > 1: group["weight_decay"] for group in groups for value in group["params"]}
    assert decays == {True: recipe.weight_decay, False: 0.0}


def test_training_moves_a_transformer_of_rate_0_not_at_all(tmp_path: Any) -> None:
    def trained(rate: float) -> STN:
        images = zoo.data.ImageSet(
            "squares",
            "train",
            ("no", "yes"),
            torch.tensor([0, 1] * 8),
            torch.randint(256, (16, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
        )
        settings = {"epochs": 2, "batch_size": 8, "precision": "float32", "validation": 0}
        model = zoo.train(
            "stn_tutorial_mnist",
            images,
            recipe="fast_mnist_stn",
            settings=settings,
            args={"localisation_lr": rate},
            output=tmp_path / str(rate),
        )
        assert isinstance(model, STN)
        return model

    still, moved = trained(0.0), trained(1.0)
    identity = torch.tensor([1.0, 0, 0, 0, 1, 0])
    assert torch.equal(still.transformer.get_parameter("theta.bias").detach(), identity)
    assert not torch.equal(moved.transformer.get_parameter("theta.bias").detach(), identity)

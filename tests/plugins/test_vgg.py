"""The vgg family against the paper's table, torchvision and timm."""

from typing import Any

import pytest
import torch
import torchvision
from support import reference
from support.reference import (
    assert_same_function,
    cifar10_test_images,
    macs_of,
    params_of,
    photographs,
    randomise,
    renamed,
)
from torch import Tensor, nn

from zoo.errors import SpecError
from zoo.testing import Check, conformance
from zoo_vgg import plugin
from zoo_vgg.model import VGG

MODELS = {model.name: model for model in plugin.models}
TORCHVISION = next(key_map for key_map in plugin.key_maps if key_map.name == "torchvision")


@pytest.mark.first(52)
@conformance("vgg")
def test_conformance(check: Check) -> None:
    check()


def on_meta(name: str, **args: Any) -> Any:
    return reference.on_meta(MODELS[name], **args)


# ---- Published parameter counts and multiply-adds ----


@pytest.mark.first(3)
@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("vgg11", 132_863_336, 7_609_090_048),
        ("vgg11_lrn", 132_863_336, 7_609_090_048),
        ("vgg13", 133_047_848, 11_308_466_176),
        ("vgg16_c", 133_638_952, 11_770_888_192),
        ("vgg16", 138_357_544, 15_470_264_320),
        ("vgg19", 143_667_240, 19_632_062_464),
        ("vgg11_bn", 132_868_840, 7_609_090_048),
        ("vgg13_bn", 133_053_736, 11_308_466_176),
        ("vgg16_bn", 138_365_992, 15_470_264_320),
        ("vgg19_bn", 143_678_248, 19_632_062_464),
        ("vgg16_bn_small", 14_728_266, 313_201_664),
    ],
)
def test_each_configuration_has_the_published_size(name: str, params: int, macs: int) -> None:
    network = on_meta(name)
    assert params_of(network) == MODELS[name].params == params
    assert macs_of(network, MODELS[name].preprocess.input_size) == MODELS[name].macs == macs


@pytest.mark.parametrize(("configuration", "layers"), [("A", 8), ("B", 10), ("B_5x5", 5), ("D", 13), ("E", 16)])
def test_a_quarter_of_the_width_has_the_size_of_the_closed_form(configuration: str, layers: int) -> None:
    network = on_meta("vgg16_bn_small", configuration=configuration, width=0.25)
    filters = [module for module in network.features if isinstance(module, nn.Conv2d)]
    assert len(filters) == layers
    widths, side = (16, 32, 64, 128, 128), 5 if configuration == "B_5x5" else 3
    per_block = {"A": (1, 1, 2, 2, 2), "B": (2,) * 5, "B_5x5": (1,) * 5, "D": (2, 2, 3, 3, 3), "E": (2, 2, 4, 4, 4)}
    expected, chans = 128 * 10 + 10, 3
    for width, count in zip(widths, per_block[configuration], strict=True):
        for _ in range(count):
            expected += chans * width * side**2 + 3 * width  # its bias, and the scale and shift behind it
            chans = width
    assert params_of(network) == expected
    assert network(torch.zeros(2, 3, 32, 32, device="meta")).shape == (2, 10)


# ---- The same function as the reference implementations, with the same weights, on real images ----


@pytest.fixture(scope="module")
def hidden() -> dict[str, Tensor]:
    """The fully connected layers' weights, half a gigabyte, drawn once for all configurations."""
    network = on_meta("vgg11")
    network.features = nn.Identity()
    randomise(network)
    return network.state_dict()


def with_weights(name: str, hidden: dict[str, Tensor], **args: Any) -> nn.Module:
    network = on_meta(name, **args)
    randomise(network.features)
    network.load_state_dict(hidden, strict=False, assign=True)
    return network


def of_torchvision(name: str, ours: nn.Module) -> nn.Module:
    """Builds torchvision's network with our weights, whose keys the family's key map must give back."""
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name)
    names = renamed({key: torch.empty(0) for key in theirs.state_dict()}, *TORCHVISION.rename)
    tensors = ours.state_dict()
    assert list(names) == list(tensors)
    weights = {
        key: tensors[name].reshape(tensor.shape)
        for (key, tensor), name in zip(theirs.state_dict().items(), names, strict=True)
    }
    theirs.load_state_dict(weights, assign=True)
    return theirs


def of_timm(name: str, ours: nn.Module) -> nn.Module:
    import timm

    with torch.device("meta"):
        theirs = timm.create_model(name)
    theirs.load_state_dict(ours.state_dict(), assign=True)
    return theirs


@pytest.mark.slow
@pytest.mark.first(1)
@pytest.mark.parametrize(
    "name",
    [
        *("vgg11", "vgg16_bn"),  # the others differ in their number of layers alone
        *(pytest.param(f"vgg{name}", marks=pytest.mark.slow) for name in ("13", "16", "19", "11_bn", "13_bn", "19_bn")),
    ],
)
def test_logits_equal_torchvisions_and_timms(name: str, hidden: dict[str, Tensor]) -> None:
    ours = with_weights(name, hidden)
    images = photographs(2, 224) if name == "vgg16" else photographs(2, 64)
    assert_same_function(ours, of_torchvision(name, ours), images)
    theirs = of_timm(name, ours)
    assert_same_function(ours, theirs, images)
    assert ours.feature_info == theirs.feature_info
    assert (ours.num_features, ours.head_hidden_size) == (theirs.num_features, theirs.head_hidden_size)


@pytest.mark.slow
def test_a_larger_image_is_evaluated_densely_as_in_timm_and_the_paper(hidden: dict[str, Tensor]) -> None:
    ours = with_weights("vgg11", hidden)
    images = photographs(1, 256)[:, :, :224]
    assert_same_function(ours, of_timm("vgg11", ours), images)
    with torch.no_grad():
        features = ours.eval().forward_features(images)  # 1 512 7 8
        windows = [features[..., left : left + 7] for left in range(2)]
        mean = torch.stack([ours.forward_head(window) for window in windows]).mean(0)
        torch.testing.assert_close(ours(images), mean, rtol=1e-4, atol=1e-4)


# ---- What people get wrong ----


def test_configuration_c_has_three_1x1_convolutions_one_at_the_end_of_each_of_the_last_blocks() -> None:
    network = on_meta("vgg16_c")
    kernels = [m.kernel_size[0] for m in network.features if isinstance(m, nn.Conv2d)]
    assert kernels == [3, 3, 3, 3, 3, 3, 1, 3, 3, 1, 3, 3, 1]
    assert params_of(on_meta("vgg16")) - params_of(network) == 8 * (256**2 + 2 * 512**2)


def test_a_lrn_normalises_once_behind_the_first_relu() -> None:
    features = VGG(configuration="A", lrn=True, hidden_layers=False).features
    kinds = [type(module).__name__ for module in features]
    assert kinds[:4] == ["Conv2d", "ReLU", "LocalResponseNorm", "MaxPool2d"]
    assert kinds.count("LocalResponseNorm") == 1
    x = torch.rand(1, 64, 1, 1, generator=torch.Generator().manual_seed(0)) * 10
    squares = x.flatten().square()
    window = torch.stack([squares[max(0, c - 2) : c + 3].sum() for c in range(64)])
    expected = x.flatten() / (2 + 1e-4 / 5 * window) ** 0.75
    torch.testing.assert_close(features[2](x).flatten(), expected)


def test_the_papers_initialisation_has_variance_one_hundredth() -> None:
    network = VGG(configuration="A", hidden_layers=False, num_classes=10, init="paper")
    assert network.features[8].weight.std().item() == pytest.approx(0.1, rel=0.01)
    assert network.features[8].bias.abs().max() == 0
    default = VGG(configuration="A", hidden_layers=False, num_classes=10)
    assert default.features[8].weight.std().item() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.01)
    assert default.head.fc.weight.std().item() == pytest.approx(0.01, rel=0.1)


# ---- The interface ----


def test_features_and_head_compose_to_the_logits() -> None:
    network = VGG(configuration="D", norm=True, hidden_layers=False, num_classes=10).eval()
    images, _ = cifar10_test_images(2)
    with torch.no_grad():
        features = network.forward_features(images)
        pooled = network.forward_head(features, pre_logits=True)
        assert pooled.shape == (2, 512)
        torch.testing.assert_close(network.get_classifier()(pooled), network(images))
        network.reset_classifier(0)
        assert torch.equal(network(images), pooled)
        network.reset_classifier(7, global_pool="max")
        assert network(images).shape == (2, 7)
        assert network.num_classes == 7


@pytest.mark.parametrize(
    ("args", "got"),
    [
        ({"configuration": "F"}, "configuration = 'F'"),
        ({"configuration": "A", "init": "x"}, "init = 'x'"),
        ({"configuration": "A", "width": 0.0}, "width = 0.0"),
    ],
)
def test_an_argument_outside_the_paper_is_refused_by_name(args: dict[str, Any], got: str) -> None:
    with pytest.raises(SpecError, match=got):
        VGG(**args)


def test_a_classifier_without_a_pool_is_refused() -> None:
    network = VGG(configuration="A", hidden_layers=False, num_classes=10)
    with pytest.raises(SpecError, match="needs a global pool"):
        network.reset_classifier(10, global_pool="")
    assert isinstance(network.head.fc, nn.Linear)

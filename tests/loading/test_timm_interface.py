"""Networks as timm's own functions take them: sizes in the configuration, the head, torch's tracers."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo.errors import UnknownNameError

timm = pytest.importorskip("timm", reason="needs zoo-vision[timm]")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The TorchScript type system:UserWarning"),
]

TRACED = ["alexnet_small", "dtp_mlp", "googlenet_small", "hmax", "neocognitron_2003", "resnet20", "vgg16_bn_small"]
ONLY_TRACED = ["deform_cnn", "kmeans_svm", "scatter_linear", "stn_cnn_mnist"]


def created(name: str, **args: Any) -> Any:
    torch.manual_seed(0)
    return zoo.create(name, **args).eval()


def images(network: Any) -> Tensor:
    return torch.rand(2, *network.zoo_info.preprocess.input_size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "test_convnext"])
def test_timms_own_configuration_stays_as_it_is(name: str) -> None:
    theirs = timm.create_model(name, pretrained=False).default_cfg
    assert zoo.create(f"timm/{name}").default_cfg == theirs | {"input_size": tuple(theirs["input_size"])}


def test_timm_pools_a_larger_image_by_the_size_in_the_configuration() -> None:
    network, resized = timm.layers.apply_test_time_pool(zoo.create("timm/resnet18"), {"input_size": (3, 288, 288)})
    assert (resized, network.original_pool) == (True, (7, 7))


@pytest.mark.parametrize(
    ("name", "fixed", "pool"),
    [
        ("resnet20", False, (8, 8)),  # He et al. 2015, section 4.2
        pytest.param("inception_v3", False, (8, 8), marks=pytest.mark.slow),  # Szegedy et al. 2015, table 1
        pytest.param("vgg11", False, (7, 7), marks=pytest.mark.slow),
        ("alexnet", False, (6, 6)),  # Krizhevsky et al. 2012: 6 x 6 x 256
        ("dtp_conv", True, (1, 1)),
        ("orn4_pool", True, (1, 1)),
        ("stn_cnn_mnist", True, (5, 5)),
        ("neocognitron_1980", True, (1, 1)),
        ("sift_bovw_svm", True, None),  # cannot be known: OpenCV needs pixels
    ],
)
def test_the_configuration_says_which_sizes_a_network_takes(
    name: str, fixed: bool, pool: tuple[int, int] | None
) -> None:
    network = zoo.create(name)
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    config = network.default_cfg
    assert (config["fixed_input_size"], config["pool_size"]) == (fixed, pool)
    assert all(torch.equal(tensor, state[key]) for key, tensor in network.state_dict().items())
    assert network.training


@pytest.mark.parametrize("name", ["alexnet_small", "dtp_conv", "googlenet_small", "resnet20", "stn_cnn_mnist"])
def test_without_classes_and_pool_a_network_returns_its_last_maps(name: str) -> None:
    network = created(name)
    x = images(network)
    with torch.no_grad():
        maps = network.forward_features(x)
        network.reset_classifier(0, "")
        assert torch.equal(network(x), maps)
        network.reset_classifier(0, None)
        assert torch.equal(network(x), maps), "as before"
        network.reset_classifier(5)
        assert network(x).shape == (2, 5)
    assert created(name, num_classes=0, global_pool="")(x).shape == maps.shape


@pytest.mark.parametrize("name", ["alexnet_small", "gcn4_3x3", "googlenet_small", "hmax", "vgg16_bn_small"])
def test_the_head_has_its_width_and_stays_in_the_networks_mode(name: str) -> None:
    network = created(name)
    width = network.get_classifier().in_features
    network.reset_classifier(3)
    assert network.head_hidden_size == width == network.get_classifier().in_features
    assert not any(module.training for module in network.modules())


@pytest.mark.parametrize("name", [*TRACED, *ONLY_TRACED])
def test_torch_traces_a_network_symbolically(name: str) -> None:
    network = created(name)
    x = images(network)
    with torch.no_grad():
        torch.testing.assert_close(torch.fx.symbolic_trace(network)(x), network(x))


@pytest.mark.parametrize("name", TRACED)
def test_torch_scripts_a_network_and_leaves_it_as_it_is(name: str) -> None:
    network = created(name)
    x = images(network)
    with torch.no_grad():
        expected = network(x)
        scripted = torch.jit.script(network)
        torch.testing.assert_close(scripted(x), expected)
        torch.testing.assert_close(scripted(x[:1]), expected[:1])
        assert torch.equal(network(x), expected)
    assert isinstance(scripted, torch.jit.ScriptModule)


def test_a_scripted_network_learns() -> None:
    """Normalisation follows the mode of the scripted module."""
    network = zoo.create("resnet20")
    scripted: nn.Module = torch.jit.script(network)
    scripted(images(network)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters()), "they are the same"


@pytest.mark.parametrize("name", ["neocognitron_1980", "neocognitron_2003", "neocognitron_2013"])
def test_stages_become_coarser_as_timm_asks(name: str) -> None:
    timm.models.FeatureInfo(zoo.create(name).feature_info, (0, 1, 2))


def test_an_argument_that_torchvision_would_swallow_is_an_error() -> None:
    pytest.importorskip("torchvision", reason="needs torchvision")
    with pytest.raises(UnknownNameError, match="has no argument 'not_an_argument'"):
        zoo.create("torchvision/mobilenet_v3_small", not_an_argument=1)

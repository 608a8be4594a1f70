"""What families share: pools and classifiers, timm's model interface, checks of build arguments."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import modules
from zoo.errors import SpecError
from zoo.modules import ImageClassifier, PooledClassifier, ResponseNorm, ZeroPadShortcut, create_classifier


class Net(PooledClassifier):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.note_stage("conv", 4, 1)
        self.num_features = 4
        self.reset_classifier(num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class Nested(ImageClassifier):
    classifier_name = "head.last"

    def __init__(self) -> None:
        super().__init__()
        self.num_features, self.head_hidden_size = 4, 6
        self.head = nn.Sequential()
        self.reset_classifier(3)


@pytest.mark.parametrize(("pool", "expected"), [("avg", [1.5, 5.5]), ("max", [3.0, 7.0])])
def test_a_pool_leaves_one_value_a_channel(pool: str, expected: list[float]) -> None:
    global_pool, linear = create_classifier(2, 5, pool)
    pooled = global_pool(torch.arange(8.0).view(1, 2, 2, 2))
    assert pooled.tolist() == [expected]
    assert linear(pooled).shape == (1, 5)


def test_without_classes_and_pool_the_features_pass() -> None:
    maps = torch.rand(2, 3, 4, 4)
    for layer in create_classifier(3, 0, ""):
        assert torch.equal(layer(maps), maps)


def test_a_classifier_follows_the_tensor_that_it_is_to_be_like() -> None:
    _, linear = create_classifier(3, 5, bias=False, like=torch.empty(0, dtype=torch.float64, device="meta"))
    assert isinstance(linear, nn.Linear)
    assert (linear.weight.dtype, linear.weight.device.type, linear.bias) == (torch.float64, "meta", None)


@pytest.mark.parametrize(
    ("pool", "said"), [("", "needs a global pool"), ("median", "global_pool = 'median' is not one of 'avg', 'max', ''")]
)
def test_a_classifier_without_a_pool_is_refused(pool: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        create_classifier(3, 5, pool)


def test_logits_are_the_classifier_of_the_pooled_features() -> None:
    network, images = Net(5).double(), torch.rand(2, 3, 6, 6, dtype=torch.float64)
    pooled = network.conv(images).mean(dim=(2, 3))
    torch.testing.assert_close(network(images), network.get_classifier()(pooled))
    features = network.forward_features(images)
    torch.testing.assert_close(network.forward_head(features, pre_logits=True), pooled)
    network.reset_classifier(7, global_pool="max")
    assert network(images).shape == (2, 7)
    network.reset_classifier(0, global_pool="")
    assert torch.equal(network(images), features)
    assert network.num_classes == 0


def test_a_refused_classifier_leaves_the_old_one() -> None:
    network = Net(5)
    before = network.get_classifier()
    with pytest.raises(SpecError):
        network.reset_classifier(7, global_pool="")
    assert network.get_classifier() is before
    assert network.num_classes == 5


def test_a_classifier_may_lie_in_a_submodule_behind_hidden_layers() -> None:
    network = Nested()
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == {
        "head.last.weight": (3, 6),
        "head.last.bias": (3,),
    }
    network.reset_classifier(0)
    assert isinstance(network.get_classifier(), nn.Identity)


def test_stages_are_the_default_layers() -> None:
    network = Net(5)
    assert network.feature_info == [{"num_chs": 4, "reduction": 1, "module": "conv"}]
    assert network.default_layers == ("conv",)


@pytest.mark.parametrize(("depth", "units"), [(8, 1), (20, 3), (110, 18)])
def test_units_are_counted_from_the_depth(depth: int, units: int) -> None:
    assert modules.count_units(depth, layers=6, others=2) == units


@pytest.mark.parametrize("depth", [-4, 2, 7, 9])
def test_a_depth_between_two_networks_is_refused_with_those_that_exist(depth: int) -> None:
    with pytest.raises(SpecError, match=rf"depth = {depth} is not 6n \+ 2: 8, 14, 20") as caught:
        modules.count_units(depth, layers=6, others=2, hint="The paper has 110.")
    assert caught.value.hint == "The paper has 110."


def test_an_argument_out_of_range_is_refused_by_name() -> None:
    with pytest.raises(SpecError, match="norm = 'layer' is not one of 'batch', 'group'"):
        modules.check_choice("norm", "layer", ["batch", "group"])
    with pytest.raises(SpecError, match="words = 0 must be at least 1"):
        modules.check_positive(passes=1, words=0)
    with pytest.raises(SpecError, match="words = nan"):
        modules.check_positive(words=float("nan"))


@pytest.mark.parametrize(("fan", "variance"), [("fan_in", 2 / (9 * 64)), ("fan_out", 2 / (9 * 256))])
def test_he_initializes_convolutions_by_the_fan(fan: str, variance: float) -> None:
    conv, linear = nn.Conv2d(64, 256, 3), nn.Linear(8, 4)
    before = linear.weight.detach().clone()
    modules.he_initialize(nn.Sequential(conv, linear), fan)  # type: ignore[arg-type]  # one of the two
    assert conv.weight.var().item() == pytest.approx(variance, rel=0.02)
    assert torch.equal(linear.weight, before)
    assert conv.bias is not None
    assert not conv.bias.any()
    assert not linear.bias.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_response_normalisation_divides_the_sum_over_five_maps_by_five(dtype: torch.dtype) -> None:
    x = (torch.rand(1, 9, 1, 1, generator=torch.Generator().manual_seed(0)) * 200).to(dtype)
    values = x.flatten().double()
    window = torch.stack([values[max(0, c - 2) : c + 3].square().sum() for c in range(9)])
    expected = values / (2 + 1e-4 / 5 * window) ** 0.75
    got = ResponseNorm(k=2.0)(x)
    assert got.dtype == dtype
    torch.testing.assert_close(got.flatten().double(), expected, rtol=1e-6 if dtype == torch.float32 else 5e-3, atol=0)
    assert expected.max() < 0.5 * values.max()  # so that the sum matters here


def test_response_normalisation_of_float64_is_as_exact_as_float64() -> None:
    """Held against torch's own, whose alpha is divided by the number of maps too."""
    norm = ResponseNorm(k=2.0)
    x = 30 * torch.randn(2, 7, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = F.local_response_norm(x, norm.maps, norm.alpha, norm.beta, norm.k)
    torch.testing.assert_close(norm(x), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("option", "kinds"),
    [("A", (nn.Identity, ZeroPadShortcut)), ("B", (nn.Identity, nn.Conv2d)), ("C", (nn.Conv2d, nn.Conv2d))],
)
def test_options_differ_in_where_they_project(option: str, kinds: tuple[type, type]) -> None:
    same = modules.make_shortcut(option, 16, 16, stride=1, norm=False)
    other = modules.make_shortcut(option, 16, 32, stride=2, norm=False)
    assert (type(same), type(other)) == kinds


def test_luma_weighs_colours_and_averages_other_channels() -> None:
    assert modules.luma_weights(3).flatten().tolist() == pytest.approx([0.299, 0.587, 0.114])
    assert modules.luma_weights(4).tolist() == [[[0.25]]] * 4

"""Feature maps of stages: equal to timm's with the same weights, and in every form that torch brings a network into."""

import copy
import pickle
from typing import Any

import pytest
import timm
import torch
from support.reference import randomise
from torch import Tensor, nn

import zoo
from zoo.errors import SpecError
from zoo.loading import skip_init
from zoo.modules import FeatureInfo, FeatureNet, ImageClassifier

SHARED = {
    "resnet18": 64,
    "resnet50": 64,
    "vgg11": 32,
    "vgg16": 32,
    "vgg11_bn": 32,
    "vgg16_bn": 32,
    "densenet121": 64,
    "inception_v3": 96,
    "inception_v4": 96,
    "inception_resnet_v2": 96,
}
"""Networks that timm has too, and the side of an image for them."""


class Chain(ImageClassifier):
    """Three stages: x + 1, times 2, minus 3."""

    def __init__(self) -> None:
        super().__init__()
        self.add, self.twice, self.subtract = Affine(1, 1), Affine(2, 0), Affine(1, -3)
        for name in ("add", "twice", "subtract"):
            self.note_stage(name, 1, 1)
        self.num_features = 1
        self.fc: nn.Module
        self.reset_classifier(2)

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.twice(self.add(x))
        out: Tensor = self.subtract(x)
        return out


class Affine(nn.Module):
    def __init__(self, factor: float, term: float) -> None:
        super().__init__()
        self.factor, self.term, self.calls = factor, term, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.factor + self.term


def as_theirs(key: str, keys: set[str]) -> str:
    """Returns the key of timm's network of features for ``key``: it joins the first two levels of a series by ``_``."""
    return key if key in keys else key.replace(".", "_", 1)


@pytest.mark.first(4)
@pytest.mark.parametrize("name", SHARED)
def test_features_equal_timms_bit_for_bit(name: str) -> None:
    with skip_init():
        theirs = timm.create_model(name, features_only=True, out_indices=tuple(range(5))).eval()
        ours = zoo.create(name, features_only=True, out_indices=range(5)).eval()
    randomise(theirs)
    state = theirs.state_dict()
    known = {key: state.get(as_theirs(key.removeprefix("body."), set(state))) for key in ours.state_dict()}
    missing = ours.load_state_dict({key: value for key, value in known.items() if value is not None}, strict=False)
    # What is missing comes after the last of timm's stages.
    assert len(missing.missing_keys) <= len(known) // 3
    images = torch.randn(1, 3, SHARED[name], SHARED[name], generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        got, expected = ours(images), theirs(images)
    assert [torch.equal(a, b) for a, b in zip(got, expected, strict=True)] == [True] * 5
    assert all(bool(maps.isfinite().all()) and float(maps.std()) > 0 for maps in got)
    assert ours.feature_info.channels() == theirs.feature_info.channels()
    assert ours.feature_info.reduction() == theirs.feature_info.reduction()


@pytest.mark.parametrize(("indices", "expected"), [(None, [2, 4, 1]), ((-1, 0), [1, 2]), (2, [4, 1]), ([1], [4])])
def test_maps_come_in_the_order_of_the_indices(indices: Any, expected: list[float]) -> None:
    network = FeatureNet(Chain(), indices)
    assert [float(maps.mean()) for maps in network(torch.ones(1, 1, 2, 2))] == expected
    assert len(network.feature_info) == len(expected)


def test_intermediates_come_in_the_order_of_the_stages_as_in_timm() -> None:
    network, images = Chain(), torch.ones(1, 1, 2, 2)
    final, maps = network.forward_intermediates(images, indices=[-1, 0])
    assert [float(part.mean()) for part in (final, *maps)] == [1, 2, 1]
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("is_net", [True, False], ids=["FeatureNet", "forward_intermediates"])
def test_what_follows_the_last_stage_is_not_computed(is_net: bool) -> None:
    network, images = Chain(), torch.ones(1, 1, 2, 2)
    if is_net:
        (maps,) = FeatureNet(network, [1])(images)
    else:
        final, (maps,) = network.forward_intermediates(images, [1], stop_early=True)
        assert torch.equal(final, maps)
    assert float(maps.mean()) == 4
    assert (network.twice.calls, network.subtract.calls) == (1, 0)


@pytest.mark.parametrize("indices", [(3,), (-4,), 4, 0, ()], ids=str)
def test_a_stage_that_does_not_exist_is_refused(indices: Any) -> None:
    with pytest.raises(SpecError, match="expected stages of 3, 0 to 2, or -3 to -1"):
        FeatureNet(Chain(), indices)


def test_another_format_of_maps_is_refused() -> None:
    with pytest.raises(SpecError, match="output_fmt = 'NLC': expected 'NCHW'"):
        Chain().forward_intermediates(torch.ones(1, 1, 2, 2), output_fmt="NLC")


def test_feature_info_is_a_list_with_the_methods_of_timms() -> None:
    stages = [{"num_chs": 4 * n, "reduction": 2**n, "module": f"layer{n}"} for n in (1, 2, 3)]
    theirs = timm.models._features.FeatureInfo(copy.deepcopy(stages), out_indices=(0, 1, 2))
    ours = FeatureInfo(stages)
    for idx in (None, 1, [0, 2]):
        for method in ("channels", "reduction", "module_name"):
            assert getattr(ours, method)(idx) == getattr(theirs, method)(idx)
    assert ours[1] == stages[1]
    assert ours == stages


@pytest.fixture(scope="module")
def small() -> nn.Module:
    return zoo.create("resnet8", features_only=True).eval()


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))], ids=["deepcopy", "pickle"]
)
def test_a_copy_has_hooks_of_its_own(copied: Any, small: nn.Module) -> None:
    images = torch.randn(2, 3, 32, 32)
    other = copied(small)
    with torch.no_grad():
        other.body.conv1.weight.zero_()
        other.body.conv1.bias.zero_()
        expected, got = small(images), other(images)
    assert len(got) == 4
    assert not any(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_exported_features_are_the_same_for_any_batch(small: nn.Module) -> None:
    sizes = ({0: torch.export.Dim("batch", min=1)},)
    exported = torch.export.export(small, (torch.randn(2, 3, 32, 32),), dynamic_shapes=sizes, strict=False).module()
    images = torch.randn(3, 3, 32, 32)
    for got, expected in zip(exported(images), small(images), strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.slow
def test_a_compiled_forward_needs_no_part_outside_the_graph() -> None:
    network, images = zoo.create("resnet8", features_only=True, out_indices=(1, 2)).eval(), torch.randn(2, 3, 32, 32)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    with torch.no_grad():
        for got, expected in zip(compiled(images), network(images), strict=True):
            torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("name", ["hmax", "neocognitron_1980", "scatter_linear", "sift_bovw_svm"])
def test_networks_that_are_no_stack_of_convolutions_have_features_too(name: str) -> None:
    if name == "sift_bovw_svm":
        pytest.importorskip("cv2")
    if name == "scatter_linear":
        pytest.importorskip("kymatio")
    network = zoo.create(name).eval()
    size = network.zoo_info.preprocess.input_size
    with torch.no_grad():
        final, maps = network.forward_intermediates(torch.rand(1, *size, generator=torch.Generator().manual_seed(0)))
    assert len(maps) == len(network.feature_info) > 0
    assert [part.shape[1] for part in maps] == network.feature_info.channels()
    assert final.shape[1] == network.num_features

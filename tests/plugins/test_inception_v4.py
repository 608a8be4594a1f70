"""Inception v4 and Inception-ResNet against timm, pytorchcv, the paper's figures and closed forms."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import timm
import torch
from support import reference
from support.reference import assert_same_function, macs_of, params_of, photographs, randomise
from torch import nn

from zoo import registry, training
from zoo_inception import plugin
from zoo_inception.inception_resnet import ScaledResidual

NAMES = ("inception_v4", "inception_resnet_v2")
"""What timm has."""
MODELS = {model.name: model for model in plugin.models}
Pair = tuple[Any, Any]


def on_meta(name: str, **args: Any) -> Any:
    return reference.on_meta(MODELS[name], **args)


outline = cache(on_meta)
"""As ``on_meta``, built once: for counting alone."""


@pytest.fixture(scope="module", params=[NAMES[0], pytest.param(NAMES[1], marks=pytest.mark.slow)])
def pair(request: pytest.FixtureRequest) -> Pair:
    """Ours and timm's with the same random weights."""
    ours = on_meta(request.param)
    with torch.device("meta"):
        theirs = timm.create_model(request.param)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    randomise(ours)
    theirs.load_state_dict(ours.state_dict(), assign=True)
    return ours.eval(), theirs.eval()


# ---- Size ----


@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("name", "params", "macs", "tensors"),
    [
        ("inception_v4", 42_679_816, 12_253_974_624, 896),
        ("inception_resnet_v1", 23_995_624, 6_308_235_360, 716),
        pytest.param("inception_resnet_v2", 55_843_464, 13_155_794_016, 1306, marks=pytest.mark.slow),
    ],
)
def test_each_network_has_the_published_size(name: str, params: int, macs: int, tensors: int) -> None:
    network = outline(name)
    assert params_of(network) == MODELS[name].params == params
    assert macs_of(network, MODELS[name].preprocess.input_size) == MODELS[name].macs == macs
    assert len(network.state_dict()) == tensors


# ---- The same function, with the same weights, on real images ----


@pytest.mark.slow
def test_logits_and_stages_equal_timms(pair: Pair) -> None:
    ours, theirs = pair
    images = photographs(2, 139)
    assert_same_function(ours, theirs, images)
    assert ours.feature_info == theirs.feature_info
    reference.assert_same_stages(ours, theirs, images)


def test_logits_of_inception_resnet_v1_equal_pytorchcvs() -> None:
    from pytorchcv.model_provider import get_model

    with torch.device("meta"):
        ours, theirs = on_meta("inception_resnet_v1"), get_model("inceptionresnetv1")
    randomise(theirs)
    mine, others = ours.state_dict(), theirs.state_dict()  # in the same order under other names
    assert [tuple(value.shape) for value in mine.values()] == [tuple(value.shape) for value in others.values()]
    ours.load_state_dict(dict(zip(mine, others.values(), strict=True)), assign=True)
    theirs.features.final_pool = nn.AdaptiveAvgPool2d(1)  # its pool is for 299x299 alone
    assert_same_function(ours, theirs, photographs(2, 139))


# ---- What people get wrong ----


@pytest.mark.parametrize(("name", "count"), [("inception_v4", 4 + 7 + 3), ("inception_resnet_v2", 1)])
def test_average_pools_leave_the_padding_out(name: str, count: int) -> None:
    """Unlike v3's: the mean of ones is one at the border too."""
    pools = [module for module in outline(name).modules() if isinstance(module, nn.AvgPool2d)]
    assert len(pools) == count
    for pool in pools:
        torch.testing.assert_close(pool(torch.ones(1, 1, 5, 5)), torch.ones(1, 1, 5, 5))


@pytest.mark.parametrize("name", [*NAMES, "inception_resnet_v1"])
def test_batch_normalisation_has_epsilon_1e_3(name: str) -> None:
    norms = [module for module in outline(name).modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert len(norms) > 100
    assert {norm.eps for norm in norms} == {1e-3}


def test_v4_joins_the_pool_before_the_convolution_in_one_module_of_its_stem_and_after_it_in_another() -> None:
    stem = outline("inception_v4").features
    assert [name for name, _ in stem[3].named_children()] == ["maxpool", "conv"]
    assert [name for name, _ in stem[5].named_children()] == ["conv", "maxpool"]


def residuals(name: str) -> Iterator[tuple[str, ScaledResidual]]:
    network = outline(name)
    return ((name, part) for name, part in network.named_modules() if isinstance(part, ScaledResidual))


def test_ten_residuals_are_scaled_by_0_17_twenty_by_0_10_nine_by_0_20_and_the_last_not_at_all() -> None:
    scales = [(name.split(".")[0], part.scale) for name, part in residuals("inception_resnet_v2")]
    assert scales == [("repeat", 0.17)] * 10 + [("repeat_1", 0.1)] * 20 + [("repeat_2", 0.2)] * 9 + [("block8", 1.0)]
    scales = [(name.split(".")[0], part.scale) for name, part in residuals("inception_resnet_v1")]
    assert scales == [("repeat_1", 0.17)] * 5 + [("repeat_2", 0.1)] * 10 + [("repeat_3", 0.2)] * 5 + [("block8", 1.0)]


# ---- Public weights and recipe ----


@pytest.mark.parametrize(
    "name", ["inception_v4.tf_in1k", "inception_resnet_v2.tf_in1k", "inception_resnet_v2.tf_ens_adv_in1k"]
)
def test_each_lineages_input_is_prepared_as_timm_does(name: str) -> None:
    row = next(row for row in registry.current().plugins if row.name == "inception")
    entry = next(entry for entry in row.weights[name.partition(".")[0]] if entry.name == name)
    expected = timm.get_pretrained_cfg(name)
    assert entry.preprocess.mean == (0.5, 0.5, 0.5)
    for field in ("input_size", "crop_pct", "interpolation", "mean", "std"):
        assert getattr(entry.preprocess, field) == getattr(expected, field), field


@pytest.mark.parametrize("name", [*NAMES, "inception_resnet_v1"])
def test_the_papers_recipe_is_section_4s(name: str) -> None:
    recipe = training.choose(plugin, name, "imagenet-1k")
    assert recipe.name == "paper_in1k_v4"
    assert (recipe.optimizer, recipe.lr, recipe.decay_epochs, recipe.decay_rate) == ("rmsproptf", 0.045, (2,), 0.94)

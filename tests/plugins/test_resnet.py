"""The resnet family against the papers' tables, torchvision, timm, pytorchcv and public weights."""

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
    public_weights,
    randomise,
    renamed,
)
from torch import Tensor, nn

from zoo import training
from zoo.errors import SpecError
from zoo.modules import ZeroPadShortcut
from zoo.testing import Check, conformance
from zoo.training import optimization
from zoo_resnet import plugin
from zoo_resnet.model import ResNet, cifar_resnet, resnet
from zoo_resnet.preact import PreActResNet

MODELS = {model.name: model for model in plugin.models}
KEY_MAPS = {key_map.name: key_map for key_map in plugin.key_maps}
V1 = "1x1"
V1_5 = "3x3"


@pytest.mark.first(30)
@conformance("resnet")
def test_conformance(check: Check) -> None:
    check()


def on_meta(name: str, **args: Any) -> Any:
    return reference.on_meta(MODELS[name], **args)


# ---- Published parameter counts and multiply-adds ----


@pytest.mark.parametrize(
    ("name", "option_a", "option_b", "option_c"),
    [
        ("resnet18", 11_515_688, 11_689_512, 12_043_816),
        ("resnet34", 21_623_848, 21_797_672, 22_716_840),
        ("resnet50", 22_780_456, 25_557_032, 40_128_552),
        pytest.param("resnet101", 41_772_584, 44_549_160, 76_981_288, marks=pytest.mark.slow),
        pytest.param("resnet152", 57_416_232, 60_192_808, 107_335_720, marks=pytest.mark.slow),
    ],
)
def test_each_shortcut_option_has_its_parameters(name: str, option_a: int, option_b: int, option_c: int) -> None:
    assert MODELS[name].params == option_b
    for shortcut, params in (("A", option_a), ("B", option_b), ("C", option_c), ("none", option_a)):
        assert params_of(on_meta(name, shortcut=shortcut)) == params


@pytest.mark.first(2)
@pytest.mark.parametrize(
    ("depth", "option_a", "option_b"),
    [
        (20, 269_722, 272_474),
        (32, 464_154, 466_906),
        (44, 658_586, 661_338),
        (56, 853_018, 855_770),
        (110, 1_727_962, 1_730_714),
        pytest.param(1202, 19_421_274, 19_424_026, marks=pytest.mark.slow),
    ],
)
def test_cifar_networks_have_the_papers_parameters(depth: int, option_a: int, option_b: int) -> None:
    assert MODELS[f"resnet{depth}"].params == params_of(on_meta(f"resnet{depth}")) == option_a
    assert params_of(on_meta(f"resnet{depth}", shortcut="B")) == option_b


def test_resnet8_has_the_78_666_parameters_that_keras_counts_of_which_480_are_not_learnt() -> None:
    network = on_meta("resnet8")
    statistics = [tensor for key, tensor in network.named_buffers() if "num_batches" not in key]
    assert params_of(network) + sum(tensor.numel() for tensor in statistics) == 78_666
    assert sum(tensor.numel() for tensor in statistics) == 480


@pytest.mark.parametrize(
    ("depth", "params"), [(164, 1_703_258), pytest.param(1001, 10_327_706, marks=pytest.mark.slow)]
)
def test_pre_activation_has_the_authors_parameters(depth: int, params: int) -> None:
    assert params_of(on_meta(f"preact_resnet{depth}")) == params


@pytest.mark.first(2)
@pytest.mark.parametrize(
    ("name", "stride_on", "macs"),
    [
        ("resnet18", V1_5, 1_814_073_344),
        ("resnet34", V1_5, 3_663_761_408),
        ("resnet50", V1, 3_857_973_248),
        ("resnet50", V1_5, 4_089_184_256),
        pytest.param("resnet101", V1, 7_570_194_432, marks=pytest.mark.slow),
        pytest.param("resnet101", V1_5, 7_801_405_440, marks=pytest.mark.slow),
        pytest.param("resnet152", V1, 11_282_415_616, marks=pytest.mark.slow),
        pytest.param("resnet152", V1_5, 11_513_626_624, marks=pytest.mark.slow),
        ("preact_resnet164", V1_5, 247_646_720),
        pytest.param("preact_resnet1001", V1_5, 1_490_995_712, marks=pytest.mark.slow),
    ],
)
def test_the_placement_of_the_stride_decides_the_multiply_adds(name: str, stride_on: str, macs: int) -> None:
    assert macs_of(on_meta(name, stride_on=stride_on), MODELS[name].preprocess.input_size) == macs


# ---- The same function as the reference implementations, with the same weights, on real images ----


@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("depth", "size"),
    [(18, 224), (34, 96), (50, 224), *(pytest.param(depth, 96, marks=pytest.mark.slow) for depth in (101, 152))],
)
def test_logits_equal_torchvisions_and_timms(depth: int, size: int) -> None:
    import timm

    images = photographs(2, size)
    ours = on_meta(f"resnet{depth}")
    with torch.device("meta"):
        references = (torchvision.models.get_model(f"resnet{depth}"), timm.create_model(f"resnet{depth}"))
    randomise(ours)
    for theirs in references:
        theirs.load_state_dict(ours.state_dict(), assign=True)
        assert_same_function(ours, theirs, images)
    assert ours.feature_info == references[1].feature_info


_FROM_PYTORCHCV = (
    (r"^output\.", "fc."),
    (r"^features\.init_block\.weight", "conv1.weight"),
    (r"^features\.init_block\.(?:conv\.)?bn\.", "bn1."),
    (r"^features\.init_block\.(?:conv\.)?conv\.", "conv1."),
    (r"^features\.post_activ\.bn\.", "bn."),
    (r"^features\.stage", "layer"),
    *((rf"\.unit{unit + 1}\.", f".{unit}.") for unit in range(18)),
    (r"\.body\.conv(\d)\.conv\.", r".conv\1."),
    (r"\.body\.conv(\d)\.bn\.", r".bn\1."),
    (r"\.identity_conv\.conv\.", ".downsample.0."),
    (r"\.identity_conv\.bn\.", ".downsample.1."),
    (r"\.identity_conv\.weight", ".downsample.weight"),
)


@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("name", "args", "reference"),
    [
        ("resnet50", {"stride_on": V1}, "resnet50"),
        ("resnet50", {"stride_on": V1_5}, "resnet50b"),
        ("resnet20", {"shortcut": "B"}, "resnet20_cifar10"),
        ("preact_resnet110", {}, "preresnet110_cifar10"),
        ("preact_resnet164", {"stride_on": V1_5}, "preresnet164bn_cifar10"),
    ],
)
def test_logits_equal_pytorchcvs(name: str, args: dict[str, Any], reference: str) -> None:
    from pytorchcv.model_provider import get_model

    ours = on_meta(name, **args)
    images = photographs(2, 224) if MODELS[name].num_classes == 1000 else cifar10_test_images(2)[0]
    with torch.device("meta"):
        theirs = get_model(reference)
    randomise(theirs)
    ours.load_state_dict(renamed(theirs.state_dict(), *_FROM_PYTORCHCV), assign=True)
    assert_same_function(ours, theirs, images)


def test_a_plain_network_is_the_chain_of_its_layers() -> None:
    network = cifar_resnet(depth=20, shortcut="none").eval()
    layers = [module for module in network.modules() if not list(module.children())]
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network(images), nn.Sequential(*layers)(images))


# ---- Where the stride and the zeros go ----


@pytest.mark.parametrize(
    ("zero_channels", "expected"),
    [
        ("end", [[0, 2, 8, 10], [16, 18, 24, 26], [0] * 4, [0] * 4]),
        ("split", [[0] * 4, [0, 2, 8, 10], [16, 18, 24, 26], [0] * 4]),
    ],
)
def test_option_a_subsamples_and_puts_the_zero_channels_where_its_lineage_does(
    zero_channels: Any, expected: list[list[int]]
) -> None:
    image = torch.arange(32.0).reshape(1, 2, 4, 4)
    shortcut = ZeroPadShortcut(2, 4, stride=2, zero_channels=zero_channels)
    assert shortcut(image).reshape(4, 4).tolist() == expected


def test_option_a_appends_the_zeros_unless_asked_to_split_them() -> None:
    paddings = {
        zeros: cifar_resnet(depth=20, zero_channels=zeros).layer2[0].downsample.padding[4:]
        for zeros in ("end", "split")
    }
    assert paddings == {"end": (0, 16), "split": (8, 8)}
    assert cifar_resnet(depth=20).layer2[0].downsample.padding[4:] == (0, 16)


# ---- Public weights of option A ----


def akamaster(depth: int, file: str, **args: Any) -> ResNet:
    key_map = KEY_MAPS["akamaster"]
    checkpoint = torch.load(public_weights(f"akamaster/{file}"), map_location="cpu", weights_only=True)
    tensors = renamed(checkpoint["state_dict"], ("^module[.]", ""), *key_map.rename)
    network = cifar_resnet(depth=depth, **{**key_map.args, **args})
    keys = network.load_state_dict(tensors, strict=False)
    assert not keys.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in keys.missing_keys)
    return network.eval()


def right_of(network: nn.Module, images: Tensor, labels: Tensor) -> int:
    preprocess = KEY_MAPS["akamaster"].preprocess
    mean, std = (torch.tensor(preprocess[key]).view(3, 1, 1) for key in ("mean", "std"))
    right = 0
    with torch.no_grad():
        for batch, truth in zip(images.split(500), labels.split(500), strict=True):
            right += int((network((batch - mean) / std).argmax(1) == truth).sum())
    return right


@pytest.mark.slow
def test_akamasters_weights_are_right_with_split_zeros_and_wrong_with_appended_ones() -> None:
    images, labels = cifar10_test_images(400)
    assert right_of(akamaster(20, "resnet20-12fca82f.th"), images, labels) >= 0.89 * 400
    assert right_of(akamaster(20, "resnet20-12fca82f.th", zero_channels="end"), images, labels) <= 0.7 * 400


# ---- The interface ----


def test_convolutions_begin_with_hes_variance() -> None:
    weight = resnet(depth=18).layer4[1].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.01)


@pytest.mark.parametrize(
    ("build", "args", "got"),
    [
        (resnet, {"depth": 19}, "depth = 19"),
        (resnet, {"depth": 18, "shortcut": "D"}, "shortcut = 'D'"),
        (resnet, {"depth": 50, "stride_on": "5x5"}, "stride_on = '5x5'"),
        (cifar_resnet, {"depth": 20, "zero_channels": "front"}, "zero_channels = 'front'"),
        (cifar_resnet, {"depth": 21}, "depth = 21"),
        (cifar_resnet, {"depth": 2}, "depth = 2"),
        (PreActResNet, {"depth": 1202}, "depth = 1202"),
        (PreActResNet, {"depth": 1001, "bottleneck": False}, "depth = 1001"),
    ],
)
def test_an_argument_outside_the_papers_is_refused_by_name(build: Any, args: dict[str, Any], got: str) -> None:
    with pytest.raises(SpecError, match=got):
        build(**args)


@pytest.mark.parametrize(("name", "recipe_name"), [("resnet20", "paper_c10"), ("resnet110", "paper_c10_110")])
def test_the_papers_rate_falls_after_32000_and_48000_updates(name: str, recipe_name: str) -> None:
    recipe = training.choose(plugin, name, "cifar10", recipe_name)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    rates = optimization.Schedule(optimizer, recipe, 50_000 // 128)
    assert [rates.set(update) for update in (31_999, 32_000, 47_999, 48_000)] == pytest.approx([0.1, 0.01, 0.01, 0.001])

"""The densenet family against the paper's tables, torchvision, timm and pytorchcv."""

import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import timm
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

import zoo
from zoo import training
from zoo.convert import Stated, convert
from zoo.errors import SpecError
from zoo.testing import Check, conformance
from zoo_densenet import plugin
from zoo_densenet.model import DenseBlock, Transition, cifar_densenet, densenet

MODELS = {model.name: model for model in plugin.models}
BC = {"bottleneck": True, "compression": 0.5}


@pytest.mark.first(17)
@conformance("densenet")
def test_conformance(check: Check) -> None:
    check()


def on_meta(name: str, **args: Any) -> Any:
    return reference.on_meta(MODELS[name], **args)


outline = cache(on_meta)
"""As ``on_meta``, built once: for counting alone."""


# ---- Published parameter counts and multiply-adds ----


@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("densenet121", 7_978_856, 2_834_161_664),
        pytest.param("densenet161", 28_681_000, 7_727_907_072, marks=pytest.mark.slow),
        ("densenet169", 14_149_480, 3_359_843_328),
        pytest.param("densenet201", 20_013_928, 4_291_365_888, marks=pytest.mark.slow),
        pytest.param("densenet264", 33_337_704, 5_751_653_376, marks=pytest.mark.slow),
        ("densenet_bc_100_12", 769_162, 287_929_692),
        pytest.param("densenet_bc_250_24", 15_324_406, 5_418_785_724, marks=pytest.mark.slow),
        pytest.param("densenet_bc_190_40", 25_624_430, 9_301_945_740, marks=pytest.mark.slow),
    ],
)
def test_each_network_has_the_published_size(name: str, params: int, macs: int) -> None:
    network = outline(name)
    assert params_of(network) == MODELS[name].params == params
    assert macs_of(network, MODELS[name].preprocess.input_size) == MODELS[name].macs == macs


def closed_form(depth: int, k: int, *, init: int, is_bc: bool, classes: int = 10) -> tuple[int, int]:
    """Parameters and multiply-adds of a network for 32x32 images, summed layer by layer."""
    layers, chans = (depth - 4) // (6 if is_bc else 3), init
    params, macs = 27 * init, 27 * init * 32**2
    for block, side in enumerate((32, 16, 8)):
        for _ in range(layers):
            filters = chans * 4 * k + 9 * 4 * k * k if is_bc else 9 * chans * k
            params += filters + 2 * chans + (2 * 4 * k if is_bc else 0)
            macs += filters * side**2
            chans += k
        if block < 2:
            kept = chans // 2 if is_bc else chans
            params += chans * kept + 2 * chans
            macs += chans * kept * side**2
            chans = kept
    return params + 2 * chans + chans * classes + classes, macs + chans * classes


@pytest.mark.first(2)
@pytest.mark.parametrize(
    ("name", "init", "params"),
    [
        ("densenet_40_12", 16, 1_019_722),
        ("densenet_100_12", 16, 6_979_642),
        ("densenet_bc_40_12", 24, 176_122),
        ("densenet_bc_100_12", 24, 769_162),
    ],
)
def test_networks_for_small_images_have_the_size_of_the_closed_form(name: str, init: int, params: int) -> None:
    row = MODELS[name]
    expected = closed_form(row.args["depth"], row.args["growth_rate"], init=init, is_bc="_bc_" in name)
    network = outline(name)
    assert (row.params, row.macs) == (params_of(network), macs_of(network, (3, 32, 32))) == expected
    assert expected[0] == params


# ---- The same function as the reference implementations, with the same weights, on real images ----


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "size"), [(121, 224), *(pytest.param(depth, 64, marks=pytest.mark.slow) for depth in (161, 169, 201))]
)
def test_logits_equal_torchvisions_and_timms(depth: int, size: int) -> None:
    images = photographs(2, size)
    ours = on_meta(f"densenet{depth}")
    with torch.device("meta"):
        references = (torchvision.models.get_model(f"densenet{depth}"), timm.create_model(f"densenet{depth}"))
    randomise(ours)
    for theirs in references:
        assert list(theirs.state_dict()) == list(ours.state_dict())
        theirs.load_state_dict(ours.state_dict(), assign=True)
        assert_same_function(ours, theirs, images)


@pytest.mark.slow
def test_264_equals_torchvisions_network_of_its_blocks() -> None:
    ours = on_meta("densenet264")
    with torch.device("meta"):
        theirs = torchvision.models.DenseNet(32, (6, 12, 64, 48), 64)
    randomise(ours)
    theirs.load_state_dict(ours.state_dict(), assign=True)
    assert_same_function(ours, theirs, photographs(2, 64))


def test_stages_are_timms_after_the_activation() -> None:
    ours = on_meta("densenet121")
    with torch.device("meta"):
        theirs = timm.create_model("densenet121")
    randomise(ours)
    theirs.load_state_dict(ours.state_dict(), assign=True)
    reference.assert_same_stages(ours, theirs, photographs(2, 64))


_FROM_PYTORCHCV = (
    (r"^output\.", "classifier."),
    (r"^features\.init_block\.", "features.conv0."),
    (r"^features\.post_activ\.bn\.", "features.norm5."),
    *((rf"^features\.stage{block + 1}\.trans{block + 1}\.conv\.", f"features.transition{block}.") for block in (1, 2)),
    (r"\.stage(\d)\.unit(\d+)\.", r".denseblock\1.denselayer\2."),
    (r"(transition\d)\.bn\.", r"\1.norm."),
    (r"\.conv(\d?)\.bn\.", lambda match: f".norm{match[1] or 1}."),
    (r"(denselayer\d+)\.conv(\d?)\.conv\.", lambda match: f"{match[1]}.conv{match[2] or 1}."),
)


@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("args", "reference"),
    [
        ({"depth": 40, "growth_rate": 12, **BC}, "densenet40_k12_bc_cifar10"),
        ({"depth": 100, "growth_rate": 12, **BC}, "densenet100_k12_bc_cifar10"),
        ({"depth": 40, "growth_rate": 12, "compression": 0.5, "initial_width": "torch"}, "densenet40_k12_cifar10"),
    ],
)
def test_logits_equal_pytorchcvs(args: dict[str, Any], reference: str) -> None:
    from pytorchcv.model_provider import get_model

    with torch.device("meta"):
        ours, theirs = cifar_densenet(**args), get_model(reference)
    randomise(theirs)
    ours.load_state_dict(renamed(theirs.state_dict(), *_FROM_PYTORCHCV), assign=True)
    assert_same_function(ours, theirs, cifar10_test_images(2)[0])


# ---- What people get wrong ----


def test_compression_rounds_down() -> None:
    network = cifar_densenet(depth=10, growth_rate=3, bottleneck=True, compression=0.5)
    assert isinstance(network.features.transition1, Transition)
    assert network.features.transition1.conv.weight.shape[:2] == (4, 9)
    assert network.features.transition2.conv.weight.shape[:2] == (3, 7)


@pytest.mark.parametrize("name", ["densenet121", "densenet_40_12", "densenet_bc_40_12"])
def test_dropout_follows_each_convolution_but_the_first(name: str) -> None:
    leaves = [module for module in on_meta(name, drop_rate=0.2).modules() if not list(module.children())]
    after = [
        isinstance(follower, nn.Dropout) and follower.p == 0.2
        for module, follower in pairwise(leaves)
        if isinstance(module, nn.Conv2d)
    ]
    assert after == [False] + [True] * (len(after) - 1)
    assert sum(isinstance(module, nn.Dropout) for module in leaves) == len(after) - 1


def test_convolutions_begin_with_hes_variance_by_the_fan_of_the_output() -> None:
    network = densenet(depth=121)
    weight = network.features.denseblock4.denselayer16.conv1.weight  # 128 of 992 maps
    assert weight.std().item() == pytest.approx((2 / 128) ** 0.5, rel=0.02)
    assert network.features.denseblock4.denselayer16.conv2.weight.std().item() == pytest.approx(
        (2 / (9 * 32)) ** 0.5, rel=0.02
    )
    assert network.classifier.bias.abs().max() == 0


# ---- Less memory ----


def trained_once(is_efficient: bool, *, precision: torch.dtype | None, **args: Any) -> dict[str, Tensor]:
    """Logits, gradients and buffers of a network after one forward and backward in training."""
    torch.manual_seed(0)
    network = cifar_densenet(depth=22, growth_rate=4, memory_efficient=is_efficient, **args).train()
    images, labels = torch.randn(4, 3, 16, 16), torch.tensor([1, 2, 3, 4])
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision is not None):
        logits = network(images)
    nn.functional.cross_entropy(logits.float(), labels).backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    return {"logits": logits, **gradients, **dict(network.named_buffers())}


@pytest.mark.first(2)
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
@pytest.mark.parametrize("args", [BC, {}, {**BC, "drop_rate": 0.2}], ids=["bc", "plain", "dropout"])
def test_checkpointing_changes_no_logit_gradient_or_running_statistic(
    args: dict[str, Any], precision: torch.dtype | None
) -> None:
    kept, efficient = (trained_once(is_efficient, precision=precision, **args) for is_efficient in (False, True))
    assert kept.keys() == efficient.keys()
    assert kept["features.denseblock3.denselayer1.norm1.num_batches_tracked"] == 1
    for name, value in kept.items():
        assert torch.equal(value, efficient[name]), name


def bytes_kept(layers: int, *, is_efficient: bool) -> int:
    """Returns what a block's forward keeps for its gradient, besides parameters."""
    block = DenseBlock(layers, 8, 8, bottleneck=True, drop_rate=0.0, memory_efficient=is_efficient)
    parameters = {parameter.data_ptr() for parameter in block.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = block(torch.randn(1, 8, 16, 16, requires_grad=True))
    assert output.requires_grad
    return sum(kept.values())


def test_checkpointing_makes_memory_grow_linearly_with_the_layers_instead_of_quadratically() -> None:
    for is_efficient in (False, True):
        growth = [bytes_kept(layers, is_efficient=is_efficient) for layers in (8, 16, 24)]
        second_difference = growth[2] - 2 * growth[1] + growth[0]
        # Per layer, the joined maps and their normalised form: 2 * 8 more of them for each layer before.
        joined = 2 * sum(8 * 8 for _ in range(8)) * 16 * 16 * 4
        assert second_difference == pytest.approx(0 if is_efficient else joined, abs=0.05 * joined)


# ---- Public weights ----


@pytest.mark.slow
def test_torchvisions_old_files_are_converted_by_their_name_alone(tmp_path: Path) -> None:
    ours = on_meta("densenet121")
    randomise(ours)
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): tensor
        for key, tensor in ours.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old

    class Published:
        """What torchvision's own loader is given."""

        def get_state_dict(self, **_: Any) -> dict[str, Tensor]:
            return dict(old)

    theirs = torchvision.models.densenet121()
    torchvision.models.densenet._load_state_dict(theirs, Published(), progress=False)
    torch.save(old, tmp_path / "densenet121-old.pth")
    report = convert(tmp_path / "densenet121-old.pth", "densenet121", tmp_path / "densenet121.old.safetensors")
    assert report.key_map == "torchvision"
    assert len(report.renamed) == 58 * (5 + 5)
    converted = zoo.create("densenet121", weights=report.file)
    assert_same_function(converted, theirs, photographs(2, 64))


# ---- Recipes ----


def test_the_papers_recipe_divides_the_rate_at_half_and_at_three_quarters() -> None:
    recipe = training.choose(plugin, "densenet_40_12", "cifar10", "paper_c10")
    assert recipe.decay_epochs == (recipe.epochs / 2, recipe.epochs * 3 / 4)
    assert (recipe.batch_size, recipe.lr, recipe.weight_decay, recipe.nesterov) == (64, 0.1, 1e-4, True)
    assert training.choose(plugin, "densenet_bc_100_12", "cifar10").name == "fast_c10"
    recipe = training.choose(plugin, "densenet264", "imagenet-1k")
    assert (recipe.epochs, recipe.batch_size, recipe.decay_epochs) == (90, 256, (30,))


# ---- The interface ----


@pytest.mark.parametrize(
    ("build", "args", "got"),
    [
        (densenet, {"depth": 120}, "depth = 120"),
        (cifar_densenet, {"depth": 41, "growth_rate": 12}, "depth = 41 is not 3n"),
        (cifar_densenet, {"depth": 4, "growth_rate": 12}, "depth = 4 is not 3n"),
        (cifar_densenet, {"depth": 43, "growth_rate": 12, **BC}, "depth = 43 is not 6n"),
        (cifar_densenet, {"depth": 40, "growth_rate": 12, "initial_width": "16"}, "initial_width = '16'"),
        (cifar_densenet, {"depth": 40, "growth_rate": 12, "compression": 0.0}, "compression = 0.0"),
    ],
)
def test_an_argument_outside_the_paper_is_refused_by_name(build: Any, args: dict[str, Any], got: str) -> None:
    with pytest.raises(SpecError, match=got):
        build(**args)


@pytest.mark.first(1)
@pytest.mark.parametrize(("stem", "pool"), [("small", False), ("small_pool", True)])
def test_torchvisions_network_changed_for_small_images_converts(stem: str, pool: bool, tmp_path: Path) -> None:
    """As people do for CIFAR-10: a first convolution of 3x3 before torchvision's normalisation, and other blocks."""
    blocks = (2, 3, 4, 1)
    theirs = torchvision.models.DenseNet(growth_rate=32, block_config=blocks, num_init_features=64, num_classes=10)
    theirs.features.conv0 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
    if not pool:
        theirs.features.pool0 = nn.Identity()
    randomise(theirs)
    torch.save(theirs.eval().state_dict(), tmp_path / "theirs.pth")
    stated = Stated(args={"stem": stem, "blocks": list(blocks)}, preprocess={"input_size": (3, 32, 32)})
    report = convert(tmp_path / "theirs.pth", "densenet121", tmp_path / "out.safetensors", stated=stated)
    assert_same_function(zoo.create("densenet121", weights=report.file).eval(), theirs, photographs(2, 32))

"""BN-Inception against the paper's table, pytorchcv, TF-Slim's count and closed forms."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from support.reference import assert_same_function, macs_of, params_of, photographs, randomise, renamed
from torch import nn
from torch.nn import functional as F

import zoo
from zoo import training
from zoo.convert import convert
from zoo.errors import SpecError
from zoo_inception import plugin
from zoo_inception.bn_inception import STYLES, BNInception, Module, SamePad, Widths

MODELS = {model.name: model for model in plugin.models}
# Maps in, 1x1, 3x3 reduced, 3x3, two 3x3 reduced, two 3x3, projection of the pool, maps out.
CAFFE_TABLE = {
    "3a": (192, 64, 64, 64, 64, 96, 32, 256),
    "3b": (256, 64, 64, 96, 64, 96, 64, 320),
    "3c": (320, 0, 128, 160, 64, 96, 0, 576),
    "4a": (576, 224, 64, 96, 96, 128, 128, 576),
    "4b": (576, 192, 96, 128, 96, 128, 128, 576),
    "4c": (576, 160, 128, 160, 128, 160, 128, 608),
    "4d": (608, 96, 128, 192, 160, 192, 128, 608),
    "4e": (608, 0, 128, 192, 192, 256, 0, 1056),
    "5a": (1056, 352, 192, 320, 160, 224, 128, 1024),
    "5b": (1024, 352, 192, 320, 192, 224, 128, 1024),
}
TF_TABLE = {
    **CAFFE_TABLE,
    "4c": (576, 160, 128, 160, 128, 160, 96, 576),
    "4d": (576, 96, 128, 192, 160, 192, 96, 576),
    "4e": (576, 0, 128, 192, 192, 256, 0, 1024),
    "5a": (1024, 352, 192, 320, 160, 224, 128, 1024),
}


def on_meta(**args: Any) -> BNInception:
    with torch.device("meta"):
        return BNInception(**args)


outline = cache(on_meta)
"""As ``on_meta``, built once: for counting alone."""


# ---- Sizes ----


@pytest.mark.parametrize(
    ("name", "lineage", "params", "macs"),
    [("bn_inception", "caffe", 11_295_240, 2_032_600_064), ("bn_inception_tf", "tf", 11_188_224, 1_934_857_216)],
)
def test_each_lineage_has_the_expected_size(name: str, lineage: str, params: int, macs: int) -> None:
    assert params_of(outline(lineage=lineage)) == MODELS[name].params == params
    assert macs_of(outline(lineage=lineage), (3, 224, 224)) == MODELS[name].macs == macs


def test_tf_slims_count_of_its_network_is_ours() -> None:
    """Its test counts 10,173,112 without the head: no scale, but a mean and a variance for each of our two."""
    network = outline(lineage="tf")
    norms = sum(module.num_features for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    assert params_of(network) - params_of(network.fc) + norms == 10_173_112


@pytest.mark.parametrize(("lineage", "table"), [("caffe", CAFFE_TABLE), ("tf", TF_TABLE)])
def test_modules_are_the_tables(lineage: str, table: dict[str, tuple[int, ...]]) -> None:
    network = outline(lineage=lineage)
    for name, (chans, one, three_reduce, three, double_reduce, double, pool, out) in table.items():
        module = network.get_submodule(f"inception{name}")
        shapes = [tuple(m.weight.shape[:2]) for m in module.modules() if isinstance(m, nn.Conv2d)]
        expected = [(one, chans)] if one else []
        expected += [(three_reduce, chans), (three, three_reduce)]
        expected += [(double_reduce, chans), (double, double_reduce), (double, double)]
        expected += [(pool, chans)] if pool else []
        assert shapes == expected, name
        side = {"3": 28, "4": 14, "5": 7}[name[0]]
        maps = torch.empty(2, chans, side, side, device="meta")
        assert module(maps).shape == (2, out, *(2 * (side if one else side // 2,)))


# ---- The same function as pytorchcv's, with the same weights, on real images ----

_UNITS = {"1": ["3a", "3b"], "2": ["3c", "4a", "4b", "4c", "4d"], "3": ["4e", "5a", "5b"]}
_FROM_PYTORCHCV = (
    (r"^output\.", "fc."),
    (r"^features\.init_block\.conv1\.", "conv1."),
    (r"^features\.init_block\.conv2\.conv1\.", "conv2."),
    (r"^features\.init_block\.conv2\.conv2\.", "conv3."),
    *(
        (rf"^features\.stage{stage}\.unit{number}\.branches\.", f"inception{name}.")
        for stage, names in _UNITS.items()
        for number, name in enumerate(names, 1)
    ),
    (r"(3c|4e)\.branch2", r"\1.branch3"),  # its halving modules have no first branch
    (r"(3c|4e)\.branch1", r"\1.branch2"),
    (r"(branch\d)\.conv1\.", r"\1.0."),
    (r"(branch\d)\.conv2\.", r"\1.1."),
    (r"(branch\d)\.conv3\.", r"\1.2."),
    (r"branch4\.conv\.(?=conv|bn)", "branch4.1."),
)


@pytest.fixture(scope="module")
def pair() -> tuple[BNInception, nn.Module]:
    """Ours and pytorchcv's with the same random weights."""
    from pytorchcv.model_provider import get_model

    with torch.device("meta"):
        ours, theirs = BNInception(), get_model("bninception")
    randomise(theirs)
    ours.load_state_dict(renamed(theirs.state_dict(), *_FROM_PYTORCHCV), assign=True)
    return ours, theirs


def test_logits_equal_pytorchcvs(pair: tuple[BNInception, nn.Module]) -> None:
    assert_same_function(*pair, photographs(2, 224))


def test_the_row_turns_rgb_round_for_caffes_weights_and_takes_their_mean() -> None:
    assert MODELS["bn_inception"].args["bgr"] is True
    preprocess = MODELS["bn_inception"].preprocess
    assert [round(255 * mean) for mean in preprocess.mean] == [128, 117, 104]  # Caffe's 104, 117, 128 are of BGR
    assert preprocess.std == (1 / 255,) * 3


# ---- What people get wrong: the lineages ----


@pytest.mark.parametrize(("lineage", "eps", "has_bias"), [("caffe", 1e-5, True), ("tf", 1e-3, False)])
def test_caffe_keeps_a_bias_before_batch_normalisation_and_tf_has_the_larger_epsilon(
    lineage: str, eps: float, has_bias: bool
) -> None:
    modules = list(outline(lineage=lineage).named_modules())
    assert {module.eps for _, module in modules if isinstance(module, nn.BatchNorm2d)} == {eps}
    of_units = [module for name, module in modules if isinstance(module, nn.Conv2d) and name.endswith(".conv")]
    assert {module.bias is not None for module in of_units} == {has_bias}


@pytest.mark.parametrize(("kernel", "side", "before", "after"), [(7, 224, 2, 3), (3, 28, 0, 1), (3, 7, 1, 1)])
def test_tf_pads_more_behind_than_before(kernel: int, side: int, before: int, after: int) -> None:
    """TensorFlow's SAME: (ceil(side / stride) - 1) * stride + kernel - side, its smaller half first."""
    assert before + after == (-(-side // 2) - 1) * 2 + kernel - side
    x = torch.ones(1, 1, side, side)
    torch.testing.assert_close(SamePad(kernel)(x), F.pad(x, (before, after, before, after)))


@pytest.mark.parametrize(("lineage", "divisor"), [("caffe", 9), ("tf", 4)])
def test_averages_count_the_padding_in_caffe_and_not_in_tf(lineage: str, divisor: int) -> None:
    pool = outline(lineage=lineage).inception3a.branch4[0]
    assert pool(torch.ones(1, 1, 5, 5))[0, 0, 0, 0].item() == pytest.approx(4 / divisor)


# ---- What people get wrong: the modules ----


@pytest.mark.parametrize("lineage", ["caffe", "tf"])
def test_all_pools_of_modules_average_but_those_that_halve_and_the_last(lineage: str) -> None:
    network = outline(lineage=lineage)
    kinds = {name: type(network.get_submodule(f"inception{name}").branch4[0]).__name__ for name in CAFFE_TABLE}
    assert {name for name, kind in kinds.items() if kind == "MaxPool2d"} == {"3c", "4e", "5b"}
    assert {name for name, kind in kinds.items() if kind == "AvgPool2d"} == set(CAFFE_TABLE) - {"3c", "4e", "5b"}


@pytest.mark.parametrize("lineage", ["caffe", "tf"])
def test_a_halving_module_passes_the_maxima_of_its_input_on_and_has_stride_2_in_the_last_convolutions(
    lineage: str,
) -> None:
    torch.manual_seed(0)
    module = Module(3, Widths(0, 2, 4, 2, 5, 0), STYLES[lineage], pool="avg").eval()
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        out = module(x)
    assert out.shape == (1, 4 + 5 + 3, 4, 4)
    padded = F.pad(x, (0, 1, 0, 1), value=-torch.inf)
    assert torch.equal(out[:, -3:], F.max_pool2d(padded, 3, stride=2))
    strides = [m.stride[0] for m in module.modules() if isinstance(m, nn.Conv2d)]
    assert strides == [1, 2, 1, 1, 2]


# ---- Public weights, recipe, interface ----


def caffes_name(key: str) -> str:
    """Returns our key as Cadene's file has it: Caffe's layers, their normalisation under the name with ``_bn``."""
    name, _, field = key.rpartition(".")
    layer, _, part = name.rpartition(".")
    if not layer:
        return f"last_linear.{field}"
    stem = {"conv1": "conv1_7x7_s2", "conv2": "conv2_3x3_reduce", "conv3": "conv2_3x3"}
    branches = {
        "branch1": "1x1",
        "branch2.0": "3x3_reduce",
        "branch2.1": "3x3",
        "branch3.0": "double_3x3_reduce",
        "branch3.1": "double_3x3_1",
        "branch3.2": "double_3x3_2",
        "branch4.1": "pool_proj",
    }
    module, _, branch = layer.partition(".")
    there = stem[layer] if layer in stem else f"inception_{module.removeprefix('inception')}_{branches[branch]}"
    return f"{there}{'_bn' if part == 'bn' else ''}.{field}"


@pytest.mark.slow
def test_cadenes_file_of_caffes_layers_is_converted_by_its_names(
    pair: tuple[BNInception, nn.Module], tmp_path: Path
) -> None:
    ours, _ = pair
    published = {
        caffes_name(key): value for key, value in ours.state_dict().items() if not key.endswith("num_batches_tracked")
    }
    assert {"conv1_7x7_s2_bn.running_var", "inception_3c_double_3x3_2.bias", "last_linear.weight"} <= set(published)
    torch.save(published, tmp_path / "bn_inception.pth")
    report = convert(tmp_path / "bn_inception.pth", "bn_inception", tmp_path / "bn_inception.cadene.safetensors")
    assert report.key_map == "cadene"
    converted = zoo.create("bn_inception", weights=report.file).eval()
    images = photographs(2, 64)
    with torch.no_grad():
        got, expected = converted(images), ours.eval()(images[:, [2, 1, 0]])
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_the_papers_recipe_is_bn_x30() -> None:
    """Thirty times 0.0015, falling six times as fast as every eight epochs, six million updates of 32 images."""
    recipe = training.choose(plugin, "bn_inception", "imagenet-1k")
    assert recipe.lr == pytest.approx(30 * 0.0015)
    assert recipe.decay_epochs == (pytest.approx(8 / 6),)
    assert recipe.epochs * 1_281_167 / recipe.batch_size == pytest.approx(6e6, rel=0.01)
    before = training.choose(plugin, "googlenet", "imagenet-1k")
    assert recipe.weight_decay == pytest.approx(before.weight_decay / 5)


def test_another_lineage_is_refused_by_name() -> None:
    with pytest.raises(SpecError, match="lineage = 'keras' is not one of 'caffe', 'tf'"):
        BNInception(lineage="keras")

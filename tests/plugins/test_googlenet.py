"""GoogLeNet against the paper's table, torchvision and closed forms."""

import json
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from support import reference
from support.reference import assert_same_function, macs_of, params_of, photographs, randomise
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import GoogLeNet_Weights
from torchvision.models.googlenet import GoogLeNet as TorchvisionGoogLeNet
from torchvision.models.googlenet import Inception as TorchvisionInception
from torchvision.models.googlenet import InceptionAux as TorchvisionAux

import zoo
from zoo import data, registry, training
from zoo.data import ImageSet
from zoo.errors import SpecError
from zoo.loading import safetensors_file
from zoo.spec import Preprocess
from zoo.training import Run, TrainingData
from zoo.training.run import Silent
from zoo_inception import plugin
from zoo_inception.blocks import concatenate
from zoo_inception.designs import Widths
from zoo_inception.googlenet import GoogLeNet, Inception
from zoo_inception.training import auxiliary_heads, train

MODELS = {model.name: model for model in plugin.models}
TABLE_1 = {
    # module: maps in, 1x1, 3x3 reduced, 3x3, 5x5 reduced, 5x5, pool's projection, side
    "3a": (192, 64, 96, 128, 16, 32, 32, 28),
    "3b": (256, 128, 128, 192, 32, 96, 64, 28),
    "4a": (480, 192, 96, 208, 16, 48, 64, 14),
    "4b": (512, 160, 112, 224, 24, 64, 64, 14),
    "4c": (512, 128, 128, 256, 24, 64, 64, 14),
    "4d": (512, 112, 144, 288, 32, 64, 64, 14),
    "4e": (528, 256, 160, 320, 32, 128, 128, 14),
    "5a": (832, 256, 160, 320, 32, 128, 128, 7),
    "5b": (832, 384, 192, 384, 48, 128, 128, 7),
}
SMALL_TABLE = {
    "3a": (32, 16, 16, 24, 8, 8, 8, 32),
    "3b": (56, 24, 16, 32, 8, 16, 16, 32),
    "4a": (88, 40, 24, 40, 8, 16, 16, 16),
    "4b": (112, 32, 24, 48, 8, 16, 16, 16),
    "4c": (112, 32, 24, 48, 8, 16, 16, 16),
    "4d": (112, 24, 32, 64, 8, 16, 16, 16),
    "4e": (120, 48, 32, 64, 8, 24, 24, 16),
    "5a": (160, 96, 56, 112, 16, 48, 48, 8),
    "5b": (304, 128, 72, 144, 16, 56, 56, 8),
}


def on_meta(name: str, **args: Any) -> Any:
    return reference.on_meta(MODELS[name], **args)


outline = cache(on_meta)
"""As ``on_meta``, built once: for counting alone."""


# ---- Published sizes, and closed forms from the tables ----


@pytest.mark.first(2)
@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("googlenet", 6_998_552, 1_582_671_872),
        ("googlenet_tv", 6_624_904, 1_498_376_192),
        ("googlenet_naive", 97_526_008, 12_568_061_056),
        ("googlenet_small", 466_938, 72_822_528),
        ("googlenet_small_naive", 451_210, 75_924_968),
    ],
)
def test_each_network_has_the_expected_size(name: str, params: int, macs: int) -> None:
    assert params_of(outline(name)) == MODELS[name].params == params
    assert macs_of(outline(name), MODELS[name].preprocess.input_size) == MODELS[name].macs == macs


def filters(row: tuple[int, ...]) -> int:
    """Returns the elements of a module's filters."""
    chans, one, three_reduce, three, five_reduce, five, pool, _ = row
    reduced = 9 * three_reduce * three + 25 * five_reduce * five
    return chans * (one + three_reduce + five_reduce + pool) + reduced


def test_the_small_network_is_what_its_table_counts() -> None:
    stem, head = 27 * 32, 384 * 10
    norms = sum(2 * sum(row[1:7]) for row in SMALL_TABLE.values()) + 2 * 32
    assert params_of(outline("googlenet_small")) == stem + sum(map(filters, SMALL_TABLE.values())) + norms + head + 10
    macs = sum(filters(row) * row[7] ** 2 for row in SMALL_TABLE.values())
    assert MODELS["googlenet_small"].macs == stem * 32**2 + macs + head


def test_tf_slims_count_of_the_network_with_3x3_and_batch_normalisation_is_ours() -> None:
    """Its test counts 5,607,184 without the head: no scale, but a mean and a variance for each of our two."""
    network = outline("googlenet_tv")
    norms = sum(module.num_features for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    assert params_of(network) - params_of(network.fc) + norms == 5_607_184


# ---- The naive module of figure 2a ----


def test_the_naive_network_is_what_the_published_widths_without_reductions_count() -> None:
    """The pool passes on what it is given, so each module adds its own maps to all before."""
    chans, params, macs = 192, 9_472 + 114_944, 147 * 64 * 112**2 + (64 * 64 + 9 * 64 * 192) * 56**2
    for _, one, _, three, _, five, _, side in TABLE_1.values():
        weights = chans * (one + 9 * three + 25 * five)
        params, macs, chans = (
            params + weights + one + three + five,
            macs + weights * side**2,
            chans + one + three + five,
        )
    assert chans == outline("googlenet_naive").num_features
    assert params + chans * 1000 + 1000 == MODELS["googlenet_naive"].params
    assert macs + chans * 1000 == MODELS["googlenet_naive"].macs


def test_a_naive_module_passes_the_pools_maps_on() -> None:
    module = Inception(3, Widths(2, 0, 2, 0, 2, 0), five=5, norm=False, naive=True)
    x = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(module(x)[:, -3:], F.max_pool2d(x, 3, stride=1, padding=1))


# ---- The same function as torchvision's, with the same weights, on real images ----


@pytest.fixture(scope="module")
def torchvisions() -> tuple[GoogLeNet, nn.Module]:
    """Ours and torchvision's with the same random weights, auxiliary heads included."""
    with torch.device("meta"):
        ours, theirs = on_meta("googlenet_tv", aux=True), TorchvisionGoogLeNet(init_weights=False)
    randomise(ours)
    theirs.load_state_dict(ours.state_dict(), assign=True)
    return ours, theirs


class Convolution(nn.Module):
    """What torchvision's network takes as its unit to become the paper's: bias, no batch normalisation."""

    def __init__(self, in_chans: int, out_chans: int, **how: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, out_chans, **how)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).relu()


class OfFive(TorchvisionInception):
    """torchvision's module with the paper's 5x5 filters."""

    def __init__(self, *widths: int) -> None:
        super().__init__(*widths, conv_block=Convolution)
        self.branch3[1] = Convolution(widths[4], widths[5], kernel_size=5, padding=2)


class AuxOfFive(TorchvisionAux):
    """torchvision's auxiliary head behind the paper's pool, whose 4x4 its own then leaves as they are."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.avg_pool2d(x, kernel_size=5, stride=3))


def papers_network_from_torchvisions_parts() -> nn.Module:
    lrn = partial(nn.LocalResponseNorm, 5, alpha=1e-4, beta=0.75, k=1.0)
    blocks = [Convolution, OfFive, partial(AuxOfFive, conv_block=Convolution)]
    network = TorchvisionGoogLeNet(blocks=blocks, init_weights=False)
    network.maxpool1 = nn.Sequential(network.maxpool1, lrn())
    network.maxpool2 = nn.Sequential(lrn(), network.maxpool2)
    network.maxpool4 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    return network


@pytest.fixture(scope="module")
def papers() -> tuple[GoogLeNet, nn.Module]:
    """Ours and the paper's network from torchvision's parts with the same random weights."""
    with torch.device("meta"):
        ours, theirs = on_meta("googlenet", aux=True), papers_network_from_torchvisions_parts()
    randomise(ours)
    theirs.load_state_dict(ours.state_dict(), assign=True)
    return ours, theirs


@pytest.fixture(params=["torchvisions", "papers"])
def pair(request: pytest.FixtureRequest) -> tuple[GoogLeNet, nn.Module]:
    both: tuple[GoogLeNet, nn.Module] = request.getfixturevalue(request.param)
    return both


def test_logits_equal_torchvisions(torchvisions: tuple[GoogLeNet, nn.Module]) -> None:
    assert_same_function(*torchvisions, photographs(2, 224))


def test_logits_of_the_published_form_equal_torchvisions_with_its_5x5_response_normalisation_and_pool(
    papers: tuple[GoogLeNet, nn.Module],
) -> None:
    assert_same_function(*papers, 127.5 * photographs(2, 224))  # response normalisation acts on large values


def test_in_training_the_outputs_are_the_logits_and_those_of_both_heads(pair: tuple[GoogLeNet, nn.Module]) -> None:
    outputs = []
    for network in pair:
        network.eval()
        network.training = True  # its parts are in evaluation: no dropout, no statistics of two images
        with torch.no_grad():
            outputs.append(network(photographs(2, 224)))
        network.eval()
    (logits, first, second), theirs = outputs
    for got, expected in ((logits, theirs.logits), (first, theirs.aux_logits1), (second, theirs.aux_logits2)):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert (first - second).abs().max() > 0.1 * first.abs().max()


# ---- What people get wrong ----


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_of_a_concatenation_are_torchs_in_memory_of_their_own(layout: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(2, c, 4, 4, generator=generator).to(memory_format=layout).requires_grad_() for c in (3, 5)]
    gradient = torch.randn(2, 8, 4, 4, generator=generator).to(memory_format=layout)
    got = torch.autograd.grad(concatenate(parts), parts, gradient)
    for part, grad, expected in zip(parts, got, gradient.split([3, 5], dim=1), strict=True):
        assert torch.equal(grad, expected)
        assert grad.is_contiguous(memory_format=layout)
        assert grad.stride() == part.stride() != expected.stride()


def test_torchvisions_transform_input_is_our_preprocessing() -> None:
    """With weights it takes ImageNet's normalisation and makes values in [-1, 1] of it; ours takes those at once."""
    ours = on_meta("googlenet_tv")
    with torch.device("meta"):
        theirs = TorchvisionGoogLeNet(aux_logits=False, transform_input=True, init_weights=False)
    randomise(ours)
    theirs.load_state_dict(ours.state_dict(), assign=True)
    pixels = (photographs(2, 96) + 1) / 2
    transforms = GoogLeNet_Weights.IMAGENET1K_V1.transforms()
    preprocess = MODELS["googlenet_tv"].preprocess

    def normalized(mean: Any, std: Any) -> Tensor:
        return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)

    with torch.no_grad():
        expected = theirs.eval()(normalized(transforms.mean, transforms.std))
        got = ours.eval()(normalized(preprocess.mean, preprocess.std))
        other = ours(normalized(transforms.mean, transforms.std))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert (other - expected).abs().max() > 0.01 * expected.abs().max()
    assert int(224 / preprocess.crop_pct) == transforms.resize_size[0]
    assert preprocess.interpolation == transforms.interpolation.value


def test_the_published_form_takes_pixels_to_255_less_their_mean() -> None:
    preprocess = MODELS["googlenet"].preprocess
    assert preprocess.std == (1 / 255,) * 3
    assert [255 * mean for mean in preprocess.mean] == pytest.approx([123, 117, 104], abs=1)  # BVLC's, as RGB


def test_dropout_is_0_4_before_the_head_and_0_7_in_the_auxiliary_heads() -> None:
    network = outline("googlenet", aux=True)
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.4, 0.7, 0.7]
    assert [m.p for m in outline("googlenet_tv").modules() if isinstance(m, nn.Dropout)] == [0.2]


def test_weights_begin_uniform_with_variance_1_over_fan_in_and_biases_at_0_2_as_in_bvlcs() -> None:
    torch.manual_seed(0)
    network = GoogLeNet()
    weight = network.inception5b.branch2[1].conv.weight
    assert weight.var().item() == pytest.approx(1 / (9 * 192), rel=0.01)
    assert weight.abs().max().item() == pytest.approx((3 / (9 * 192)) ** 0.5, rel=0.001)
    torch.testing.assert_close(network.conv1.conv.bias, torch.full((64,), 0.2))
    assert network.fc.bias.abs().max() == 0


# ---- The auxiliary heads ----


PIXELS = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
IMAGES = ImageSet("noise", "train", ("a", "b"), torch.arange(8) % 2, PIXELS)
PREPROCESS = Preprocess(input_size=(3, 32, 32), crop_pct=1.0, mean=(0.5,) * 3, std=(0.5,) * 3)


def trained(directory: Path, network: GoogLeNet, *, settings: dict[str, Any], **options: Any) -> GoogLeNet:
    """Returns ``network``, trained on noise by the family's hook."""
    changes = {"augment.resized_crop": None, "augment.flip": False, "ema": 0.0, **settings}
    recipe = training.choose(plugin, "googlenet", "noise", "paper_in1k", changes)
    run = Run(directory, display=Silent(), **options)
    with torch.random.fork_rng():
        torch.manual_seed(1)  # as zoo train does: the hook draws the auxiliary heads' weights
        train(network, TrainingData(IMAGES), recipe, run, preprocess=PREPROCESS, device="cpu")
    return network


def new_network(**args: Any) -> GoogLeNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GoogLeNet(design="small", init="he", num_classes=2, **args)


def test_the_loss_that_training_lowers_counts_each_auxiliary_head_0_3(tmp_path: Path) -> None:
    network = new_network(aux=True)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    images = PIXELS.float() / 127.5 - 1
    with torch.no_grad():
        losses = [F.cross_entropy(logits, IMAGES.labels).item() for logits in network.train()(images)]
    assert min(losses) > 0.1
    trained(tmp_path, network, settings={"epochs": 1, "batch_size": 8, "lr": 0.0})
    logged = json.loads((tmp_path / "log.jsonl").read_text())["loss"]
    assert logged == pytest.approx(losses[0] + 0.3 * (losses[1] + losses[2]), rel=1e-4)
    assert network.has_auxiliary_heads  # it had them before


@pytest.mark.parametrize(
    ("head", "last", "next_one"), [(1, "inception4a", "inception4b"), (2, "inception4d", "inception4e")]
)
def test_an_auxiliary_head_teaches_what_lies_below_it_and_nothing_above(head: int, last: str, next_one: str) -> None:
    network = new_network(aux=True).train()
    network(PIXELS.float() / 127.5 - 1)[head].square().sum().backward()
    assert all(weight.grad.abs().max() > 0 for weight in network.get_submodule(last).parameters() if weight.ndim == 4)
    assert network.conv1.conv.weight.grad.abs().max() > 0
    assert all(weight.grad is None for weight in network.get_submodule(next_one).parameters())


def test_the_hook_adds_both_heads_for_the_time_of_training_and_drops_them_after_it() -> None:
    network = on_meta("googlenet_naive")
    keys = list(network.state_dict())
    with auxiliary_heads(network):
        assert params_of(network.aux1.fc2) == params_of(network.aux2.fc2) == 1024 * 1000 + 1000
        assert network.aux2.conv.conv.in_channels == network.inception4d.out_chans
    assert list(network.state_dict()) == keys


@pytest.mark.slow
def test_training_teaches_the_auxiliary_heads_resumes_bit_by_bit_and_leaves_none(tmp_path: Path) -> None:
    settings = {"epochs": 2, "batch_size": 4}
    whole = trained(tmp_path / "whole", new_network(), settings=settings)
    trained(tmp_path / "halves", new_network(), settings=settings, stop_after=1)
    checkpoint = safetensors_file.read(tmp_path / "halves" / "checkpoint.safetensors")
    assert checkpoint["model.aux1.fc2.weight"].shape == checkpoint["model.aux2.fc2.weight"].shape == (2, 1024)
    halves = trained(tmp_path / "halves", new_network(), settings=settings, resume=True)
    assert list(whole.state_dict()) == list(halves.state_dict()) == list(outline("googlenet_small").state_dict())
    for key, value in whole.state_dict().items():
        assert value.isfinite().all(), key
        assert torch.equal(halves.state_dict()[key], value), key
    assert isinstance(whole.train()(torch.rand(2, 3, 32, 32)), Tensor)


def test_another_number_of_classes_changes_all_three_classifiers() -> None:
    network = on_meta("googlenet", aux=True)
    network.reset_classifier(7)
    assert [part.weight.shape for part in (network.fc, network.aux1.fc2, network.aux2.fc2)] == [
        (7, 1024),
        (7, 1024),
        (7, 1024),
    ]
    network.reset_classifier(0)
    assert not network.has_auxiliary_heads
    assert isinstance(network.get_classifier(), nn.Identity)


def test_the_row_is_trained_by_the_hook_that_adds_the_heads_and_the_small_ones_are_not() -> None:
    hooks = {name: model.train for name, model in MODELS.items() if name.startswith("googlenet")}
    assert {name for name, hook in hooks.items() if hook == "zoo_inception.training:train"} == {
        "googlenet",
        "googlenet_naive",
        "googlenet_tv",
    }


@pytest.mark.slow
def test_a_small_network_built_with_auxiliary_heads_is_trained_with_them_and_keeps_them(tmp_path: Path) -> None:
    settings = {"epochs": 1, "batch_size": 64, "input_size": 32}
    file = tmp_path / "run" / "model.safetensors"
    images = data.load("digits", "train").subset(torch.arange(64), "train")
    zoo.train("googlenet_small", images, args={"aux": True}, recipe="default", settings=settings, output=file.parent)
    assert {key.partition(".")[0] for key in safetensors_file.read(file)} > {"aux1", "aux2"}
    assert zoo.create("googlenet_small", weights=file).has_auxiliary_heads


# ---- Public weights, recipes ----


def test_the_manifest_has_torchvisions_score_and_preprocessing() -> None:
    row = next(row for row in registry.current().plugins if row.name == "inception")
    (entry,) = row.weights["googlenet_tv"]
    theirs = GoogLeNet_Weights.IMAGENET1K_V1
    score = entry.scores["imagenet-1k/validation"]
    assert (score.top1, score.top5) == tuple(theirs.meta["_metrics"]["ImageNet-1K"].values())
    assert theirs.url.endswith(f"/{entry.file}")
    assert entry.preprocess == MODELS["googlenet_tv"].preprocess
    assert "transform_input" in torchvision.models.GoogLeNet.__init__.__annotations__


def test_recipes_are_the_papers_and_a_fast_one() -> None:
    recipe = training.choose(plugin, "googlenet", "imagenet-1k")
    assert (recipe.name, recipe.decay_epochs, recipe.decay_rate, recipe.momentum) == ("paper_in1k", (8,), 0.96, 0.9)
    crop = recipe.augment.resized_crop
    assert crop.scale == (0.08, 1.0)
    assert crop.ratio == pytest.approx((3 / 4, 4 / 3))
    for name in ("googlenet_small", "googlenet_small_naive"):
        assert training.choose(plugin, name, "cifar10").name == "fast_c10"


# ---- The interface ----


@pytest.mark.parametrize(
    ("args", "got"), [({"design": "2015"}, "design = '2015'"), ({"init": "xavier"}, "init = 'xavier'")]
)
def test_an_argument_that_there_is_not_is_refused_by_name(args: dict[str, Any], got: str) -> None:
    with pytest.raises(SpecError, match=got):
        GoogLeNet(**args)

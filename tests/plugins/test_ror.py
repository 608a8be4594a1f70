"""The ror family against the papers' figures and sizes, pytorchcv, timm, the resnet family, closed forms."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.reference import assert_same_function, cifar10_test_images, macs_of, params_of, randomise, renamed
from torch import Tensor, nn
from torch.nn import functional as F

import zoo
from zoo import convert, training
from zoo.errors import SpecError
from zoo.modules import ZeroPadShortcut, make_shortcut
from zoo.testing import Check, conformance
from zoo.training import optimization
from zoo_resnet.model import cifar_resnet
from zoo_ror import plugin
from zoo_ror.depth import StochasticDepth, linear_survival
from zoo_ror.model import Level, RoR
from zoo_ror.units import PostActUnit, PreActUnit

MODELS = {model.name: model for model in plugin.models}
KEY_MAPS = {key_map.name: key_map for key_map in plugin.key_maps}
WIDE: dict[str, Any] = {"outside": 4, "preact": True, "shortcut": "B", "level_norm": False}
GROUPS = ("layer1", "layer2", "layer3")


@pytest.mark.first(51)
@conformance("ror")
def test_conformance(check: Check) -> None:
    check()


def on_meta(**args: Any) -> RoR:
    """Returns a network without memory, so that counting is free."""
    with torch.device("meta"):
        return RoR(**args)


def ready(**args: Any) -> RoR:
    """Returns a network with weights and statistics of its own."""
    network = on_meta(**args)
    randomise(network)
    return network


def noise(count: int, side: int = 8) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


# ---- Sizes ----


@pytest.mark.first(3)
@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("ror3_56", 857_210),
        ("ror3_110", 1_732_154),
        ("ror3_164", 2_607_098),
        ("ror3_wrn40_4", 8_995_290),
        ("ror3_wrn58_4", 13_645_530),
        ("wrn28_10", 36_479_194),
        ("wrn40_4", 8_949_210),
        ("wrn58_4", 13_599_450),
        ("resnet110_sd", 1_727_962),
    ],
)
def test_networks_have_the_published_parameters(name: str, params: int) -> None:
    assert params_of(on_meta(**MODELS[name].args)) == MODELS[name].params == params


@pytest.mark.parametrize(("depth", "width", "params"), [(16, 8, 10_961_370), (40, 10, 55_841_754)])
def test_other_wide_networks_have_the_published_parameters(depth: int, width: int, params: int) -> None:
    assert params_of(on_meta(depth=depth, width=width, levels=1, **WIDE)) == params


def test_wrn_28_10_and_resnet110_ask_for_the_published_multiply_adds() -> None:
    assert macs_of(on_meta(**MODELS["wrn28_10"].args), (3, 32, 32)) == 5_243_328_768
    assert macs_of(on_meta(**MODELS["resnet110_sd"].args), (3, 32, 32)) == 252_887_680


# ---- The figures ----


def by_the_figure(network: RoR, images: Tensor, *, levels: int, preact: bool) -> Tensor:
    """Returns the logits of a network of up to three levels in evaluation, additions and ReLUs in the figure's
    order.
    """

    def relu(x: Tensor) -> Tensor:
        return x if preact else F.relu(x)

    stem = x = relu(network.bn1(network.conv1(images)))
    for group in GROUPS:
        level, start = network.get_submodule(group), x
        for position, unit in enumerate(level.blocks):
            if preact and unit.shortcut is not None and isinstance(unit.shortcut, nn.Conv2d):
                x = F.relu(unit.before.bn1(x))
            x = unit.branch(x) + unit.shortcut(x)
            ends_group = position == len(level.blocks) - 1
            if not ends_group or (levels < 3 and not (levels == 2 and group == "layer3")):
                x = relu(x)
        if levels == 3:
            x = x + level.shortcut(start)
            x = relu(x) if group != "layer3" else x
    if levels > 1:
        x = relu(x + network.root(stem))
    x = F.relu(network.bn(x)) if preact else x
    return network.fc(x.mean(dim=(2, 3)))


@pytest.mark.parametrize("preact", [False, True])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_the_network_is_what_the_figure_draws(levels: int, preact: bool) -> None:
    args = {"depth": 20, "levels": levels, "preact": preact, "shortcut": "B" if preact else "A"}
    network, images = ready(**args).eval(), noise(2, 16)
    with torch.no_grad():
        torch.testing.assert_close(network(images), by_the_figure(network, images, levels=levels, preact=preact))


def test_each_level_beyond_the_third_halves_the_groups_of_the_one_before() -> None:
    network, images = ready(depth=32, levels=4).eval(), noise(2, 16)  # 5 units a group: 3 and 2
    assert [len(half.blocks) for half in network.layer2.blocks] == [3, 2]
    first, second = network.layer2.blocks
    assert [half.shortcut[0].stride[0] for half in (first, second)] == [2, 1]
    with torch.no_grad():
        start = x = network.layer1(network.act1(network.bn1(network.conv1(images))))
        for half in (first, second):
            begin = x
            for unit in half.blocks:
                x = unit.branch(x) + unit.shortcut(x)
                x = F.relu(x) if unit is not half.blocks[-1] else x
            x = x + half.shortcut(begin)
            x = F.relu(x) if half is first else x
        torch.testing.assert_close(network.layer2(start), F.relu(x + network.layer2.shortcut(start)))
    assert len([part for part in on_meta(depth=110, levels=6).modules() if isinstance(part, Level)]) == 3 * (
        1 + 2 + 4 + 8
    )


# ---- The same function as other implementations, with the same weights, on real images ----


def pytorchcv(name: str, ours: RoR, *pairs: tuple[str, str]) -> nn.Module:
    """Returns the other library's network, whose weights ``ours`` gets."""
    from pytorchcv.model_provider import get_model

    with torch.device("meta"):
        theirs = get_model(name)
    randomise(theirs)
    ours.load_state_dict(renamed(theirs.state_dict(), *pairs), assign=True)
    return theirs


def test_logits_equal_pytorchcvs_ror_with_its_blocks_and_pools() -> None:
    key_map = KEY_MAPS["pytorchcv"]
    ours = on_meta(depth=56, **key_map.args)
    theirs = pytorchcv("ror3_56_cifar10", ours, *key_map.rename)
    assert_same_function(ours, theirs, cifar10_test_images(4)[0])


def test_logits_equal_pytorchcvs_wrn() -> None:
    ours = on_meta(depth=16, width=10, levels=1, **WIDE)
    theirs = pytorchcv("wrn16_10_cifar10", ours, *KEY_MAPS["pytorchcv_wrn"].rename)
    assert_same_function(ours, theirs, cifar10_test_images(2)[0])


def test_one_pre_activated_level_of_width_1_is_pytorchcvs_preresnet() -> None:
    ours = on_meta(depth=20, levels=1, preact=True, shortcut="B")
    pairs = [pair for pair in KEY_MAPS["pytorchcv_wrn"].rename if "before" not in pair[1]]
    shared = (r"(layer[23])\.blocks\.0\.branch\.bn1\.", r"\1.blocks.0.before.bn1.")
    theirs = pytorchcv("preresnet20_cifar10", ours, *pairs, shared)
    assert_same_function(ours, theirs, cifar10_test_images(4)[0])


_RESDROP = (
    (r"^features\.init_block\.conv\.", "conv1."),
    (r"^features\.init_block\.bn\.", "bn1."),
    (r"^features\.stage", "layer"),
    *((rf"\.unit{unit + 1}\.", f".blocks.{unit}.") for unit in range(3)),
    (r"\.identity_conv\.conv\.", ".shortcut.0."),
    (r"\.identity_conv\.bn\.", ".shortcut.1."),
    (r"\.body\.conv(\d)\.(conv|bn)\.", r".branch.\2\1."),
    (r"^output\.", "fc."),
)


@pytest.mark.parametrize("drawn_per", ["sample", "batch"])
def test_in_evaluation_stochastic_depth_drawn_per_batch_weighs_branches_by_their_survival(drawn_per: Any) -> None:
    ours = on_meta(depth=20, levels=1, shortcut="B", survival=0.5, drawn_per=drawn_per)
    theirs = pytorchcv("resdropresnet20_cifar10", ours, *_RESDROP)  # divides by survival in training
    if drawn_per == "batch":
        theirs.load_state_dict({key: value.clone() for key, value in theirs.state_dict().items()}, assign=True)
        for unit in (part for part in theirs.modules() if hasattr(part, "life_prob")):
            unit.body.conv2.bn.weight.data *= unit.life_prob
            unit.body.conv2.bn.bias.data *= unit.life_prob
    assert_same_function(ours, theirs, cifar10_test_images(4)[0])


def test_one_level_is_the_resnet_familys_network() -> None:
    with torch.device("meta"):
        theirs = cifar_resnet(depth=20)
    randomise(theirs)
    ours = on_meta(depth=20, levels=1)
    keys = ((r"^(layer\d)\.(\d)\.", r"\1.blocks.\2."), (r"\.((?:conv|bn)\d)\.", r".branch.\1."))
    ours.load_state_dict(renamed(theirs.state_dict(), *keys), assign=True)
    assert_same_function(ours, theirs, cifar10_test_images(4)[0])


@pytest.mark.parametrize(
    ("reference", "name"),
    [("ror3_56_cifar10", "ror3_56"), ("ror3_110_cifar10", "ror3_110"), ("wrn28_10_cifar10", "wrn28_10")],
)
def test_key_maps_account_for_every_tensor_of_the_public_files(reference: str, name: str) -> None:
    from pytorchcv.model_provider import get_model

    key_map = KEY_MAPS["pytorchcv_wrn" if "wrn" in name else "pytorchcv"]
    with torch.device("meta"):
        theirs = renamed(get_model(reference).state_dict(), *key_map.rename)
    ours = on_meta(**{**MODELS[name].args, **key_map.args}).state_dict()
    assert {key: tensor.shape for key, tensor in theirs.items()} == {key: tensor.shape for key, tensor in ours.items()}


@pytest.mark.slow
def test_a_public_file_is_converted_and_computes_the_same(tmp_path: Path) -> None:
    from pytorchcv.model_provider import get_model

    theirs, images = get_model("ror3_56_cifar10"), cifar10_test_images(2)[0]
    torch.save(theirs.state_dict(), tmp_path / "ror3_56_cifar10.pth")
    report = convert.convert(tmp_path / "ror3_56_cifar10.pth", "ror3_56", tmp_path / "ror3_56.safetensors")
    assert report.key_map == "pytorchcv"
    assert_same_function(zoo.create("ror3_56", weights=tmp_path / "ror3_56.safetensors"), theirs, images)


# ---- Shortcuts ----


def test_option_a_takes_every_second_pixel_and_of_stochastic_depths_authors_the_mean() -> None:
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    taken, averaged = (make_shortcut(option, 1, 3, stride=2, norm=True)(image) for option in ("A", "A_avg"))
    assert taken.tolist() == [[[[0, 2], [8, 10]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]]]
    assert averaged[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert not averaged[0, 1:].any()


def test_resnets_with_stochastic_depth_average_where_they_shrink() -> None:
    shortcuts = [on_meta(**MODELS["resnet110_sd"].args).get_submodule(group).blocks[0].shortcut for group in GROUPS]
    assert isinstance(shortcuts[0], nn.Identity)
    assert all(
        isinstance(shortcut, ZeroPadShortcut) and isinstance(shortcut.average, nn.AvgPool2d)
        for shortcut in shortcuts[1:]
    )


# ---- Stochastic depth ----


def test_survival_falls_linearly_to_a_half_over_all_units() -> None:
    network = on_meta(**MODELS["resnet110_sd"].args)
    survivals = [part.survival for part in network.modules() if isinstance(part, StochasticDepth)]
    assert survivals == pytest.approx([1 - unit / 54 * 0.5 for unit in range(1, 55)])
    assert survivals[-1] == 0.5
    assert round(sum(survivals)) == 40  # of 54: the paper's expected depth
    assert linear_survival(4, 1.0) == [1.0] * 4


@pytest.mark.first(1)
@pytest.mark.parametrize("name", ["ror3_110", "ror3_wrn40_2", "pre_ror3_164"])
def test_the_levels_above_units_never_drop(name: str) -> None:
    with_sd, without = (on_meta(**MODELS[row].args) for row in (f"{name}_sd", name))
    assert list(with_sd.state_dict()) == list(without.state_dict())
    owners = [type(part) for part in with_sd.modules() if any(isinstance(c, StochasticDepth) for c in part.children())]
    assert set(owners) <= {PostActUnit, PreActUnit}
    drops = [part.survival for part in without.modules() if isinstance(part, StochasticDepth)]
    assert set(drops) == {1.0}


class Halve(nn.Module):
    """A branch that counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.weight


def test_drawn_per_batch_a_branch_is_added_whole_or_not_computed() -> None:
    torch.manual_seed(0)
    depth, branch, x = StochasticDepth(0.7, "batch"), Halve(), torch.ones(5, 1, 1, 1)
    sums = [float(depth(x, branch, x).sum().detach()) for _ in range(1000)]
    assert set(sums) == {5.0, 7.5}
    assert branch.calls == sums.count(7.5)
    assert abs(branch.calls - 700) < 73  # 5 standard deviations
    assert depth.eval()(x, branch, x).tolist() == (x * 1.35).tolist()


def test_drawn_per_sample_each_image_keeps_or_drops_its_branch_as_timms_drop_path_does() -> None:
    from timm.layers import DropPath

    depth, branch, x = StochasticDepth(0.7, "sample"), Halve(), torch.ones(2000, 1, 1, 1)
    theirs = DropPath(0.3)
    torch.manual_seed(0)
    ours = depth(x, branch, x).detach()
    expected = x + theirs(x * 0.5)
    assert torch.allclose(ours.unique(), expected.unique())  # 1, and 1 + 0.5 / 0.7
    for kept in (int((values > 1).sum()) for values in (ours, expected)):
        assert abs(kept - 1400) < 103  # 5 standard deviations
    torch.testing.assert_close(depth.eval()(x, branch, x), x + theirs.eval()(x * 0.5))


@pytest.mark.parametrize("preact", [False, True])
def test_a_dropped_unit_is_its_shortcut_and_keeps_its_statistics(preact: bool) -> None:
    network = ready(depth=20, preact=preact, shortcut="B", survival=1e-9).train()
    last = network.layer3.blocks[-1]
    before = {key: value.clone() for key, value in last.state_dict().items()}
    x = torch.randn(2, 64, 4, 4)
    assert torch.equal(last(x), x)
    network(noise(4, 16)).sum().backward()
    assert all(torch.equal(value, before[key]) for key, value in last.state_dict().items())


def test_parameters_of_a_dropped_branch_go_on_decaying_and_with_their_momentum() -> None:
    network = ready(depth=8, survival=1e-9).train()
    weight = network.layer3.blocks[-1].branch.conv1.weight
    before = weight.detach().clone()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, weight_decay=0.5, momentum=0.9)
    for _ in range(2):
        network(noise(4, 16)).sum().backward()
        assert torch.equal(weight.grad, torch.zeros_like(weight))
        optimizer.step()
        optimizer.zero_grad()
    first = before * (1 - 0.1 * 0.5)
    velocity = 0.9 * 0.5 * before + 0.5 * first
    torch.testing.assert_close(weight.detach(), first - 0.1 * velocity)


@pytest.mark.parametrize("drawn_per", ["batch", "sample"])
def test_every_draw_is_decided_by_torchs_seed(drawn_per: Any) -> None:
    network, images = ready(depth=20, survival=0.3, drawn_per=drawn_per).eval(), noise(4, 16)
    for part in network.modules():
        part.training = isinstance(part, StochasticDepth)

    def logits(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return network(images).detach()

    assert torch.equal(logits(1), logits(1))
    assert not torch.equal(logits(1), logits(2))


# ---- Training ----


@pytest.mark.parametrize(
    ("name", "epochs", "decay", "rates"),
    [
        ("paper_c10", 500, 1e-4, [(0, 0.1), (249, 0.1), (250, 0.01), (374, 0.01), (375, 0.001), (499, 0.001)]),
        ("paper_c10_wrn", 200, 5e-4, [(59, 0.1), (60, 0.02), (120, 0.004), (160, 0.0008), (199, 0.0008)]),
    ],
)
def test_recipes_are_the_papers(name: str, epochs: int, decay: float, rates: list[tuple[int, float]]) -> None:
    recipe = training.choose(plugin, "ror3_56", "cifar10", name)
    assert (recipe.epochs, recipe.batch_size, recipe.weight_decay, recipe.nesterov) == (epochs, 128, decay, True)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    updates = optimization.Schedule(optimizer, recipe, 1)
    assert [updates.set(epoch) for epoch, _ in rates] == pytest.approx([rate for _, rate in rates])


def test_wide_networks_crops_lie_over_reflected_pixels() -> None:
    assert training.choose(plugin, "wrn28_10", "cifar10", "paper_c10_wrn").augment.padding == "reflect"
    assert training.choose(plugin, "ror3_56", "cifar10", "paper_c10").augment.padding == "zero"


def test_convolutions_begin_with_hes_variance() -> None:
    weight = RoR(depth=8, width=4).layer3.blocks[0].branch.conv2.weight
    assert weight.std().item() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.01)


# ---- The interface ----


@pytest.mark.parametrize(
    ("args", "got"),
    [
        ({"depth": 57}, r"depth = 57 is not 6n \+ 2"),
        ({"depth": 2}, "depth = 2"),
        ({"depth": 56, "outside": 4}, r"6n \+ 4"),
        ({"depth": 20, "levels": 0}, "levels = 0"),
        ({"depth": 20, "levels": 5}, "levels = 5"),
        ({"depth": 20, "shortcut": "D"}, "shortcut = 'D'"),
        ({"depth": 20, "middle_shortcut": "D"}, "middle_shortcut = 'D'"),
        ({"depth": 20, "root_shortcut": "none"}, "root_shortcut = 'none'"),
        ({"depth": 20, "downsample": "pool"}, "downsample = 'pool'"),
        ({"depth": 20, "drawn_per": "image"}, "drawn_per = 'image'"),
        ({"depth": 20, "survival": 0.0}, "survival = 0.0"),
    ],
)
def test_an_argument_outside_the_papers_is_refused_by_name(args: dict[str, Any], got: str) -> None:
    with pytest.raises(SpecError, match=got):
        RoR(**args)

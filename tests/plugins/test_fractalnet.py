"""The fractalnet family against the expansion rule, the authors' sizes and order, pytorchcv, closed forms."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from support.reference import assert_same_function, cifar10_test_images, macs_of, params_of, randomise, renamed
from torch import Tensor, nn
from torch.nn import functional as F

import zoo
from zoo import training
from zoo.data import ImageSet
from zoo.errors import SpecError
from zoo.evaluation import evaluate as evaluate_whole
from zoo.testing import Check, conformance
from zoo.training import optimization
from zoo_fractalnet import paths as drawing
from zoo_fractalnet import plugin
from zoo_fractalnet.columns import evaluate
from zoo_fractalnet.model import FractalBlock, FractalNet
from zoo_fractalnet.paths import Paths, draw, draw_shares, through

MODELS = {model.name: model for model in plugin.models}
TINY: dict[str, Any] = {"widths": [4, 8], "columns": 3}
TABLE_WIDTHS = [16, 32, 64, 128, 128]


@pytest.mark.first(31)
@conformance("fractalnet")
def test_conformance(check: Check) -> None:
    check()


def on_meta(**args: Any) -> FractalNet:
    """Returns a network without memory, so that counting is free."""
    with torch.device("meta"):
        return FractalNet(**args)


def noise(count: int, side: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def still(network: FractalNet) -> FractalNet:
    """Builds it in training, so that paths are drawn, but with statistics that stay: an image's way alone decides its
    logits."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return network


def ready(**args: Any) -> FractalNet:
    """Returns a small network with weights and statistics of its own."""
    network = on_meta(**{**TINY, **args})
    randomise(network)
    return network


# ---- Sizes ----


def test_the_20_layers_have_the_size_of_the_authors_code() -> None:
    row = MODELS["fractalnet20"]
    assert (row.args["columns"], len(row.args["widths"])) == (3, 5)
    assert params_of(on_meta(**row.args)) == row.params == 33_724_618
    assert params_of(on_meta(**row.args, num_classes=100)) == 33_770_788
    assert macs_of(on_meta(**row.args), (3, 32, 32)) == row.macs == 845_222_912


@pytest.mark.parametrize(
    ("columns", "params"),
    [(1, 258_292), (2, 847_716), (3, 2_125_204), (4, 4_778_820), (5, 10_184_692), (6, 21_095_076)],
)
def test_the_study_of_depth_has_the_papers_sizes_without_1x1_convolutions(columns: int, params: int) -> None:
    network = on_meta(widths=TABLE_WIDTHS, columns=columns, num_classes=100)
    assert params_of(network) == params
    deepest = [
        name for name, part in network.named_modules() if isinstance(part, nn.Conv2d) and f"column{columns}" in name
    ]
    assert len(deepest) == 5 * 2 ** (columns - 1)


def test_a_1x1_convolution_where_channels_change_explains_the_papers_38_6_million() -> None:
    for affine in (True, False):
        plain = on_meta(num_classes=100, affine=affine)
        projecting = on_meta(num_classes=100, affine=affine, project=True)
        assert 38_567_076 <= params_of(projecting) <= 38_597_988
        assert round(params_of(plain) / 1e6, 1) != round(params_of(projecting) / 1e6, 1) == 38.6
    projections = {
        name for name, part in projecting.named_modules() if name.endswith(".project") and isinstance(part, nn.Conv2d)
    }
    assert projections == {"block2.project", "block3.project", "block4.project"}
    assert not any(isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1) for part in plain.modules())


def test_without_affine_a_convolution_has_a_bias_and_normalisation_nothing_to_learn() -> None:
    unit = ready(affine=False).block1.column3[0]
    assert (unit.conv.bias is None, list(unit.bn.parameters())) == (False, [])
    unit = ready().block1.column3[0]
    assert (unit.conv.bias is None, len(list(unit.bn.parameters()))) == (True, 2)


def test_fractalnet34_is_34_layers_deep_between_resnets_first_and_last() -> None:
    network = on_meta(**MODELS["fractalnet34"].args, num_classes=1000)
    deepest = [part for name, part in network.named_modules() if isinstance(part, nn.Conv2d) and "column4" in name]
    assert 1 + len(deepest) + 1 == 34
    assert (network.stem[0].kernel_size, network.stem[0].stride, network.stem[0].out_channels) == ((7, 7), (2, 2), 64)
    assert network.forward_features(torch.empty(1, 3, 224, 224, device="meta")).shape == (1, 1024, 7, 7)


# ---- The rule ----


def by_the_rule(block: FractalBlock, z: Tensor, join: Callable[[list[Tensor]], Tensor]) -> list[Tensor]:
    """Returns what columns give, the deepest first: f_{C+1}(z) = join(f_C(f_C(z)), conv(z)), with joins that meet
    made one.
    """
    deepest = sum(name.startswith("column") for name, _ in block.named_children())
    units: dict[int, Iterator[nn.Module]] = {
        column: iter(block.get_submodule(f"column{column}")) for column in range(1, deepest + 1)
    }

    def expand(column: int, z: Tensor) -> list[Tensor]:
        if column == deepest:
            return [next(units[column])(z)]
        halfway = join(expand(column + 1, z))
        return [*expand(column + 1, halfway), next(units[column])(z)]

    return expand(1, z)


def mean(inputs: list[Tensor]) -> Tensor:
    return torch.stack(inputs).mean(dim=0)


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5])
def test_a_block_is_what_the_expansion_rule_makes_with_means(columns: int) -> None:
    block = ready(columns=columns).block2.eval()
    z = torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        ends = by_the_rule(block, z, mean)
        assert len(ends) == columns
        expected = mean([F.max_pool2d(end, 2) for end in ends])
        torch.testing.assert_close(block(z, through(None, columns)), expected)


def test_columns_are_pooled_before_they_are_joined_unless_asked_otherwise() -> None:
    z = torch.randn(2, 4, 8, 8)
    before, after = ready(), ready(pool_order="after_join")
    assert list(before.state_dict()) == list(after.state_dict())
    everything = through(None, 3)
    with torch.no_grad():
        ends = by_the_rule(before.block2.eval(), z, mean)
        pooled_first = mean([F.max_pool2d(end, 2) for end in ends])
        joined_first = F.max_pool2d(mean(ends), 2)
        torch.testing.assert_close(before.block2(z, everything), pooled_first)
        torch.testing.assert_close(after.block2.eval()(z, everything), joined_first)
        assert not torch.allclose(pooled_first, joined_first, rtol=0.01)


def test_a_unit_is_convolution_dropout_norm_relu_and_each_block_has_its_dropout() -> None:
    network = FractalNet(**MODELS["fractalnet20"].args)
    rates = [
        {part.p for part in network.get_submodule(f"block{b}").modules() if isinstance(part, nn.Dropout)}
        for b in range(1, 6)
    ]
    assert rates == [{0.0}, {0.1}, {0.2}, {0.3}, {0.4}]
    unit, order = network.block3.column2[1], []
    for name, part in unit.named_children():
        part.register_forward_hook(lambda *_, name=name: order.append(name))
    unit(torch.randn(2, 256, 4, 4))
    assert order == ["conv", "drop", "bn", "act"]


def test_logits_equal_pytorchcvs_where_joins_come_before_pools() -> None:
    from pytorchcv.model_provider import get_model

    with torch.device("meta"):
        theirs = get_model("fractalnet_cifar10")
    randomise(theirs)
    keys = [
        (
            rf"\.block\.blocks\.block{row}\.subblock{column}\.",
            f".column{4 - column}.{row // 2 ** (column - 1) - 1}.",  # theirs counts from the deepest
        )
        for row in (1, 2, 3, 4)
        for column in (1, 2, 3)
    ]
    tensors = renamed(theirs.state_dict(), (r"^features\.unit", "block"), (r"^output\.", "fc."), *keys)
    ours = on_meta(pool_order="after_join", drop_rates=MODELS["fractalnet20"].args["drop_rates"])
    ours.load_state_dict(tensors, assign=True)
    assert_same_function(ours, theirs, cifar10_test_images(2)[0])


# ---- Drop-path ----


def test_a_join_never_drops_all_its_inputs() -> None:
    shares = draw_shares(3, 1000, drop_path=1.0)
    assert torch.equal(shares.sum(dim=0), torch.ones(1000))
    assert set(shares.flatten().tolist()) == {0.0, 1.0}
    assert all(250 < kept < 420 for kept in shares.sum(dim=1).tolist())  # 333 each; 5 standard deviations are 75


def test_a_join_drops_15_percent_of_its_inputs_and_averages_the_others() -> None:
    torch.manual_seed(0)
    shares = draw_shares(2, 100_000, drop_path=0.15)
    assert torch.equal(shares.sum(dim=0), torch.ones(100_000))
    assert set(shares.flatten().tolist()) == {0.0, 0.5, 1.0}
    both = float((shares[0] == 0.5).double().mean())
    assert both == pytest.approx(0.85**2, abs=5 * (0.85**2 * (1 - 0.85**2) / 1e5) ** 0.5)
    assert float((shares[0] == 1).double().mean()) == pytest.approx((1 - 0.85**2) / 2, abs=0.006)


def test_half_of_a_batch_goes_through_one_column_an_image() -> None:
    torch.manual_seed(0)
    ways = [draw(128, columns=3, drop_path=0.15, global_share=0.5, drawn_per="sample") for _ in range(200)]
    assert all(way.shared == sum(way.alone) == 64 for way in ways)
    assert len({way.alone for way in ways}) > 50
    totals = [sum(way.alone[column] for way in ways) for column in range(3)]
    assert all(abs(total - 12_800 / 3) < 270 for total in totals)  # 5 standard deviations
    odd = draw(5, columns=3, drop_path=0.15, global_share=0.5, drawn_per="sample")
    assert (odd.shared, sum(odd.alone)) == (3, 2)


def test_half_of_the_batches_go_through_one_column_where_drawn_per_batch() -> None:
    torch.manual_seed(0)
    ways = [draw(8, columns=3, drop_path=0.15, global_share=0.5, drawn_per="batch") for _ in range(2000)]
    assert all(sorted((way.shared, *way.alone)) == [0, 0, 0, 8] for way in ways)
    assert abs(sum(way.shared == 8 for way in ways) - 1000) < 112  # 5 standard deviations
    for column in range(3):
        assert abs(sum(way.alone[column] == 8 for way in ways) - 333) < 84


def test_an_image_drawn_globally_sees_one_column_through_all_blocks_and_another_sees_them_all() -> None:
    network, images = still(ready(drop_path=0.0)), noise(12)
    torch.manual_seed(3)
    way = draw(12, columns=3, drop_path=0.0, global_share=0.5, drawn_per="sample")
    assert way.shared == 6
    assert all(way.alone)  # each column has an image, or this shows little
    torch.manual_seed(3)
    with torch.no_grad():
        got = network(images).split((way.shared, *way.alone))
        network.eval()
        torch.testing.assert_close(got[0], network(images[:6]))
        for column, (part, own) in enumerate(zip(images.split((6, *way.alone))[1:], got[1:], strict=True), start=1):
            network.column = column
            torch.testing.assert_close(own, network(part))


@pytest.mark.parametrize("drawn_per", ["sample", "batch"])
def test_a_join_in_training_is_the_mean_of_the_inputs_it_kept(drawn_per: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    block, z, drawn = ready().block2.eval(), torch.randn(6, 4, 8, 8), []

    def remember(inputs: int, count: int, drop_path: float) -> Tensor:
        drawn.append(draw_shares(inputs, count, drop_path))
        return drawn[-1]

    monkeypatch.setattr(drawing, "draw_shares", remember)
    torch.manual_seed(0)
    with torch.no_grad():
        got = block(z, Paths(6, (0, 0, 0), 0.5, drawn_per))
        coming = iter(list(drawn))

        def join(ends: list[Tensor]) -> Tensor:
            if len(ends) == 1:
                return ends[0]
            shares = next(coming).flip(0) if len(ends) > 1 else None  # the block's are the shallowest first
            return torch.einsum("kn,knchw->nchw", shares.expand(-1, 6), torch.stack(ends))

        ends = by_the_rule(block, z, join)
        torch.testing.assert_close(got, join([F.max_pool2d(end, 2) for end in ends]))
    assert len(drawn) == 2
    assert any((shares == 0).any() for shares in drawn)
    assert {shares.shape[1] for shares in drawn} == {6 if drawn_per == "sample" else 1}


def test_only_the_drawn_columns_convolutions_are_computed() -> None:
    network, ran = ready(column=2), set()
    for name, part in network.named_modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(lambda *_, name=name: ran.add(name))
    network(noise(2))
    assert ran == {f"block{block}.column2.{position}.conv" for block in (1, 2) for position in (0, 1)}


def test_no_path_is_dropped_in_evaluation() -> None:
    network = ready(drop_path=0.9, global_share=1.0, drop_rates=[0.5, 0.5]).eval()
    images = noise(2)
    with torch.no_grad():
        x = images
        for name in ("block1", "block2"):
            x = mean([F.max_pool2d(end, 2) for end in by_the_rule(network.get_submodule(name), x, mean)])
        torch.testing.assert_close(network(images), network.fc(x.mean(dim=(2, 3))))


def test_every_draw_is_decided_by_torchs_seed() -> None:
    network, images = still(ready(drop_path=0.5, drop_rates=[0.2, 0.2])), noise(16)

    def logits(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return network(images).detach()

    assert torch.equal(logits(1), logits(1))
    assert not torch.equal(logits(1), logits(2))


# ---- One column ----


@pytest.mark.parametrize("column", [1, 2, 3])
def test_a_column_alone_is_the_chain_of_its_convolutions(column: int) -> None:
    network, images = ready(), noise(2)
    chain = [
        layer
        for block in ("block1", "block2")
        for layer in (network.get_submodule(f"{block}.column{column}"), nn.MaxPool2d(2))
    ]
    expected = nn.Sequential(*chain, nn.AdaptiveAvgPool2d(1), nn.Flatten(), network.fc).eval()
    network.column = column
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(images), expected(images))


def labelled(count: int, side: int = 8) -> ImageSet:
    pixels = torch.randint(256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return ImageSet("noise", "test", ("a", "b"), torch.arange(count) % 2, pixels)


def test_scoring_a_column_says_so_and_leaves_the_network_as_it_was() -> None:
    network, images = zoo.create("fractalnet20_narrow", num_classes=2), labelled(8, 32)
    preprocess = MODELS["fractalnet20_narrow"].preprocess
    reports = {c: zoo.evaluate(network, images, column=c) for c in (None, 1, 2, 3)}
    assert [report.model for report in reports.values()] == [
        "fractalnet20_narrow",
        *(f"fractalnet20_narrow, column {column}" for column in (1, 2, 3)),
    ]
    assert len({report.loss for report in reports.values()}) == 4
    assert reports[None].loss == evaluate_whole(network, images, preprocess=preprocess).loss
    assert (network.column, network.training) == (None, True)
    network.column = 3
    assert zoo.evaluate(network, images).loss == reports[3].loss
    assert zoo.evaluate(network, images, column=1).loss == reports[1].loss
    assert network.column == 3


def test_a_column_of_the_trained_network_is_asked_for_by_an_argument() -> None:
    whole: Any = zoo.create("fractalnet20_narrow.c10").eval()
    deepest = zoo.create("fractalnet20_narrow.c10", column=3).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        logits = whole(images)
        whole.column = 3
        torch.testing.assert_close(deepest(images), whole(images))
    assert not torch.allclose(deepest(images), logits, atol=0.1)


@pytest.mark.parametrize("column", [0, 4, -1, "deepest"])
def test_a_column_that_there_is_not_is_refused(column: Any) -> None:
    network = FractalNet(**TINY)
    with pytest.raises(SpecError, match=r"1 \(the shallowest\) to 3"):
        network.column = column
    with pytest.raises(SpecError, match="is not one of 1"):
        evaluate(network, labelled(2), preprocess=MODELS["fractalnet20"].preprocess, column=column)
    assert network.column is None


# ---- Training ----


def test_the_rate_is_divided_whenever_the_epochs_left_halve() -> None:
    recipe = training.choose(plugin, "fractalnet20", "cifar10", "paper_c10")
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    rates = optimization.Schedule(optimizer, recipe, 1)
    got = [rates.set(epoch) for epoch in range(400)]
    expected, rate, since = [], 0.02, 400
    for epoch in range(400):
        if epoch and 400 - epoch <= since / 2 and len(set(expected)) < 5:
            rate, since = rate / 10, 400 - epoch
        expected.append(rate)
    assert got == pytest.approx(expected)


def test_plus_plus_is_reflected_pixels_not_cutout() -> None:
    plus, plus_plus = (
        training.choose(plugin, "fractalnet20", "cifar10", f"paper_c10{end}") for end in ("", "_reflect")
    )
    assert (plus.augment.padding, plus_plus.augment.padding) == ("zero", "reflect")
    assert plus.augment.pad_crop == plus_plus.augment.pad_crop == 4
    assert plus_plus.augment.cutout == 0


def test_weights_begin_with_variance_one_over_fan_in() -> None:
    weight = FractalNet(widths=[64, 128]).block2.column3[1].conv.weight
    assert weight.var().item() == pytest.approx(1 / (9 * 128), rel=0.02)
    assert weight.abs().max().item() <= (3 / (9 * 128)) ** 0.5


# ---- The interface ----


@pytest.mark.parametrize(
    ("args", "got"),
    [
        ({"columns": 0}, "columns = 0"),
        ({"widths": []}, r"widths = \[\]"),
        ({"drop_rates": [0.1]}, r"drop_rates = \[0.1\]"),
        ({"drop_path": 1.5}, "drop_path = 1.5"),
        ({"global_share": -0.5}, "global_share = -0.5"),
        ({"drawn_per": "image"}, "drawn_per = 'image'"),
        ({"pool_order": "first"}, "pool_order = 'first'"),
        ({"stem": "cifar"}, "stem = 'cifar'"),
        ({"column": 4}, "column = 4"),
    ],
)
def test_an_argument_outside_the_rule_is_refused_by_name(args: dict[str, Any], got: str) -> None:
    with pytest.raises(SpecError, match=got):
        FractalNet(**args)

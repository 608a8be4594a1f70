"""The blocks of networks, compared with the tables of papers and with the networks' own sizes."""

import pytest

import zoo
from zoo import registry
from zoo.spec import Preprocess
from zoo_gallery import outline
from zoo_gallery.outline import Block, Outline


def outlined(name: str) -> Outline:
    return outline.of_model(registry.current().find(name).model)


def test_stages_of_a_residual_network_are_those_of_the_paper() -> None:
    """He et al. 2015, section 4.2: 2n layers each on maps of 32, 16 and 8 pixels with 16, 32 and 64 filters, n = 3."""
    blocks = {block.name: block for block in outlined("resnet20").blocks}
    stages = [blocks[f"layer{number}"] for number in (1, 2, 3)]
    assert [(block.count, block.shape) for block in stages] == [(3, (16, 32, 32)), (3, (32, 16, 16)), (3, (64, 8, 8))]
    assert blocks["fc"].shape == (10,)


def test_layers_of_vgg_are_those_of_the_paper() -> None:
    """Simonyan and Zisserman 2014, table 1, column D: 13 convolutions in five groups, each followed by a pool."""
    shapes = [block.shape for block in outlined("vgg16").blocks if block.kind == "Conv2d"]
    expected = [(64, 224)] * 2 + [(128, 112)] * 2 + [(256, 56)] * 3 + [(512, 28)] * 3 + [(512, 14)] * 3
    assert shapes == [(channels, side, side) for channels, side in expected]


@pytest.mark.parametrize("name", ["resnet20", "googlenet", "densenet_40_12", "alexnet_small", "dtp_mlp", "kmeans_svm"])
def test_blocks_account_for_almost_all_parameters(name: str) -> None:
    """Only single layers of normalisation are not shown."""
    total = sum(parameter.numel() for parameter in zoo.create(name).parameters())
    shown = sum(block.params for block in outlined(name).blocks)
    assert 0.99 * total <= shown <= total


def test_blocks_come_in_the_order_in_which_they_run() -> None:
    """The 1980 network: S-cells, then C-cells, three times (Fukushima 1980, figure 2)."""
    kinds = [block.kind for block in outlined("neocognitron_1980").blocks]
    assert [kind for kind in kinds if kind in ("SCells", "CCells")] == ["SCells", "CCells"] * 3


def test_a_network_that_fails_has_a_reason_instead_of_blocks() -> None:
    model = zoo.Model("missing", build="no_such_module:build", preprocess=Preprocess(input_size=(3, 8, 8)))
    found = outline.of_model(model)
    assert found.blocks == ()
    assert "no_such_module" in found.reason


def test_many_blocks_share_a_box_for_each_size_of_maps() -> None:
    blocks = [Block(str(number), "Conv2d", 1, (8, 32 >> number // 10, 32 >> number // 10), 1) for number in range(30)]
    assert [len(box.blocks) for box in outline.boxes(blocks)] == [10, 10, 10]
    assert len(outline.boxes(blocks[:14])) == 14

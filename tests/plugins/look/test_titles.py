"""What figures call channels: by the names of their classes if these have any, and in a form that shows them."""

from pathlib import Path

import pytest
import torch

import zoo
import zoo_look as look
from zoo.data import ImageSet

pytest.importorskip("matplotlib", reason="needs zoo-vision[look]")

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def test_classes_are_maximised_all_ten_and_by_name(tmp_path: Path) -> None:
    found = look.maximize("resnet20.c10", steps=0)
    assert found.titles == CIFAR10
    assert [row["title"] for row in found.facts()["channels"]] == list(CIFAR10)
    texts = [axis.get_title() for axis in found.figure().axes]
    assert texts[:10] == list(CIFAR10)


def test_channels_of_an_inner_layer_and_classes_without_names_have_numbers() -> None:
    assert look.maximize("resnet20.c10", "layer1", [3, 5], steps=0).titles == ("3", "5")
    assert look.maximize(zoo.create("resnet20"), steps=0).titles[:2] == ("0", "1")


def test_a_vector_is_drawn_as_bars_not_as_maps_of_one_pixel() -> None:
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    result = look.features("resnet20.c10", image, "fc")
    _, bars = result.figure().axes
    assert len(bars.patches) == 10
    named = [label.get_text() for label in bars.get_yticklabels()]
    assert named[0] == CIFAR10[int(result.maps.flatten().argmax())]
    assert [bar.get_width() for bar in bars.patches] == sorted(result.maps.flatten().tolist(), reverse=True)


def test_simple_cells_of_several_sizes_and_orientations_can_be_seen() -> None:
    image = torch.rand(1, 140, 140, generator=torch.Generator().manual_seed(0))
    model = zoo.create("hmax").eval()
    result = look.features(model, image, "s1.0")
    with torch.no_grad():
        cells = model.get_submodule("s1.0")(image[None])[0]  # sizes, orientations, H, W
    assert result.maps.shape == (8, 140, 140)
    torch.testing.assert_close(result.maps[5], cells[1, 1])


def test_a_part_that_changes_nothing_is_no_column_of_its_own() -> None:
    """AlexNet's average pool, at the size that it was trained at."""
    pixels = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = ImageSet("noise", "test", ("only",), torch.zeros(8, dtype=torch.int64), pixels=pixels)
    result = look.representations("alexnet_small.c10", "alexnet_small.c10", images)
    assert result.layers == (("features",), ("features",))
    both = look.representations("alexnet_small.c10", "alexnet_small.c10", images, layers_of=["features", "avgpool"])
    assert both.layers[0] == ("features", "avgpool"), "asked for, they are shown"


@pytest.mark.slow
def test_an_image_made_at_the_defaults_is_smooth_and_still_what_the_network_is_sure_of() -> None:
    """Neighbouring pixels of noise do not correlate; those of photographs do, at 0.9 and more."""
    result = look.maximize("airbench94.c10", channels=[0, 3, 8])
    centred = (result.images - result.images.mean((2, 3), keepdim=True)).double()
    upper, lower = centred[:, :, 1:], centred[:, :, :-1]
    correlation = (upper * lower).sum() / (upper.square().sum() * lower.square().sum()).sqrt()
    assert correlation > 0.8
    with torch.no_grad():
        logits = zoo.create("airbench94.c10").eval()(result.inputs)
    assert logits.argmax(dim=1).tolist() == [0, 3, 8]

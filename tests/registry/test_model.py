"""``@zoo.model``: the networks of a notebook, by name."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

import zoo
from zoo import registry
from zoo.errors import PluginError, SpecError, UnknownNameError


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    yield
    if registry.current().plugins[-1].name == "here":
        registry.unregister("here")


def test_a_class_is_a_model_with_two_lines() -> None:
    @zoo.model
    class MyNet(nn.Module):
        def __init__(self, num_classes: int = 10, in_chans: int = 1, width: int = 4) -> None:
            super().__init__()
            self.fc = nn.Linear(in_chans * 224 * 224 * width // width, num_classes)
            self.width = width

        def forward(self, x: Tensor) -> Any:
            return self.fc(x.flatten(1))

    assert isinstance(MyNet(3), MyNet)
    assert zoo.list_models("mynet") == zoo.list_models("*", family="here") == ["mynet"]
    model = zoo.create("mynet", num_classes=3, width=2)
    assert (type(model), model.num_classes, model.width, model.fc.out_features) == (MyNet, 3, 2, 3)
    about = zoo.info("mynet")
    assert (about["num_classes"], list(about["preprocess"]["input_size"])) == (10, [1, 224, 224])
    with pytest.raises(UnknownNameError, match="mynet has no argument 'depth'"):
        zoo.create("mynet", depth=2)


def test_a_function_without_arguments_makes_a_network_of_one_size() -> None:
    @zoo.model("tiny", input_size=(1, 8, 8), num_classes=10)
    def build() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    assert zoo.create("tiny").num_classes == 10
    with pytest.raises(SpecError, match=r"tiny has num_classes = 10; 3 was asked for.\nGive .*build an argument num_"):
        zoo.create("tiny", num_classes=3)


def test_a_cell_that_is_run_again_replaces_its_model_and_leaves_others() -> None:
    zoo.model("other")(lambda num_classes, in_chans: nn.Linear(1, 1))
    for width in (2, 3):
        zoo.model("again")(lambda width=width: nn.Linear(width, 1000))
    assert zoo.create("again").in_features == 3
    assert zoo.list_models("*", family="here") == ["again", "other"]


def test_a_name_of_another_plugin_is_refused() -> None:
    with pytest.raises(PluginError, match=r"already a model 'resnet20', of the plugin 'resnet'.\n.*\"my_resnet20\""):
        zoo.model("resnet20")(nn.Linear)


@pytest.mark.first(1)
@pytest.mark.parametrize("data", ["digits", "own"])
def test_it_is_trained_without_recipes_by_one_that_is_printed(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    @zoo.model("small", input_size=(1, 8, 8))
    def small(num_classes: int = 10, in_chans: int = 1) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64 * in_chans, 64), nn.ReLU(), nn.Linear(64, num_classes))

    digits = zoo.data.load("digits")
    images: Any = (
        digits if data == "digits" else zoo.data.ImageSet("own", "train", digits.classes, digits.labels, digits.pixels)
    )
    model = zoo.train("small", images, output=tmp_path / "run", device="cpu")
    assert "recipe own_images (adamw, lr 0.001, cosine): 30 epochs" in capsys.readouterr().err
    assert zoo.evaluate(model, "digits").top1 > 85
    assert zoo.evaluate("small", "digits", weights=tmp_path / "run" / "model.safetensors").top1 > 85


def test_a_build_hook_that_returns_nothing_is_named() -> None:
    zoo.model("nothing")(lambda: None)
    with pytest.raises(
        PluginError, match=r"registry\.session:build_nothing returned NoneType, expected the network of nothing"
    ):
        zoo.create("nothing")


def test_a_class_in_place_of_an_address_says_what_to_write() -> None:
    hint = r'build = <class .*\nName it by a string, "torch\.nn\.modules\.linear:Linear"; or write @zoo\.model above it'
    with pytest.raises(SpecError, match=hint):
        zoo.Model("net", build=nn.Linear)  # type: ignore[arg-type]
    with pytest.raises(PluginError, match=r"@zoo\.model above a class"):
        zoo.register(nn.Linear)  # type: ignore[arg-type]

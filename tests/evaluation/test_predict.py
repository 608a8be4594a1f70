"""zoo.predict: classes and probabilities, as ``zoo predict`` shows them."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import zoo
from zoo.cli import cli
from zoo.errors import DataError, SpecError, WeightsError

NAME = "resnet20.digits"
DIGITS = zoo.data.load("digits", "test")


def test_probabilities_are_the_softmax_of_the_logits_and_the_likeliest_comes_first() -> None:
    model = zoo.create(NAME)
    pixels = DIGITS.pixels
    assert pixels is not None
    mean, std = model.zoo_info.preprocess.mean[0], model.zoo_info.preprocess.std[0]
    with torch.inference_mode():
        expected = model.eval()((pixels[:5] / 255 - mean) / std).softmax(dim=1)
    found = zoo.predict(model, [DIGITS.image(i) for i in range(5)], topk=10)
    assert [len(ranked) for ranked in found] == [10] * 5
    for ranked, probabilities in zip(found, expected, strict=True):
        assert [one.index for one in ranked] == probabilities.argsort(descending=True).tolist()
        assert [one.class_name for one in ranked] == [str(one.index) for one in ranked]
        torch.testing.assert_close(torch.tensor([one.probability for one in ranked]), probabilities.sort(0, True)[0])


def test_it_says_what_the_command_says(tmp_path: Path) -> None:
    file = tmp_path / "digit.png"
    DIGITS.image(3).save(file)
    answer = CliRunner().invoke(cli, ["predict", NAME, str(file), "-k", "2", "--json"])
    (shown,) = json.loads(answer.stdout)["predictions"]
    (ranked,) = zoo.predict(NAME, file, topk=2)
    assert shown["classes"] == [
        {"class": one.class_name, "index": one.index, "probability": one.probability} for one in ranked
    ]
    assert zoo.predict(NAME, str(file), 2) == zoo.predict(NAME, [DIGITS.image(3)], 2) == [ranked]


def test_the_networks_modes_come_back() -> None:
    model = zoo.create(NAME)
    model.get_submodule("layer1").eval()
    zoo.predict(model, DIGITS.image(0))
    assert model.training
    assert not model.get_submodule("layer1").training


def test_more_classes_than_there_are_is_all_of_them_and_none_is_an_error() -> None:
    assert len(zoo.predict(NAME, DIGITS.image(0), topk=99)[0]) == 10
    with pytest.raises(SpecError, match="topk = 0 is invalid: expected at least 1"):
        zoo.predict(NAME, DIGITS.image(0), topk=0)


def test_classes_that_nobody_names_are_numbered(caplog: pytest.LogCaptureFixture) -> None:
    model = zoo.create("resnet20", num_classes=3, in_chans=1)
    (ranked,) = zoo.predict(model, DIGITS.image(0))
    assert sorted(one.class_name for one in ranked) == ["class 0", "class 1", "class 2"]
    model.zoo_info = model.zoo_info._replace(classes="letters")
    zoo.predict(model, DIGITS.image(0))
    assert caplog.messages[-1].startswith("Classes are shown by number: Unknown data set 'letters'")


def test_what_is_no_image_no_classifier_or_no_number_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("none")
    with pytest.raises(DataError, match=r"text\.png: not an image"):
        zoo.predict(NAME, tmp_path / "text.png")
    with pytest.raises(WeightsError, match="has no classes"):
        zoo.predict(zoo.create("resnet20", num_classes=0), DIGITS.image(0))
    model = zoo.create(NAME)
    torch.nn.init.constant_(model.get_parameter("fc.bias"), torch.nan)
    with pytest.raises(WeightsError, match="an image: the network's outputs contain NaN or infinity"):
        zoo.predict(model, DIGITS.image(0))


def test_many_images_are_each_classified_as_alone_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    digits = zoo.data.load("digits", "test")
    files = [tmp_path / f"{number}.png" for number in range(40)]
    for number, file in enumerate(files):
        digits.image(number).save(file)
    model = zoo.create("resnet20.digits")
    expected = [zoo.predict(model, file, topk=1)[0][0] for file in files]
    assert [ranked[0] for ranked in zoo.predict(model, files, topk=1)] == expected
    files[20].write_bytes(b"no image")
    done = CliRunner().invoke(cli, ["predict", NAME, *map(str, files), "--top", "1", "--json"])
    rows = json.loads(done.stdout)["predictions"]
    assert done.exit_code == 1
    found = {row["image"]: row["classes"][0]["index"] for row in rows if "classes" in row}
    assert found == {str(file): expected[i].index for i, file in enumerate(files) if i != 20}
    assert [row["image"] for row in rows if "error" in row] == [str(files[20])]

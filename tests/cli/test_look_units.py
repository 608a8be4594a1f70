"""``zoo look deconv | maximize | patches | attribute`` from the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from zoo_look.cli import look

DIGIT = str(Path(__file__).parents[2] / "examples" / "digit.png")


def run(*words: str) -> Result:
    return CliRunner().invoke(look, [*words], prog_name="zoo look")


def answer(*words: str) -> Any:
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.slow
def test_deconv_keeps_the_strongest_units_in_every_form(tmp_path: Path) -> None:
    files = [str(tmp_path / f"units.{kind}") for kind in ("png", "svg", "json", "safetensors")]
    outputs = [word for file in files for word in ("-o", file)]
    found = answer("deconv", "resnet20.digits", "--layer", "layer1", "--limit", "30", "--units", "2", *outputs)
    assert found["files"] == files
    assert len(found["channels"]) == 2
    assert len(found["channels"][0]["strongest"]) == 9
    assert json.loads(Path(files[2]).read_text())["layer"] == "layer1"


def test_deconv_projects_one_image_from_a_file_or_a_data_set() -> None:
    of_file = answer("deconv", "resnet20.digits", "--layer", "layer1", "--channel", "3", "--image", DIGIT)
    of_set = answer("deconv", "resnet20.digits", "--layer", "layer1", "--channel", "3", "--index", "0")
    assert of_file["channel"] == of_set["channel"] == 3
    assert of_file["box"] != [0, 0, 0, 0]


def test_patches_and_maximize_name_channels() -> None:
    found = answer("patches", "resnet20.digits", "--channel", "1", "--channel", "4", "--limit", "20", "--count", "2")
    assert [row["channel"] for row in found["channels"]] == [1, 4]
    made = answer(
        "maximize", "resnet20.digits", "--layer", "layer1", "--channel", "1", "--steps", "2", "--unit", "3", "3"
    )
    assert made["position"] == [3, 3]
    assert [row["channel"] for row in answer("maximize", "resnet20.digits", "--steps", "0")["channels"]] == [*range(10)]
    for flag, is_mixed in (("--decorrelate", True), ("--no-decorrelate", False)):
        assert answer("maximize", "resnet20.digits", "--steps", "0", flag)["decorrelate"] is is_mixed


def test_attribute_says_what_the_method_is_worth() -> None:
    found = answer("attribute", "resnet20.digits", "--image", DIGIT, "--method", "guided_backprop", "--target", "3")
    assert "fails" in found["sanity check (Adebayo et al. 2018)"]
    assert found["images"][0]["target"] == 3
    done = run("attribute", "resnet20.digits", "--image", DIGIT)
    assert done.exit_code == 0
    assert "passes" in done.stdout


@pytest.mark.first(5)
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("deconv", "airbench94.c10", "--index", "0", "--data", "digits"), 1, "no ReLU, but GELU"),
        (("deconv", "resnet20.digits", "--layer", "layer9", "--limit", "5"), 2, "Unknown layer"),
        (("patches", "resnet20.digits", "--channel", "99", "--limit", "5"), 2, "no channel 99"),
        (("attribute", "resnet20.digits"), 2, "Give an image"),
        (("attribute", "resnet20.digits", "--index", "99999"), 2, "digits/test has 360 images"),
        (("attribute", "resnet20.digits", "--index", "0", "--method", "magic"), 2, "Unknown method"),
        (("attribute", "resnet20.digits", "--index", "0", "-o", "x.gif"), 1, "unknown file type, expected"),
        (("maximize", "resnet20.digits", "--steps", "1", "--blur", "-1"), 1, "must not be negative"),
        (("maximize", "resnet20.digits", "--steps", "1", "--rotate", "-1"), 2, "range"),
        (("maximize", "resnet20.digits", "--steps", "1", "--zoom", "1"), 2, "range"),
    ],
)
def test_wrong_questions_exit_with_a_reason(words: tuple[str, ...], code: int, said: str) -> None:
    done = run(*words)
    assert done.exit_code == code, done.output
    assert said in done.stderr

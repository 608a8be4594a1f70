"""The command in a run's record: typed by hand, it is the same training."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.command import ask_warm

import zoo
from zoo.training import by_name


@pytest.mark.parametrize(
    ("data", "arguments"),
    [
        ("digits", {}),
        ("caltech101:15:0", {"recipe": "paper_svm", "args": {"prototypes": 1000, "scale": 0.5, "deep": True}}),
        ("digits", {"args": {"kind": "1e3", "text": "two words", "sizes": [1, 2], "table": {"a b": "x=y", "c": -1.5}}}),
        ("digits", {"settings": {"epochs": 1, "lr": 1e-05, "augment.flip": False, "freeze": ["conv1", "bn1"]}}),
        ("digits", {"settings": {"schedule": "cosine", "note": 'it\'s "so"\n', "adversarial": {"attack": "pgd"}}}),
        ("hf:ylecun/mnist", {"init": "resnet20.digits", "teacher": "resnet56.c10", "device": "cpu"}),
    ],
)
def test_what_is_typed_is_what_was_asked(
    data: str, arguments: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line itself reads the command, up to the function that trains."""
    command = by_name.command_of("resnet8", data, output=tmp_path / "mine", **arguments)
    asked: dict[str, Any] = {}

    def note(name: str, data: str, **keywords: Any) -> None:
        asked.update(keywords, name=name, data=data)
        raise zoo.TrainingError("enough")

    monkeypatch.setattr(by_name, "train", note)
    program, *words = shlex.split(command)
    assert program == "zoo"
    ask_warm(*words)
    expected = {"recipe": None, "settings": {}, "args": {}, "init": None, "teacher": None, "device": None} | arguments
    read = {key: by_name.toml.read_value(value) for key, value in asked["settings"].items()}
    assert {key: asked[key] for key in expected} | {"settings": read} == expected
    assert (asked["name"], asked["data"], asked["output"]) == ("resnet8", data, Path("runs/mine"))


def test_no_folder_of_this_machine_is_in_it(tmp_path: Path) -> None:
    """Data and weights in files are under their own name, as a reader of the record has them somewhere else."""
    weights = tmp_path / "start.safetensors"
    command = by_name.command_of("resnet8", tmp_path / "photos", output=tmp_path / "mine", init=weights)
    assert command == "zoo train resnet8 --data photos --init start.safetensors -o runs/mine"
    assert by_name.command_of(None, f"{tmp_path}/photos", output="a/b", init=str(weights), device="cpu") == (
        "zoo train --data photos --init start.safetensors --device cpu -o runs/b"
    )


PROGRAM = """
import sys
import zoo

digits = zoo.data.load("digits").subset(range(64), "train")
data = "digits" if "by-name" in sys.argv else digits
zoo.train("resnet8", data, settings={"epochs": 1}, output=sys.argv[1], device="cpu")
"""


@pytest.mark.parametrize(
    ("more", "command"),
    [
        (["by-name"], "zoo train resnet8 --data digits --set epochs=1 --device cpu -o runs/run"),
        pytest.param([], "python train.py run", marks=pytest.mark.slow),
    ],
)
def test_a_program_that_trains_is_named_where_no_command_says_what_it_trains_on(
    more: list[str], command: str, tmp_path: Path
) -> None:
    """Images that are in memory only have no name to be typed."""
    (tmp_path / "train.py").write_text(PROGRAM, encoding="utf-8")
    subprocess.run([sys.executable, "train.py", "run", *more], cwd=tmp_path, check=True, capture_output=True)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["command"] == command

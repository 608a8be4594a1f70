"""The command in a run's record: typed by hand, it is the same training."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from support.command import ask_warm

import zoo
from zoo.loading import safetensors_file
from zoo.training import by_name, choice, reproduce
from zoo.training.recipe import Recipe


def type_it(command: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Returns what the command line asks :func:`zoo.train` for, which trains nothing."""
    asked: dict[str, Any] = {}

    def note(name: str, data: str, **keywords: Any) -> None:
        asked.update(keywords, name=name, data=data)
        raise zoo.TrainingError("enough")

    monkeypatch.setattr(by_name, "train", note)
    program, *words = shlex.split(command)
    assert program == "zoo"
    ask_warm(*words)
    return asked


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
    asked = type_it(command, monkeypatch)
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


EMBEDDED = {
    weights.name: (entry, weights)
    for entry in zoo.registry.current().models()
    for weights in entry.weights
    if weights.hub.startswith("embedded:")
}


def as_in_a_file(value: Any) -> Any:
    return json.loads(msgspec.json.encode(value))


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_shipped_network_has_a_command_with_the_recipe_and_arguments_of_its_record(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded or derived, the command is typed; what it would train with is what the published file says."""
    entry, weights = EMBEDDED[name]
    run = safetensors_file.metadata(zoo.fetch(name))["run"]
    facts = reproduce.training_of(weights)
    assert facts.get("command", "") == run["command"]
    assert ("derived command" in facts) != bool(run["command"])
    asked = type_it(facts.get("command") or facts["derived command"], monkeypatch)
    assert (asked["name"], asked["data"]) == (run["model"], run["data"]["train"]["name"])
    assert not any((asked["init"], asked["teacher"], run.get("init"), run.get("teacher")))
    assert {**as_in_a_file(entry.model.args), **asked["args"]} == run["args"]
    recipe = choice.choose(entry.row.plugin, asked["name"], asked["data"], asked["recipe"], asked["settings"])
    trained = as_in_a_file(recipe)
    assert {**trained, **run["recipe"], "note": ""} == {**trained, "note": ""}
    later = {field for field in trained if field not in run["recipe"]}
    assert all(trained[field] == as_in_a_file(Recipe())[field] for field in later), (
        "fields that are newer than the file"
    )


def test_a_derived_command_trains_the_same_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipe, settings and arguments come from the record alone: it is typed, and the tensors are equal."""
    monkeypatch.chdir(tmp_path)
    settings = {"epochs": 2, "lr": 0.03, "augment.flip": True, "seed": 5, "lookahead.every": 3}
    digits = zoo.data.load("digits").subset(range(128), "train")
    model = zoo.train("resnet8", digits, settings=settings, output="first", device="cpu", command="")
    about = safetensors_file.metadata(Path("first/model.safetensors"))
    assert about["run"]["command"] == ""
    command = reproduce.facts_of(about, "again", is_fitted=False)["derived command"]
    monkeypatch.setattr(by_name, "training_images", lambda _name: digits)
    ask_warm(*shlex.split(command)[1:], "--device", "cpu")
    again = zoo.create("runs/again")
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "command"),
    [
        ({}, "zoo train airbench94 --data cifar10 -o runs/mine"),
        ({"recipe": {"lr": 0.5}}, "zoo train airbench94 --data cifar10 --set lr=0.5 -o runs/mine"),
        ({"recipe": {"lookahead": None}}, ""),  # no text takes it away
        ({"recipe": {"augment": {}}}, "zoo train airbench94 --data cifar10 --set 'augment={  }' -o runs/mine"),
        ({"recipe": {"nonsense": 1}}, ""),
        ({"model": "nobody_has_it"}, ""),
        ({"data": {}}, ""),
        ({"args": {"widths": [1, 2, 3]}}, "zoo train airbench94 --data cifar10 --arg 'widths=[1, 2, 3]' -o runs/mine"),
        (
            {"init": {"weights": "/home/me/start.safetensors", "sha256": "0"}},
            "zoo train airbench94 --data cifar10 --init start.safetensors -o runs/mine",
        ),
    ],
)
def test_a_command_is_derived_only_if_it_gives_the_recipe(change: dict[str, Any], command: str) -> None:
    run = dict(safetensors_file.metadata(zoo.fetch("airbench94.c10"))["run"])
    for key, value in change.items():
        run[key] = {**run[key], **value} if key == "recipe" else value
    assert by_name.command_from(run, "mine") == command


def test_a_recipe_that_is_no_longer_there_is_told_field_by_field(monkeypatch: pytest.MonkeyPatch) -> None:
    run = dict(safetensors_file.metadata(zoo.fetch("resnet20.digits"))["run"])
    run["recipe"] = {**run["recipe"], "name": "renamed since"}
    asked = type_it(by_name.command_from(run, "mine"), monkeypatch)
    assert asked["recipe"] == "default"
    plugin = zoo.registry.current().find("resnet20").plugin
    recipe = as_in_a_file(choice.choose(plugin, "resnet20", "digits", "default", asked["settings"]))
    named = {"name": "", "note": ""}
    assert {**recipe, **run["recipe"], **named} == {**recipe, **named}

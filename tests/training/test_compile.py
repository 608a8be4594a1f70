"""Whether a training is compiled: decided by its length, recorded, and repeated."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import zoo
from zoo.spec import Model
from zoo.training import Recipe, choice, engine

MODEL = Model("one", build="one.model:build", macs=10**9)


@pytest.mark.parametrize(
    ("epochs", "device", "expected"),
    [(50, "cpu", True), (40, "cpu", False), (50, "cuda", False)],  # 6e9 x 1,000 images x 50 epochs are 0.3e15
)
def test_auto_compiles_long_trainings_on_a_processor(epochs: int, device: str, expected: bool) -> None:
    recipe = Recipe(epochs=epochs, batch_size=100, compile="auto")
    decided, reason = choice.decide(recipe, MODEL, 1000, device)
    assert decided.compile is expected
    assert reason.startswith(f"compile = auto: {'compiled' if expected else 'not compiled'}, as ")


def test_auto_does_not_compile_what_is_of_unknown_length() -> None:
    assert choice.decide(Recipe(compile="auto"), None, 1000, "cpu")[0].compile is False


@pytest.mark.parametrize("is_compiled", [True, False])
def test_a_decision_of_the_recipe_stays(is_compiled: bool) -> None:
    recipe = Recipe(epochs=50, compile=is_compiled)
    assert choice.decide(recipe, MODEL, 1000, "cpu") == (recipe, "")


def train(folder: Path, **options: Any) -> zoo.loading.Network:
    images = zoo.data.load("digits").subset(range(64), "train")
    settings = {"epochs": 1, "batch_size": 32, **options.pop("settings", {})}
    return zoo.train("resnet8", images, settings=settings, output=folder, device="cpu", **options)


def recorded(folder: Path) -> object:
    return json.loads((folder / "config.json").read_text())["recipe"]["compile"]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The networks that were compiled: by a compiler that leaves them as they are."""
    networks: list[nn.Module] = []
    monkeypatch.setattr(engine, "compiled", lambda network: networks.append(network) or network)
    return networks


def test_a_short_training_is_the_same_as_without_compiling(tmp_path: Path, compiled: list[nn.Module]) -> None:
    decided = train(tmp_path / "auto", settings={"compile": "auto"})
    plain = train(tmp_path / "plain", settings={"compile": False})
    assert not compiled
    assert recorded(tmp_path / "auto") is False
    for ours, theirs in zip(decided.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_decision_is_recorded_and_repeated(
    tmp_path: Path, compiled: list[nn.Module], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(choice, "LONG", 0)
        train(tmp_path / "run", settings={"compile": "auto"})
    assert len(compiled) == 1
    assert recorded(tmp_path / "run") is True
    assert "compile = auto: compiled, as" in capsys.readouterr().err
    assert zoo.training.record.of_run(zoo.training.Run(tmp_path / "run", resume=True)).recipe.compile is True
    train(tmp_path / "run", resume=True, settings={"epochs": 2})  # by itself, it is short
    assert len(compiled) == 2

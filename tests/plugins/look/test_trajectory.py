"""A training as it went, from the networks that it kept."""

import json
from pathlib import Path

import pytest
import torch
from support.command import ask_warm as ask
from torch import Tensor

import zoo
from zoo.errors import DataError
from zoo_look.kept_epochs import Trajectory

pytest.importorskip("timm", reason="needs zoo-vision[train]")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "mine"
    zoo.train("resnet8", "digits", settings={"epochs": 4}, keep_epochs=[0, 1, 2, 4], output=run, device="cpu")
    return run


def of(right: list[list[int]]) -> Trajectory:
    known = torch.tensor(right, dtype=torch.bool)
    epochs = tuple(range(len(known)))
    return Trajectory("t", known, torch.eye(len(known)).double(), torch.rand(len(known), 2, 3, 3, 3), epochs, "x", "y")


def test_what_is_learned_for_good_and_what_is_forgotten_is_counted() -> None:
    #       always   never   late   forgotten and learned again   forgotten for good
    rows = [
        [1, 0, 0, 1, 0],
        [1, 0, 0, 0, 1],
        [1, 0, 1, 1, 0],
    ]
    history = of(rows).history()
    assert history["top1"] == [40, 40, 60]
    assert history["learned"] == [20, 20, 60]
    assert history["new"] == [20, 0, 40]
    assert history["forgotten"] == [0, 20, 20]
    facts = of(rows).facts()
    assert (facts["never_forgotten"], facts["never_right"]) == (2, 1)


def test_each_epoch_is_scored_as_evaluate_scores_its_network(run: Path, tmp_path: Path) -> None:
    answer = ask("look", "trajectory", run, "--data", "digits", "-o", tmp_path / "t.json", "-o", tmp_path / "t.png")
    assert answer.exit_code == 0, answer.stderr
    facts = json.loads((tmp_path / "t.json").read_text())
    assert facts["epochs"] == [0, 1, 2, 4]
    scores = [zoo.evaluate(str(run / f"epochs/{epoch}.safetensors"), "digits").top1 for epoch in (0, 1, 2, 4)]
    assert facts["top1"] == pytest.approx(scores)
    assert facts["top1"][3] == pytest.approx(zoo.evaluate(str(run), "digits").top1)
    assert facts["learned"][3] == pytest.approx(facts["top1"][3])  # at the end, what is right
    assert (tmp_path / "t.png").stat().st_size > 10_000


def test_layers_are_compared_as_two_networks_are(run: Path) -> None:
    shown = zoo.look.trajectory(run, "digits", layer="layer2", limit=60)
    first, last = (str(run / f"epochs/{epoch}.safetensors") for epoch in (1, 4))
    between = zoo.look.representations(first, last, "digits", layers_of=["layer2"], limit=60)
    torch.testing.assert_close(shown.cka[1, 3], between.cka[0, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(shown.cka.diag(), torch.ones(4, dtype=torch.float64))
    stem: Tensor = zoo.create(last).state_dict()["conv1.weight"]
    assert torch.equal(shown.filters[3], stem)


def test_a_run_that_kept_no_networks_says_how_to_keep_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0 epochs") as caught:
        zoo.look.trajectory(tmp_path, "digits")
    assert "--keep-epochs" in caught.value.hint

"""``zoo choose`` ranks weights by a probe on their features, among those that are fast enough here."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support.command import ask_warm as ask

import zoo
from zoo.data import ImageSet
from zoo.errors import DataError, UnknownNameError
from zoo_transfer import choice

NAMES = ("resnet20.c10", "resnet20.digits", "plain20.c10")
WORDS = ("choose", "--data", "digits", "--limit", 200, "--device", "cpu", *(w for n in NAMES for w in ("--among", n)))


@pytest.fixture(scope="module")
def chosen() -> dict[str, Any]:
    answer = ask(*WORDS, "--json")
    assert answer.exit_code == 0, answer.stderr
    return json.loads(answer.stdout)


def test_weights_trained_on_these_images_win_and_their_training_is_printed(chosen: dict[str, Any]) -> None:
    assert {row["name"] for row in chosen["candidates"]} == {*NAMES}
    assert chosen["candidates"][0]["name"] == "resnet20.digits"
    assert chosen["command"] == "zoo train --init resnet20.digits --data digits -o runs/digits"
    scores = [row["top1"] for row in chosen["candidates"]]
    assert scores == sorted(scores, reverse=True)
    assert ask(*WORDS).stdout.splitlines()[-1] == chosen["command"]


def test_the_score_is_that_of_scikit_learns_probe_with_wilsons_interval(chosen: dict[str, Any]) -> None:
    images = zoo.data.load("digits")
    _, sample = zoo.data.image_set.stratified_split(images.labels, 200, "choose weights")
    found = zoo.features("resnet20.c10", images.subset(sample, "train"), device="cpu")
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    shares = cross_val_score(probe, found.features.numpy(), found.labels.numpy(), cv=folds)
    [row] = [row for row in chosen["candidates"] if row["name"] == "resnet20.c10"]
    assert row["n"] == 200
    assert row["top1"] == pytest.approx(100 * shares.mean(), abs=0.51)  # batches of another size round otherwise
    bounds = binomtest(row["correct"], row["n"]).proportion_ci(method="wilson")
    assert row["interval"] == pytest.approx([100 * bounds.low, 100 * bounds.high])


def test_weights_that_see_little_of_photographs_come_with_a_pointer_to_imagenet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "at_hand", lambda patterns: ["resnet20.digits"])
    for side, is_told in ((8, False), (64, True)):
        folder = tmp_path / f"of_{side}"
        for number in range(8):
            (folder / str(number % 2)).mkdir(parents=True, exist_ok=True)
            Image.new("L", (side + number, side), 30 * number).save(folder / str(number % 2) / f"{number}.png")
        answer = ask("choose", "--data", folder)
        assert answer.exit_code == 0, answer.stderr
        assert (f"choose --data {folder} --among" in answer.stderr) is is_told


def test_what_is_slower_than_the_budget_is_not_probed() -> None:
    answer = ask(*WORDS, "--budget", "0.001ms", "--json")
    report = json.loads(answer.stdout)
    assert report["budget_ms"] == 0.001
    assert report["command"] == ""
    assert all(row["top1"] is None and row["latency_ms"] > 0.001 for row in report["candidates"])
    answer = ask(*WORDS, "--budget", "0.001ms")
    assert answer.exit_code == 1
    assert "raise --budget" in answer.stderr
    assert ask(*WORDS, "--budget", "20").exit_code == 2, "of what?"


def test_candidates_are_what_needs_no_network_and_can_be_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    names = choice.at_hand()
    assert {*NAMES} <= {*names}
    offline = {row["name"] for row in json.loads(ask("list", "--offline", "--json").stdout)}
    assert {*names} <= offline
    assert "hog_svm.c10" in offline - {*names}, "it is fitted"
    assert choice.at_hand(["resnet20.c10*"]) == ["resnet20.c10", "resnet20.c10_e30", "resnet20.c10_e8"]
    with pytest.raises(UnknownNameError):
        choice.at_hand(["resnt20.c10"])


def test_weights_that_cannot_be_used_say_why_and_the_others_are_ranked() -> None:
    pixels = torch.randint(256, (8, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = ImageSet("noise", "train", ("a", "b"), torch.arange(8) % 2, pixels)
    rows = choice.choose(images, ["resnet20.digits", "resnet20.c10"]).candidates
    assert [row.name for row in rows] == ["resnet20.c10", "resnet20.digits"]
    assert "grey" in rows[1].reason
    one = ImageSet("noise", "train", ("a", "b"), torch.tensor([0] * 7 + [1]), pixels)
    with pytest.raises(DataError, match="too few to probe"):
        choice.choose(one, ["resnet20.c10"])

"""Which classes a network confuses."""

import json
from pathlib import Path

import pytest
import torch
from support.command import printed
from torch import Tensor, nn

import zoo
import zoo_look as look
from zoo import data as datasets
from zoo.errors import DataError, PluginError

pytest.importorskip("sklearn", reason="needs scikit-learn")


def always(number: int) -> nn.Module:
    """Returns a network of digits that answers ``number`` to every image."""
    network = zoo.create("resnet20.digits")
    head = network.get_classifier()
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
        head.bias[number] = 1
    return network


def test_a_network_that_always_answers_seven_confuses_all_other_digits_with_it() -> None:
    digits = datasets.load("digits", "test")
    result = look.confusion(always(7), limit=360)
    expected: Tensor = torch.zeros(10, 10, dtype=torch.int64)
    expected[:, 7] = torch.bincount(digits.labels, minlength=10)
    assert result.counts.equal(expected)
    assert {pair.predicted for pair in result.pairs} == {"7"}
    assert [pair.images for pair in result.pairs] == sorted((pair.n for pair in result.pairs), reverse=True)
    assert len(result.pairs) == 9
    assert result.data == "digits/test"
    assert result.fingerprint == digits.fingerprint


@pytest.mark.slow
def test_the_diagonal_counts_what_is_right() -> None:
    try:
        cifar = datasets.load("cifar10", "test").subset(range(100), "test")
    except DataError as error:
        pytest.skip(str(error))
    report = zoo.evaluate("hog_svm.c10", cifar)
    facts = look.confusion("hog_svm.c10", cifar).facts()
    assert (facts["correct"], facts["n"]) == (report.correct, report.n)
    assert facts["weights"] == "hog_svm.c10"
    assert facts["classes"] == list(cifar.classes)


def test_it_is_drawn_and_says_which_pairs_are_confused(tmp_path: Path) -> None:
    file = tmp_path / "confusion.svg"
    done = printed("look", "confusion", "resnet20.digits", "--limit", "360", "-o", file)
    assert "no classes" in done, "its published score is 100%"
    assert "predicted" in file.read_text(encoding="utf-8")
    look.confusion(always(7), limit=20).save(tmp_path / "seven.json")
    assert json.loads((tmp_path / "seven.json").read_bytes())["counts"][1][7] > 0


def test_a_hook_that_returns_only_scores_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.evaluation.hook.answers", lambda *_, **__: None)
    with pytest.raises(PluginError, match="which scores resnet20, returns only scores"):
        look.confusion("resnet20.digits", limit=10)

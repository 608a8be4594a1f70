"""Calibration: errors by hand, temperatures by scipy, intervals that cover."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from support import outputs
from support.command import ask_warm as answer
from support.outputs import sample
from torch.nn import functional as F

import zoo
from zoo.errors import DataError
from zoo.evaluation.calibration import calibrate, calibration_error, fit_temperature, images_held_out
from zoo.loading import safetensors_file


def test_the_error_is_the_one_that_the_paper_defines() -> None:
    """Three images with confidence 0.9 of which two are right, one with 0.6 that is wrong, by hand."""
    confidence = torch.tensor([0.9, 0.9, 0.9, 0.6]).double()
    logits = torch.stack([confidence.log(), (1 - confidence).log()], dim=1)
    labels = torch.tensor([0, 0, 1, 1])
    assert calibration_error(logits, labels) == pytest.approx(3 / 4 * (0.9 - 2 / 3) + 1 / 4 * 0.6)
    # In one bin, the differences of opposite sign cancel out: accuracy 0.5, mean confidence 0.825.
    assert calibration_error(logits, labels, bins=1) == pytest.approx(0.325)


def test_the_error_of_many_images_is_that_of_a_plain_loop() -> None:
    logits, labels = sample(3000, 1.7)
    probabilities = logits.double().softmax(1).numpy()
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels.numpy()
    expected = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert calibration_error(logits, labels) == pytest.approx(expected)


@pytest.mark.parametrize("true", [0.3, 1.0, 2.5])
def test_the_temperature_is_the_one_that_scipy_finds_and_near_the_true_one(true: float) -> None:
    logits, labels = sample(4000, true)
    loss = lambda log: float(F.cross_entropy(logits.double() / np.exp(log), labels))  # noqa: E731
    expected = np.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-9}).x)
    assert fit_temperature(logits, labels) == pytest.approx(expected, rel=1e-5)
    assert fit_temperature(logits, labels) == pytest.approx(true, rel=0.1)


def test_a_network_that_is_never_wrong_has_no_temperature() -> None:
    with pytest.raises(DataError, match="3 of them correct, is not least at any temperature"):
        fit_temperature(4 * torch.eye(3), torch.arange(3))
    with pytest.raises(DataError, match="0 of them correct"):
        fit_temperature(4 * torch.eye(2), torch.tensor([1, 0]))


def test_an_overconfident_network_is_calibrated_and_none_of_its_answers_changes() -> None:
    found = calibrate(sample(2000, 3.0, seed=1), sample(2000, 3.0, seed=2))
    measures = {measure.name: measure for measure in found.measures}
    assert set(measures) == {"nll", "ece", "brier"}
    for measure in measures.values():
        assert measure.change_interval[1] < 0, f"{measure.name} becomes less, beyond chance"
        assert measure.before_interval[0] < measure.before < measure.before_interval[1]
        assert measure.change == pytest.approx(measure.after - measure.before)
    assert measures["ece"].after < 0.03 < 0.1 < measures["ece"].before
    logits, labels = sample(2000, 3.0, seed=2)
    assert found.correct == int((logits.argmax(1) == labels).sum())
    assert measures["nll"].before == pytest.approx(F.cross_entropy(logits.double(), labels).item())
    assert found == calibrate(sample(2000, 3.0, seed=1), sample(2000, 3.0, seed=2)), "the bootstrap has a seed"


def test_a_calibrated_network_stays_as_it_is() -> None:
    found = calibrate(sample(2000, 1.0, seed=1), sample(2000, 1.0, seed=2))
    (nll,) = [measure for measure in found.measures if measure.name == "nll"]
    assert nll.change_interval[0] < 0.001
    assert abs(nll.change) < 0.002


def test_the_interval_of_a_mean_is_as_wide_as_its_standard_error_says() -> None:
    logits, labels = sample(1000, 1.5, seed=4)
    (nll,) = [one for one in calibrate((logits, labels), (logits, labels)).measures if one.name == "nll"]
    each = F.cross_entropy(logits.double(), labels, reduction="none")
    expected = 2 * 1.96 * float(each.std()) / 1000**0.5
    assert nll.before_interval[1] - nll.before_interval[0] == pytest.approx(expected, rel=0.1)


def test_the_command_fits_on_some_images_of_a_file_and_reports_on_the_others(tmp_path: Path) -> None:
    outputs.write(tmp_path / "x.safetensors", *sample(500, 2.0))
    assert answer("calibrate", tmp_path / "x.safetensors").exit_code == 2
    done = answer("calibrate", tmp_path / "x.safetensors", "--hold-out", 200, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["fitted_on"], found["n"]) == (200, 300)
    assert found["temperature"] == pytest.approx(2.0, rel=0.15)
    assert "change" in answer("calibrate", tmp_path / "x.safetensors", "--hold-out", 200).stdout


def with_run(file: Path, fingerprint: str, **recipe: int) -> Any:
    """Returns ``resnet20.digits`` in a file whose run record says that it held out images with this fingerprint."""
    weights = zoo.fetch("resnet20.digits")
    about = safetensors_file.metadata(weights)
    validation = {"name": "digits", "split": "validation", "n": 100, "fingerprint": fingerprint}
    about["run"]["data"]["validation"] = validation
    about["run"]["recipe"] |= {"validation": 100, "seed": 0}
    safetensors_file.write(safetensors_file.read(weights), file, about)
    return zoo.create("resnet20", weights=file).zoo_info


def test_images_that_training_held_out_are_found_again_by_its_record(tmp_path: Path) -> None:
    _, expected = zoo.data.hold_out(zoo.data.load("digits"), 100, seed=0)
    found = images_held_out(with_run(tmp_path / "x.safetensors", expected.fingerprint))
    assert torch.equal(found.identities, expected.identities)
    with pytest.raises(DataError, match="was trained without sha256:000"):
        images_held_out(with_run(tmp_path / "x.safetensors", f"sha256:{'0' * 64}"))


def test_weights_whose_training_held_out_nothing_need_a_number() -> None:
    done = answer("calibrate", "resnet20.digits")
    assert done.exit_code == 1
    assert "No images were held out" in done.output
    assert "--hold-out N" in done.output

"""Audits: a planted mistake in a manifest is found and named, and a false claim is not explained away."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import samples
from support.pinned import ask

import zoo
from zoo import manifest, registry
from zoo.evaluation.auditing import audit
from zoo.spec.preprocess import CIFAR10


def plant(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, **changes: Any) -> str:
    """A hub whose manifest says ``changes`` about how images are prepared for the weights ``name``; the new name."""
    weights = registry.current().find(name).weights
    assert weights is not None
    assert weights.preprocess is not None
    wrong = msgspec.structs.replace(weights.preprocess, **changes)
    entry = msgspec.structs.replace(weights, tag=f"{weights.tag}_planted", preprocess=wrong, probe=None)
    folder.mkdir()
    (folder / "manifest.toml").write_text(manifest.render(entry))
    monkeypatch.setenv("ZOO_HUB", str(folder))
    registry.clear()
    return entry.name


def test_a_claim_that_holds_needs_no_variant() -> None:
    answer = ask("audit", "resnet20.digits", "--data", "digits", "--json")
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout)
    assert (found["agrees"], found["variants"], found["explanation"]) == (True, [], None)
    assert found["measured"]["correct"] == 360


def test_a_wrong_mean_in_the_manifest_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = plant(tmp_path / "hub", monkeypatch, "resnet20.digits", mean=(1.5,))
    right = zoo.create("resnet20.digits").zoo_info.preprocess
    answer = ask("audit", name, "--data", "digits", "--split", "test", "--limit", "60")
    assert answer.exit_code == 1
    assert "the claim does not hold" in answer.output
    assert "as the weights file says explains the claim: 100.000% on all 360 images" in answer.output
    for value in (*right.mean, *right.std):
        assert f"{value:g}" in answer.output


def test_a_false_claim_is_not_explained() -> None:
    answer = ask("audit", "resnet20.digits", "--data", "digits", "--claim", "60", "--limit", "40", "--json")
    assert answer.exit_code == 1
    found = json.loads(answer.stdout)
    assert (found["claimed"], found["source"], found["explanation"]) == (60.0, "given", None)
    tried = found["variants"]
    assert len({json.dumps(one["preprocess"]) for one in tried}) == len(tried) > 8, "each way once"
    assert [abs(one["estimate"] - 60) for one in tried] == sorted(abs(one["estimate"] - 60) for one in tried)
    [own] = [one for one in tried if one["changes"] == "as in the manifest"]
    assert (own["n"], own["estimate"]) == (40, found["measured"]["top1"])


def test_without_a_claim_there_is_nothing_to_audit() -> None:
    answer = ask("audit", "resnet20.digits", "--data", "digits", "--split", "train")
    assert answer.exit_code == 1
    assert "claims no top-1 of resnet20.digits on digits/train" in answer.output
    assert "It claims scores on digits/test. --claim PERCENT states one." in answer.output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"mean": (0.5,) * 3, "std": (0.5,) * 3}, ("mean and deviation CIFAR-10's",)),
        ({"crop_pct": 0.875}, ("crop 1",)),
        ({"mean": (0.5,) * 3, "std": (0.5,) * 3, "crop_pct": 0.875}, ("crop 1", "mean and deviation CIFAR-10's")),
    ],
)
def test_usual_mistakes_are_named_on_real_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], named: tuple[str, ...]
) -> None:
    """Without the weights file's own word, which a file of another project does not have."""
    samples.write_cifar10(tmp_path / "data", "test", 1500)
    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "data"))
    claim = zoo.evaluate("resnet20.c10", "cifar10").top1
    name = plant(tmp_path / "hub", monkeypatch, "resnet20.c10", **changes)
    monkeypatch.setattr("zoo.evaluation.auditing._stated", lambda info: {})
    monkeypatch.setattr("zoo.evaluation.auditing._fields", lambda other, own: {})
    found = audit(name, "cifar10", claim=claim, limit=300)
    assert not found.agrees
    assert found.explanation is not None, [(one.changes, one.estimate) for one in found.variants]
    assert all(mistake in found.explanation.changes for mistake in named)
    # Of two mistakes, images of the network's size leave the interpolation open, and 300 images a similar deviation.
    assert (found.explanation.preprocess.crop_pct, found.explanation.preprocess.mean) == (1.0, CIFAR10.mean)
    assert len(named) == 2 or (found.explanation.preprocess, found.explanation.top1) == (CIFAR10, claim)

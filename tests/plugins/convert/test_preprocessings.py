"""The table of usual preprocessings: a planted mistake in a manifest shows in it."""

import json
from pathlib import Path

import msgspec
import pytest
from support.command import ask

from zoo import manifest, registry

pytest.importorskip("sklearn", reason="needs zoo-vision[data]")


def test_the_manifests_own_comes_first_and_each_is_tried_once() -> None:
    answer = ask("audit", "resnet20.digits", "--data", "digits", "--limit", "60", "--json")
    assert answer.exit_code == 0, answer.output
    report = json.loads(answer.stdout)
    first, *others = report["ways"]
    assert (first["words"], first["correct"], first["n"]) == ("as in the manifest", 60, 60)
    assert len({json.dumps(way["preprocess"]) for way in report["ways"]}) == len(report["ways"]) > 8
    assert min(way["correct"] for way in others) < 30, "values in [0, 255] without a mean"
    assert report["agrees"]


def test_a_wrong_mean_in_the_manifest_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = registry.current().find("resnet20.digits").weights
    wrong = msgspec.structs.replace(weights.preprocess, mean=(1.5,))
    entry = msgspec.structs.replace(weights, tag="digits_planted", preprocess=wrong, probe=None)
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "manifest.toml").write_text(manifest.render(entry))
    monkeypatch.setenv("ZOO_HUB", str(tmp_path / "hub"))
    registry.clear()
    answer = ask("audit", "resnet20.digits_planted", "--data", "digits", "--limit", "100", "--json")
    assert answer.exit_code == 1
    first, *others = json.loads(answer.stdout)["ways"]
    assert first["top1"] < 50
    assert max(way["top1"] for way in others) > 95


def test_a_false_claim_is_not_confirmed() -> None:
    answer = ask("audit", "resnet20.digits", "--data", "digits", "--claim", "60", "--limit", "60")
    assert answer.exit_code == 1
    assert "preprocessings tried, claimed 60.000%" in answer.output

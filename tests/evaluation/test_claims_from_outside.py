"""Claims and tables as a stranger meets them: with all of CIFAR-10, claims that are too high, and tables that lost."""

import os
from pathlib import Path

import msgspec
import pytest
import torch
from support.command import ask

import zoo
from zoo import manifest, registry, results
from zoo.data import ImageSet
from zoo.manifest import Score, Weights

LEFT_OUT = (1259, 1369, 1422, 2245, 2737, 2935, 3695, 3718, 4085, 4496)
LEFT_OUT += (5791, 5896, 6286, 7580, 7707, 7724, 7832, 8117, 8551, 9254)
QUICK = "resnet20.c10_e8"


def embedded() -> list[Weights]:
    models = registry.current().models()
    every = [weights for model in models for weights in model.weights if weights.hub.startswith("embedded:")]
    return [weights for weights in every if "cifar10/test" in weights.scores]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with CIFAR-10's test images in their binary form; twenty ships stand where images are missing here."""
    if not (data := os.environ.get("ZOO_DATA")):
        pytest.skip("needs ZOO_DATA")
    test = zoo.data.load("cifar10", "test", root=data)
    if len(test) != 9980:
        pytest.skip("the test images are all there")
    ships = (test.labels == 8).nonzero()[: len(LEFT_OUT), 0]
    is_left_out = torch.zeros(10_000, dtype=torch.bool)
    is_left_out[list(LEFT_OUT)] = True
    records = torch.empty(10_000, 3073, dtype=torch.uint8)
    records[~is_left_out], records[is_left_out] = _records(test), _records(test.subset(ships, "test"))
    folder = tmp_path_factory.mktemp("whole")
    (folder / "cifar-10-batches-bin").mkdir()
    (folder / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(records.numpy().tobytes())
    return folder


def _records(images: ImageSet) -> torch.Tensor:
    assert images.pixels is not None
    return torch.cat([images.labels[:, None].to(torch.uint8), images.pixels.flatten(1)], dim=1)


@pytest.fixture
def elsewhere(whole: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_DATA", str(whole))
    return whole


@pytest.mark.slow
@pytest.mark.parametrize("name", [weights.name for weights in embedded()])
def test_each_claim_on_cifar10_is_confirmed_by_who_has_all_images(name: str, elsewhere: Path) -> None:
    answer = ask("evaluate", name, "--data", "cifar10", "--check")
    assert answer.exit_code == 0, answer.output
    assert "of 10,000" in answer.stdout
    assert "the same count on the same images; each image has its published class; it leaves out 20" in answer.stdout


def test_the_twenty_that_are_left_out_are_the_same_in_each_manifest() -> None:
    claims = [weights.scores["cifar10/test"] for weights in embedded()]
    assert {claim.without for claim in claims} == {LEFT_OUT}
    assert {claim.n for claim in claims} == {9980}


def inflated(claim: Score, more: int) -> Score:
    correct = claim.right + more
    return msgspec.structs.replace(claim, correct=correct, top1=100 * correct / claim.n)


@pytest.mark.slow  # ten thousand images; test_score.py compares the counts, test_cli.py the exit code
@pytest.mark.parametrize("more", [3, 10, 50])
def test_a_claim_that_is_too_high_is_refuted(
    more: int, elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = registry.current().find(QUICK).weights
    assert entry is not None
    claim = inflated(entry.scores["cifar10/test"], more)
    false = msgspec.structs.replace(entry, tag="c10_false", scores={"cifar10/test": claim})
    (tmp_path / "manifest.toml").write_text(manifest.render(false))
    monkeypatch.setenv("ZOO_HUB", str(tmp_path))
    registry.clear()
    answer = ask("evaluate", "resnet20.c10_false", "--data", "cifar10", "--check")
    assert answer.exit_code == 1
    assert f"{more} fewer on the same images" in answer.stdout


@pytest.mark.parametrize("lost", [5, 20, 105])
def test_images_that_a_table_lost_are_a_regression(lost: int, tmp_path: Path) -> None:
    entry = registry.current().find("resnet20.c10").weights
    assert entry is not None
    claim = entry.scores["cifar10/test"]
    about = {"task": "evaluate", "weights": entry.name, "data": "cifar10/test", "sha256": entry.sha256}
    for folder, score in (("old", claim), ("new", inflated(claim, -lost))):
        row = results.Row(**about, n=claim.n, correct=score.right, top1=score.top1, fingerprint=claim.fingerprint)
        results.write(tmp_path / folder, [row], [])
    answer = ask("results", "show", tmp_path / "new/results.csv", "--against", tmp_path / "old/results.csv")
    assert answer.exit_code == 1
    assert "worse" in answer.stdout
    assert "counts, the same weights on the same images" in answer.stdout


def test_seeds_are_other_trainings_and_are_told_apart_by_their_answers(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="needs zoo-vision[data]")
    files = []
    for seed in range(3):
        run = tmp_path / f"s{seed}"
        words = ["--set", "epochs=2", "--set", f"seed={seed}", "-o", str(run), "--device", "cpu"]
        assert ask("train", "resnet8", "--data", "digits", *words).exit_code == 0
        files.append(tmp_path / f"s{seed}.safetensors")
        weights = ["--weights", str(run / "model.safetensors")]
        assert ask("evaluate", "resnet8", *weights, "--data", "digits", "--outputs", files[-1]).exit_code == 0
    for other in files[1:]:
        answer = ask("results", "compare", files[0], other)
        assert answer.exit_code == 0, answer.output
        assert "exact, two-sided" in answer.stdout

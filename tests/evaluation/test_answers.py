"""Published answers: what the file holds, and what comparisons, votes and reliability make of it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from scipy.stats import binomtest, ttest_ind
from support.command import ask_warm, printed, told
from support.loaded import load

import zoo
from zoo import evaluation, registry
from zoo.data import ImageSet
from zoo.errors import DataError, MissingExtraError, SpecError, WeightsError
from zoo.evaluation import answers, claims
from zoo.evaluation.outputs import Outputs, write_outputs
from zoo.manifest import Weights

pyarrow = pytest.importorskip("pyarrow", reason="needs zoo-vision[data]")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs zoo-vision[data]")

ROOT = Path(__file__).parents[2]
FILE = ROOT / "weights_manifest" / "answers.parquet"


def embedded() -> list[Weights]:
    models = registry.current().models()
    every = [weights for model in models for weights in model.weights if weights.hub.startswith("embedded:")]
    return sorted(every, key=lambda weights: weights.name)


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    """The columns of the table for each weights, as anybody reads them."""
    table = parquet.read_table(FILE)
    names = np.array(table["weights"].to_pylist())
    columns = {name: np.array(table[name].to_pylist()) for name in ("data", "image", "label", "class", "confidence")}
    return {name: {key: column[names == name] for key, column in columns.items()} for name in np.unique(names).tolist()}


def stored(file: Path, logits: torch.Tensor, labels: list[int], data: str = "noise", seed: int = 0) -> Path:
    """Writes outputs for images whose labels are ``labels``; equal seeds give equal images."""
    pixels = torch.randint(256, (len(labels), 1, 4, 4), generator=torch.Generator().manual_seed(seed))
    images = ImageSet(data, "test", tuple("abcdefghij"), torch.tensor(labels), pixels.to(torch.uint8))
    report = zoo.evaluate("resnet20.digits", "digits")
    replaced = {"weights": file.stem, "dataset": data, "n": len(labels), "fingerprint": images.fingerprint}
    write_outputs(file, Outputs.of(logits), images, msgspec.structs.replace(report, **replaced), "")
    return file


def test_the_answers_of_all_weights_are_there_with_the_counts_of_the_manifests(rows: dict[str, Any]) -> None:
    assert len(embedded()) == 41
    assert [name for name in rows if "/" not in name] == [weights.name for weights in embedded()]
    hashes = {about.name: (about.sha256, about.data, about.fingerprint) for about in answers.contents().weights}
    for weights in embedded():
        [(data, score)] = weights.scores.items()
        of = rows[weights.name]
        assert int((of["label"] == of["class"]).sum()) == score.correct, weights.name
        assert of["image"].tolist() == sorted(set(range(score.n + len(score.without))) - {*score.without})
        assert set(of["data"]) == {data}
        assert hashes[weights.name] == (weights.sha256, data, score.fingerprint)


def test_the_answers_of_every_training_of_a_spread_are_there_with_its_score(rows: dict[str, Any]) -> None:
    names = set()
    for weights in embedded():
        [score] = weights.scores.values()
        for seed, top1 in zip(score.spread.seeds, score.spread.top1, strict=True) if score.spread else ():
            name = f"{weights.name}/seed{seed}"
            names.add(name)
            assert 100 * (rows[name]["label"] == rows[name]["class"]).mean() == pytest.approx(top1)
            assert evaluation.read_answers(name).predicted.tolist() == rows[name]["class"].tolist()
    assert names == {name for name in rows if "/" in name}
    assert len(names) >= 20
    with pytest.raises(WeightsError, match="seed10 are published") as caught:
        evaluation.read_answers("dtp_mlp.mnist_50k/seed10")
    assert "seed0, seed1" in caught.value.hint


def test_the_means_of_trainings_are_compared_by_welchs_test(rows: dict[str, Any]) -> None:
    names = ("dtp_mlp.mnist_50k", "dtp_mlp.mnist_backprop")
    right = [
        [100 * (of["label"] == of["class"]).mean() for name, of in rows.items() if name.startswith(f"{weights}/")]
        for weights in names
    ]
    expected = ttest_ind(*right, equal_var=False)
    [pair] = told("results", "compare", *names)["pairs"]
    interval = expected.confidence_interval(0.95)
    assert pair["trainings"]["p"] == pytest.approx(expected.pvalue, rel=1e-6)
    assert pair["trainings"]["interval"] == pytest.approx([interval.low, interval.high], abs=1e-6)
    assert pair["trainings"]["difference"] == pytest.approx(np.mean(right[0]) - np.mean(right[1]), abs=1e-3)
    assert f"p = {expected.pvalue:.3g}, of the means over trainings" in printed("results", "compare", *names)
    assert told("results", "compare", "resnet20.c10", "plain20.c10")["pairs"][0]["trainings"] is None


def test_the_hardest_images_are_those_of_networks_that_ship() -> None:
    assert not any("/" in name for name in evaluation.hardest("mnist").weights)


def test_the_file_is_small_and_a_row_group_is_one_weights() -> None:
    assert FILE.stat().st_size < 2e6
    assert parquet.read_metadata(FILE).num_row_groups == 67


@pytest.mark.parametrize("name", ["resnet20.digits", "resnet20.digits_robust"])
def test_the_network_still_gives_the_published_answers(name: str, tmp_path: Path) -> None:
    zoo.evaluate(name, "digits", outputs=tmp_path / "x.safetensors")
    file, there = evaluation.read_answers(tmp_path / "x.safetensors"), evaluation.read_answers(name)
    assert file.predicted.tolist() == there.predicted.tolist()
    assert file.labels.tolist() == there.labels.tolist()
    assert file.confidence == pytest.approx(there.confidence, abs=1e-3)
    assert evaluation.compare(tmp_path / "x.safetensors", name).same == 360


def test_two_networks_are_paired_image_by_image(rows: dict[str, Any]) -> None:
    names = ("resnet56.c10", "plain56.c10")
    first, second = (rows[name]["label"] == rows[name]["class"] for name in names)
    measured = told("results", "compare", *names)["pairs"][0]
    only = int((first & ~second).sum()), int((~first & second).sum())
    assert (measured["n"], measured["only_first"], measured["only_second"]) == (9980, *only)
    assert measured["p"] == pytest.approx(binomtest(only[0], sum(only)).pvalue)
    assert measured["overlap"] == pytest.approx((~first & ~second).sum() / (~first).sum())
    assert measured["overlap_by_chance"] == pytest.approx((~second).mean())
    wrong = (rows[names[0]]["class"] == rows[names[1]]["class"]) & ~first
    assert measured["same_wrong"] == int(wrong.sum())
    frogs = rows[names[0]]["label"] == 6
    [row] = [row for row in measured["classes"] if row["name"] == "frog"]
    of_frogs = int((frogs & first & ~second).sum()), int((frogs & ~first & second).sum())
    assert (row["n"], row["only_first"], row["only_second"]) == (int(frogs.sum()), *of_frogs)
    assert row["p"] == pytest.approx(binomtest(of_frogs[0], sum(of_frogs)).pvalue)
    assert sum(row["only_first"] for row in measured["classes"]) == only[0]
    assert min(row["corrected"] for row in measured["classes"]) == pytest.approx(
        10 * min(row["p"] for row in measured["classes"])
    )


def test_p_values_of_several_pairs_are_corrected() -> None:
    names = ("resnet20.c10", "resnet32.c10", "resnet44.c10")
    measured = told("results", "compare", *names)["pairs"]
    assert [(pair["first"], pair["second"]) for pair in measured] == [names[:2], names[::2], names[1:]]
    low, middle, high = sorted(pair["p"] for pair in measured)
    corrected = sorted(pair["corrected"] for pair in measured)
    assert corrected == pytest.approx([3 * low, 2 * middle, max(2 * middle, high)])


def test_the_commands_print_what_they_found() -> None:
    shown = printed("results", "compare", "resnet20.c10", "plain20.c10")
    assert "McNemar's test   p = 0.00158, exact, two-sided" in shown
    assert "p, corrected" in printed("results", "compare", "resnet20.c10", "resnet32.c10", "resnet44.c10")
    assert "24 weights: all classify 3,688 correctly, none 72" in printed("results", "hardest", "cifar10")
    assert "vote by confidence" in printed("results", "ensemble", "resnet20.c10", "plain20.c10")
    assert "expected error 2.46% in 15 bins" in printed("results", "calibration", "resnet20.c10")


def test_who_has_all_images_of_cifar10_compares_with_the_published_ones(tmp_path: Path, rows: dict[str, Any]) -> None:
    of = rows["resnet20.c10"]
    labels, predicted = np.zeros(10_000, int), np.zeros(10_000, int)
    labels[of["image"]], predicted[of["image"]] = of["label"], of["class"]
    logits = torch.nn.functional.one_hot(torch.tensor(predicted), 10).float()
    agreement = evaluation.compare(
        stored(tmp_path / "a.safetensors", logits, labels.tolist(), "cifar10"), "resnet20.c10"
    )
    assert (agreement.n, agreement.same, agreement.both) == (9980, 9980, 9155)
    labels[of["image"][5]] += 1  # another class: other images
    with pytest.raises(DataError, match="no image in common"):
        evaluation.compare(
            stored(tmp_path / "b.safetensors", logits, (labels % 10).tolist(), "cifar10"), "resnet20.c10"
        )


def test_the_hardest_images_are_those_that_the_fewest_get(rows: dict[str, Any]) -> None:
    of_caltech = [of for of in rows.values() if of["data"][0].startswith("caltech101")]
    correct = np.sum([of["label"] == of["class"] for of in of_caltech], axis=0)
    measured = told("results", "hardest", "caltech101:15:0", "--limit", "3")
    assert measured["right_by"] == [int((correct == count).sum()) for count in range(5)]
    assert [image["image"] for image in measured["images"]] == np.flatnonzero(correct == 0)[:3].tolist()
    ship = next(
        image for image in told("results", "hardest", "cifar10", "--limit", 5)["images"] if image["image"] == 665
    )
    given = [of["class"][of["image"] == 665][0] for of in rows.values() if of["data"][0] == "cifar10/test"]
    assert (ship["label"], ship["wrong"], ship["wrong_by"]) == ("ship", "airplane", given.count(0))
    with pytest.raises(DataError, match="No answers on imagenet"):
        evaluation.hardest("imagenet")


def test_networks_vote_and_confidence_decides_ties(tmp_path: Path) -> None:
    # Images 0 and 2: two that are unsure against one that is certain, right and wrong. Image 1: three opinions.
    certain = {
        "a": [(0, 0.1), (0, 1.0), (0, 0.1)],
        "b": [(0, 0.1), (1, 3.0), (0, 0.1)],
        "c": [(1, 9.0), (2, 1.0), (1, 9.0)],
    }
    files = []
    for name, chosen in certain.items():
        logits = torch.zeros(3, 3)
        for row, (number, value) in enumerate(chosen):
            logits[row, number] = value
        files.append(stored(tmp_path / f"{name}.safetensors", logits, [0, 1, 1]))
    voted = evaluation.ensemble(*files)
    assert voted.members == {"a": 1, "b": 2, "c": 1}
    assert (voted.best, voted.n) == ("b", 3)
    majority, confidence = voted.votes
    assert (majority.correct, majority.only_ensemble, majority.only_best) == (2, 0, 0)
    assert (confidence.correct, confidence.only_ensemble, confidence.only_best) == (2, 1, 1)


def test_the_calibration_error_is_that_of_the_logits(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = 3 * torch.randn(500, 10, generator=generator), torch.randint(10, (500,), generator=generator)
    labels[::2] = logits.argmax(1)[::2]
    measured = evaluation.reliability(stored(tmp_path / "a.safetensors", logits, labels.tolist()))
    assert measured.ece == pytest.approx(evaluation.calibration_error(logits, labels), abs=1e-3)
    assert sum(row.n for row in measured.bins) == 500


def test_names_without_answers_and_lonely_ones_are_errors() -> None:
    with pytest.raises(WeightsError, match=r"No answers of resnet152\.tv_in1k are published") as caught:
        evaluation.read_answers("resnet152.tv_in1k")
    assert "--outputs" in caught.value.hint
    with pytest.raises(SpecError, match="expected two or more"):
        evaluation.compare_each("resnet20.c10")
    with pytest.raises(SpecError, match="expected two or more"):
        evaluation.ensemble("resnet20.c10", "resnet20.c10")


def test_without_pyarrow_there_is_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    answers._contents.cache_clear()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError) as caught:
        evaluation.read_answers("resnet20.c10")
    assert "zoo-vision[data]" in caught.value.hint


def test_answers_are_compared_without_torch_and_networks_created_without_pyarrow() -> None:
    code = (
        "import sys, zoo; zoo.evaluation.compare('resnet20.c10', 'plain20.c10'); assert 'torch' not in sys.modules\n"
        "for name in [name for name in sys.modules if name.startswith('pyarrow')]: del sys.modules[name]\n"
        "sys.modules['pyarrow'] = None\n"
        "zoo.list_models(); zoo.create('resnet20.digits')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.fixture
def changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns a function that publishes other answers of resnet20.digits: the classes of images are one higher."""

    def change(*places: int) -> None:
        table, metadata = parquet.read_table(FILE), parquet.read_metadata(FILE).metadata[b"zoo"]
        classes = np.array(table["class"].to_pylist())
        names = np.array(table["weights"].to_pylist())
        first = int(np.flatnonzero(names == "resnet20.digits")[0])
        classes[[first + place for place in places]] += 1
        column = pyarrow.array(classes % 10 if len(places) > 20 else classes, pyarrow.uint8())
        table = table.set_column(table.schema.get_field_index("class"), "class", column)
        with parquet.ParquetWriter(tmp_path / "x.parquet", table.schema.with_metadata({b"zoo": metadata})) as writer:
            for name in dict.fromkeys(names):
                writer.write_table(table.filter(pyarrow.array(names == name)))
        monkeypatch.setattr(registry, "resource", lambda address: tmp_path / "x.parquet")

    return change


def test_check_names_the_images_that_differ_from_the_published_answers(changed: Any) -> None:
    same = told("evaluate", "resnet20.digits", "--check")["check"]
    assert (same["agrees"], same["differences"]) == (True, [])
    changed(7, 300)
    done = ask_warm("evaluate", "resnet20.digits", "--check", "--json")
    check = json.loads(done.stdout)["check"]
    labels = evaluation.read_answers("resnet20.digits").labels[[7, 300]].tolist()
    assert done.exit_code == 1  # the counts are equal, and the answers are not
    assert not check["agrees"]
    expected = [
        (image, str(label), str(label + 1), str(label), False) for image, label in zip((7, 300), labels, strict=True)
    ]
    assert [tuple(row.values()) for row in check["differences"]] == expected
    assert f"rounding does not explain 2: 7 ({labels[0] + 1}, now {labels[0]}), 300 (" in check["message"]


def test_at_most_ten_images_are_named_and_all_are_in_json(changed: Any) -> None:
    changed(*range(25))
    done = ask_warm("evaluate", "resnet20.digits", "--check", "--json")
    check = json.loads(done.stdout)["check"]
    assert len(check["differences"]) == 25
    assert check["message"].count(", now ") == 10
    assert check["message"].endswith("15 more")


@pytest.mark.parametrize("gap", [1e-6, 1e-3])
def test_an_image_that_is_close_may_differ(gap: float) -> None:
    published = evaluation.read_answers("resnet20.digits")
    logits = 5 * torch.nn.functional.one_hot(torch.tensor(published.predicted), 10).float()
    winner, second = int(published.predicted[3]), int(published.predicted[3] + 1) % 10
    logits[3, second] = 5 + gap
    report = zoo.evaluate("resnet20.digits", "digits")
    [row] = claims.differences(report, Outputs.of(logits), published) or []
    assert (row.image, row.published, row.measured, row.is_close) == (3, str(winner), str(second), gap < 1e-5)
    claim = registry.current().find("resnet20.digits").weights.scores["digits/test"]  # type: ignore[union-attr]  # it has
    assert claims.check(report, claim, differing=[row]).agrees == (gap < 1e-5)
    other = msgspec.structs.replace(report, fingerprint="sha256:0")
    assert claims.differences(other, Outputs.of(logits), published) is None


def test_what_is_stored_already_is_not_stored_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = load(ROOT / "docs" / "answers.py")
    before = FILE.read_bytes()
    copy = tmp_path / "answers.parquet"
    copy.write_bytes(before)
    monkeypatch.setattr(script, "FILE", copy)
    monkeypatch.setattr(script, "evaluate", lambda weights, where: pytest.fail(weights.name))
    script.main(None, [])
    assert copy.read_bytes() == before

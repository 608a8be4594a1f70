"""Several trainings are published as one network, the median, with the spread of all and the outputs of each."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.command import ask, told

import zoo
from zoo import manifest, registry
from zoo.errors import TrainingError
from zoo.evaluation import read_outputs
from zoo.loading import safetensors_file
from zoo_publish import publish

pytest.importorskip("timm", reason="needs zoo-vision[train]")
pytest.importorskip("sklearn", reason="needs zoo-vision[data]")

SETTINGS = {"epochs": 1, "warmup_epochs": 0}


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four trainings of an epoch, on 1,337 digits; 100 are held out."""
    folder = tmp_path_factory.mktemp("group")
    for seed in range(4):
        settings = {**SETTINGS, "validation": 100, "seed": seed}
        zoo.train("resnet8", "digits", settings=settings, output=folder / f"seed{seed}", device="cpu")
    return folder


def scores(group: Path) -> dict[int, float]:
    """Returns the percentage of the 360 test digits, by seed, as the network of each file is scored by its name."""
    files = {seed: group / f"seed{seed}" / "model.safetensors" for seed in range(4)}
    return {seed: 100 * zoo.evaluate("resnet8", "digits", weights=file).correct / 360 for seed, file in files.items()}


def lower_median(values: dict[int, float]) -> int:
    return sorted(values, key=lambda seed: (values[seed], seed))[1]


def test_the_median_on_held_out_images_is_published_with_the_spread_of_all_test_scores(
    group: Path, tmp_path: Path
) -> None:
    place = [group, "--as", "resnet8.mine", "--to", tmp_path / "hub", "--allow-uncommitted"]
    done = told("publish", *place, "--evaluate", "digits", "--outputs", tmp_path / "outputs")
    [entry] = manifest.parse(done["entry"])
    logs = {seed: (group / f"seed{seed}" / "log.jsonl").read_text().splitlines()[-1] for seed in range(4)}
    median = lower_median({seed: json.loads(log)["val_top1"] for seed, log in logs.items()})
    bytes_of = (group / f"seed{median}" / "model.safetensors").read_bytes()
    assert (tmp_path / "hub" / "resnet8.mine" / "model.safetensors").read_bytes() == bytes_of
    tested = scores(group)
    score = entry.scores["digits/test"]
    assert score.top1 == pytest.approx(tested[median], abs=1e-4)
    assert score.spread.seeds == (0, 1, 2, 3)
    assert score.spread.top1 == pytest.approx([*tested.values()], abs=1e-4)
    assert score.spread.mean == pytest.approx(np.mean([*tested.values()]), abs=1e-3)
    assert score.spread.deviation == pytest.approx(np.std([*tested.values()], ddof=1), abs=1e-3)
    assert score.protocol.selection == "the median of 4 trainings by the images that each held out"
    assert entry.scores["digits/validation"].spread is None, "each held out others"
    assert f"It has the seed {median}: the median of 4 trainings by the images that each held out." in done["notes"]
    assert f"mean ± standard deviation (trainings) {score.spread.words}" in done["card"]
    for seed in range(4):
        stored = read_outputs(tmp_path / "outputs" / "resnet8.mine" / f"seed{seed}.safetensors")
        assert stored.about.report.top1 == pytest.approx(tested[seed])
        assert (stored.about.sha256 == entry.sha256) == (seed == median)


def test_without_held_out_images_no_score_on_test_images_selects(group: Path, tmp_path: Path) -> None:
    change(group, tmp_path / "group", lambda run: run["data"].pop("validation"))
    done = publish(
        *(tmp_path / "group", "resnet8.mine", str(tmp_path / "hub")),
        evaluate_on=(("digits", "test"),),
        allow_uncommitted=True,
    )
    [entry] = manifest.parse(done.entry)
    assert entry.scores["digits/test"].top1 == pytest.approx(scores(group)[0], abs=1e-4)
    assert entry.scores["digits/test"].protocol.selection == "the first of 4 trainings, as none held out images"


def test_lists_and_facts_show_the_spread(group: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = tmp_path / "hub"
    publish(group, "resnet8.mine", str(hub), evaluate_on=(("digits", "test"),), allow_uncommitted=True)
    monkeypatch.setenv("ZOO_HUB", str(hub))
    registry.clear()
    values = [*scores(group).values()]
    text = f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f} (4)"
    assert text in ask("list", "resnet8.mine").stdout
    facts = ask("info", "resnet8.mine").stdout
    assert f"trainings {text}; with the seeds 0, 1, 2, 3: " in facts
    assert "1,337 training images, one epoch, four runs, one view" in facts


@pytest.mark.parametrize(
    ("key", "change_of"),
    [
        ("recipe.lr", lambda run: run["recipe"].update(lr=0.5)),
        ("train images", lambda run: run["data"]["train"].update(n=7)),
        ("code", lambda run: run.update(code="12" * 20)),
        ("seed of another training, 0", lambda run: run["recipe"].update(seed=0)),
    ],
)
def test_trainings_that_differ_in_more_than_their_seed_are_refused(
    key: str, change_of: Any, group: Path, tmp_path: Path
) -> None:
    change(group, tmp_path / "group", change_of, only=2)
    with pytest.raises(TrainingError, match=key):
        publish(tmp_path / "group", "resnet8.mine", str(tmp_path / "hub"), allow_uncommitted=True)


def test_an_unfinished_training_and_a_lone_one_are_refused(group: Path, tmp_path: Path) -> None:
    change(group, tmp_path / "group", lambda run: None)
    for seed in (1, 2, 3):
        (tmp_path / "group" / f"seed{seed}" / "model.safetensors").unlink()
    with pytest.raises(TrainingError, match="seed1 is not a finished run"):
        publish(tmp_path / "group", "resnet8.mine", str(tmp_path / "hub"), allow_uncommitted=True)
    for seed in (1, 2, 3):
        for file in (tmp_path / "group" / f"seed{seed}").iterdir():
            file.unlink()
        (tmp_path / "group" / f"seed{seed}").rmdir()
    with pytest.raises(TrainingError, match="has one training"):
        publish(tmp_path / "group", "resnet8.mine", str(tmp_path / "hub"), allow_uncommitted=True)


def change(group: Path, folder: Path, change_of: Any, only: int | None = None) -> None:
    """Copies the trainings; ``change_of`` changes the run record of all, or of that with the seed ``only``."""
    for seed in range(4):
        old, new = group / f"seed{seed}", folder / f"seed{seed}"
        new.mkdir(parents=True)
        (new / "log.jsonl").write_bytes((old / "log.jsonl").read_bytes())
        about = safetensors_file.metadata(old / "model.safetensors")
        if only in (None, seed):
            change_of(about["run"])
        safetensors_file.write(safetensors_file.read(old / "model.safetensors"), new / "model.safetensors", about)

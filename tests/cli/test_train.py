"""``zoo train``: what it takes, what it says, and how it goes on."""

import contextlib
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support import pictures as pictures_of
from support.command import ask

from zoo.loading import safetensors_file

pytest.importorskip("timm", reason="needs zoo-vision[train]")

CLASSES = [f"kind{i}" for i in range(10)]
TRAIN = ["train", "resnet20", "--recipe", "default", "--set", "batch_size=10", "--set", "precision=float32"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image folder: three pictures of each of ten classes, in a train and a test split."""
    return pictures_of.write(tmp_path_factory.mktemp("data") / "pictures", CLASSES, {"train": 3, "test": 3})


@pytest.fixture(scope="module")
def finished(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs, started from a folder beside the pictures."""
    output = tmp_path_factory.mktemp("finished") / "run"
    with contextlib.chdir(pictures.parent):
        answer = ask(*TRAIN, "--data", "./pictures", "--set", "epochs=2", "--arg", "shortcut=B", "-o", output)
    assert answer.exit_code == 0, answer.stderr
    return output


def test_a_run_knows_all_that_it_takes_to_go_on_from_any_folder(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    answer = ask("train", "--resume", "-o", run, "--set", "epochs=3", "--json")
    assert answer.exit_code == 0, answer.stderr
    assert json.loads(answer.stdout)["last"]["epoch"] == 3
    assert "Extending the run after epoch 2: 3 epochs instead of 2" in caplog.text
    about = safetensors_file.metadata(run / "model.safetensors")
    assert (about["args"]["shortcut"], about["run"]["recipe"]["batch_size"]) == ("B", 10)
    assert safetensors_file.metadata(run / "model-2.safetensors")["run"]["recipe"]["epochs"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resnet32"], "model: the run has 'resnet20', requested 'resnet32'"),
        (["--data", "digits"], "data.train.name: the run has 'pictures', requested 'digits'"),
        (["--set", "lr=0.5"], "recipe.lr: the run has 0.1, requested 0.5"),
        (["--arg", "shortcut=A"], "args.shortcut: the run has 'B', requested 'A'"),
        (["--set", "epochs=1"], "has finished 2 epochs, so epochs = 1 is too small"),
    ],
)
def test_what_contradicts_a_run_is_an_error_and_changes_nothing(finished: Path, words: list[str], message: str) -> None:
    before = {file.name: file.read_bytes() for file in finished.iterdir()}
    answer = ask("train", *words, "--resume", "-o", finished)
    assert answer.exit_code == 1, answer.stdout
    assert message in answer.stderr
    assert {file.name: file.read_bytes() for file in finished.iterdir()} == before


def test_weights_do_not_hold_the_folders_of_the_machine_they_were_trained_on(finished: Path, pictures: Path) -> None:
    assert json.loads((finished / "config.json").read_text())["source"] == {"data": str(pictures)}
    assert str(pictures) not in json.dumps(safetensors_file.metadata(finished / "model.safetensors"))


def test_training_says_what_it_lacks(tmp_path: Path) -> None:
    assert "Missing argument 'MODEL'" in ask("train", "--data", "digits", "-o", tmp_path / "run").stderr
    assert "Missing option '--data'" in ask("train", "resnet20", "-o", tmp_path / "run").stderr
    answer = ask("train", "--resume", "-o", tmp_path / "run")
    assert (answer.exit_code, "contains no run to resume" in answer.stderr) == (1, True)


def test_the_command_that_scores_a_network_names_a_split_that_there_is(pictures: Path, tmp_path: Path) -> None:
    for split, data in (("validation", tmp_path / "a"), ("val", tmp_path / "b"), (None, tmp_path / "c")):
        shutil.copytree(pictures / "train", data / "train" if split else data)
        if split:
            shutil.copytree(pictures / "test", data / split)
        answer = ask(*TRAIN, "--data", data, "--set", "epochs=1", "-o", f"{data}-run")
        said = answer.stderr.splitlines()[-1]
        assert said.startswith("Score it: zoo evaluate" if split else "Score it on images it was not trained on:")
        command = shlex.split(said.partition(": zoo ")[2])
        if split:
            assert json.loads(ask(*command, "--json").stdout)["split"] == split


def test_scoring_on_the_images_that_were_trained_on_is_said(
    pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flat = shutil.copytree(pictures / "train", tmp_path / "flat")
    ask(*TRAIN, "--data", flat, "--set", "epochs=1", "-o", tmp_path / "run")
    weights = ["--weights", tmp_path / "run" / "model.safetensors"]
    caplog.clear()
    assert ask("evaluate", "resnet20", "--data", flat, *weights).exit_code == 0
    assert "was trained on images of flat, which has no splits: the score does not generalise" in caplog.text
    caplog.clear()
    assert ask("evaluate", "resnet20", "--data", pictures, "--split", "test", *weights).exit_code == 0
    assert "was trained on images" not in caplog.text


# ---- images of one's own -----------------------------------------------------------------------------------------


def stripes(folder: Path, counts: dict[str, int], side: int = 32) -> Path:
    """Returns noise with stripes across or along, which tell the class."""
    generator = torch.Generator().manual_seed(0)
    for split, count in counts.items():
        for kind in ("across", "along"):
            (folder / split / kind).mkdir(parents=True)
            for number in range(count):
                pixels = torch.randint(0, 120, (side, side, 3), generator=generator, dtype=torch.uint8)
                pixels[::4] += 130
                pixels = pixels if kind == "across" else pixels.transpose(0, 1)
                Image.fromarray(pixels.contiguous().numpy()).save(folder / split / kind / f"{number}.png")
    return folder


def config_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "config.json").read_text())


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_a_folder_of_ones_own_is_trained_on_without_a_word_and_its_best_epoch_on_val_is_kept(tmp_path: Path) -> None:
    data = stripes(tmp_path / "stripes", {"train": 20, "val": 10, "test": 5})
    answer = ask("train", "resnet20", "--data", data, "--set", "epochs=6", "-o", tmp_path / "run")
    assert answer.exit_code == 0, answer.stderr
    first = answer.stderr.splitlines()[0]
    assert first.startswith(
        "resnet20, 40 images of stripes, 20 held out, recipe own_images (sgd, lr 0.0125, cosine): 6"
    )
    recipe = config_of(tmp_path / "run")["recipe"]
    assert (recipe["augment"]["pad_crop"], recipe["augment"]["flip"]) == (4, True)
    assert config_of(tmp_path / "run")["data"]["validation"]["split"] == "val"
    rows = log_of(tmp_path / "run")
    best = max(rows, key=lambda row: (row["val_top1"], -row["val_loss"]))
    assert f"The network of epoch {best['epoch']} is saved: validation {best['val_top1']:.2f}%" in answer.stderr
    weights = ["--weights", tmp_path / "run" / "model.safetensors"]
    scored = json.loads(ask("evaluate", "resnet20", "--data", data, "--split", "val", *weights, "--json").stdout)
    assert scored["loss"] == pytest.approx(best["val_loss"], rel=0.05)  # there in bfloat16
    assert scored["top1"] == pytest.approx(best["val_top1"], abs=10)


@pytest.mark.parametrize(("words", "rate"), [((), 0.00125), (("--freeze", "backbone"), 0.0125)])
def test_a_new_head_alone_learns_at_the_full_rate(tmp_path: Path, words: tuple[str, ...], rate: float) -> None:
    data = stripes(tmp_path / "stripes", {"train": 20, "val": 10})
    start = ["train", "--init", "resnet20.c10", "--data", data, "--set", "epochs=1", "-o", tmp_path / "run"]
    answer = ask(*start, *words)
    assert answer.exit_code == 0, answer.stderr
    assert config_of(tmp_path / "run")["recipe"]["lr"] == pytest.approx(rate)


@pytest.mark.slow
def test_the_best_epoch_is_kept_over_a_break_and_made_again_from_the_record(tmp_path: Path) -> None:
    data = stripes(tmp_path / "stripes", {"train": 20, "val": 10})
    words = ["train", "resnet20", "--data", data, "--set", "epochs=5", "--set", "precision=float32"]
    ask(*words, "-o", tmp_path / "whole")
    ask(*words, "-o", tmp_path / "parts", "--stop-after", 4)
    assert ask("train", "--resume", "-o", tmp_path / "parts").exit_code == 0
    whole, parts = (safetensors_file.read(tmp_path / run / "model.safetensors") for run in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    again = ask("reproduce", tmp_path / "whole", "--data", data, "-o", tmp_path / "again", "--json")
    assert json.loads(again.stdout)["outcome"] == "file"


@pytest.mark.parametrize(("side", "key"), [(32, "pad_crop"), (48, "resized_crop")])
def test_without_images_to_choose_by_a_tenth_is_held_out_and_never_of_the_test_split(
    tmp_path: Path, side: int, key: str
) -> None:
    data = stripes(tmp_path / "stripes", {"train": 20, "test": 5}, side)
    answer = ask("train", "resnet20", "--data", data, "--set", "epochs=1", "-o", tmp_path / "run")
    assert answer.exit_code == 0, answer.stderr
    config = config_of(tmp_path / "run")
    assert (config["data"]["train"]["n"], config["data"]["validation"]["n"]) == (36, 4)
    assert config["data"]["validation"]["split"] == "validation"
    assert config["recipe"]["augment"].get(key)

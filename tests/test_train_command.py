"""``zoo train``: what it takes, what it says, and how it goes on."""

import contextlib
import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from zoo import tensorfile
from zoo.cli import cli

pytest.importorskip("timm", reason="needs zoo-vision[train]")

CLASSES = [f"kind{i}" for i in range(10)]
TRAIN = ["train", "resnet20", "--recipe", "default", "--set", "batch_size=10", "--set", "precision=float32"]


def ask(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words], prog_name="zoo")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image folder: three pictures 32 x 32 of each of ten classes, in a train and a test split."""
    folder = tmp_path_factory.mktemp("data") / "pictures"
    generator = torch.Generator().manual_seed(0)
    for split in ("train", "test"):
        for kind in CLASSES:
            (folder / split / kind).mkdir(parents=True)
            for number in range(3):
                pixels = torch.randint(0, 256, (32, 32, 3), generator=generator, dtype=torch.uint8)
                Image.fromarray(pixels.numpy()).save(folder / split / kind / f"{number}.png")
    return folder


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
    assert "Going on after epoch 2: 3 epochs in place of 2" in caplog.text
    about = tensorfile.metadata(run / "model.safetensors")
    assert (about["args"]["shortcut"], about["run"]["recipe"]["batch_size"]) == ("B", 10)
    assert tensorfile.metadata(run / "model-2.safetensors")["run"]["recipe"]["epochs"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resnet32"], "model: the run has 'resnet20', asked for 'resnet32'"),
        (["--data", "digits"], "data.train.name: the run has 'pictures', asked for 'digits'"),
        (["--set", "lr=0.5"], "recipe.lr: the run has 0.1, asked for 0.5"),
        (["--arg", "shortcut=A"], "args.shortcut: the run has 'B', asked for 'A'"),
        (["--set", "epochs=1"], "has done 2 epochs, so epochs = 1 is too few"),
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
    assert str(pictures) not in json.dumps(tensorfile.metadata(finished / "model.safetensors"))


def test_training_says_what_it_lacks(tmp_path: Path) -> None:
    assert "Missing argument 'MODEL'" in ask("train", "--data", "digits", "-o", tmp_path / "run").stderr
    assert "Missing option '--data'" in ask("train", "resnet20", "-o", tmp_path / "run").stderr
    answer = ask("train", "--resume", "-o", tmp_path / "run")
    assert (answer.exit_code, "holds no run to resume" in answer.stderr) == (1, True)


def test_the_command_that_scores_a_network_names_a_split_that_there_is(pictures: Path, tmp_path: Path) -> None:
    for split, data in (("validation", tmp_path / "a"), ("val", tmp_path / "b"), (None, tmp_path / "c")):
        shutil.copytree(pictures / "train", data / "train" if split else data)
        if split:
            shutil.copytree(pictures / "test", data / split)
        answer = ask(*TRAIN, "--data", data, "--set", "epochs=1", "-o", f"{data}-run")
        said = answer.stderr.splitlines()[-1]
        assert said.startswith("Score it: zoo evaluate" if split else "Score it on images that it was not trained on:")
        command = shlex.split(said.partition(": zoo ")[2])
        if split:
            assert json.loads(ask(*command, "--json").stdout)["split"] == split

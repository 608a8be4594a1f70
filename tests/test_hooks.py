"""A family that learns and scores in its own way, through the public contract."""

import json
from pathlib import Path

import distributions
import pytest
from click.testing import CliRunner, Result

import zoo
from zoo import registry, tensorfile
from zoo.cli import cli

MODEL = '''
from torch import nn

def build(*, num_classes, in_chans, bias=True):
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * in_chans, num_classes, bias=bias))

def train(model, data, recipe, run, *, preprocess, device=None):
    """Learns nothing, and writes nothing into the run's directory."""
    nn.init.constant_(model[1].weight, recipe.lr)
    return model

def pause(model, data, recipe, run, *, preprocess, device=None):
    run.is_paused = True
    return model

def evaluate(model, data, *, preprocess, device=None):
    return len(data)
'''


def ask(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words], prog_name="zoo")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A family whose hooks are its own; returns a folder for runs."""
    text = distributions.plugin("own", "own_net").replace(
        "build=",
        "preprocess=Preprocess(input_size=(1, 8, 8), crop_pct=1.0, mean=(0.0,), std=(1.0,)), num_classes=10, "
        'train="own_model:train", evaluate="own_model:evaluate", head=("1",), '
        'file_args={"bias": Argument((True, False))}, build=',
    )
    text = text.replace("import Model", "import Argument, Preprocess, Model")
    site = distributions.install(
        tmp_path / "site", "zoo-own", {"own": "own:plugin"}, {"own.py": text, "own_model.py": MODEL}
    )
    monkeypatch.syspath_prepend(str(site))
    registry.clear()
    return tmp_path


def test_what_a_familys_own_train_hook_returns_is_kept_with_its_record(own: Path) -> None:
    zoo.train("own_net", "digits", recipe="default", settings={"lr": 0.5}, output=own / "run")
    file = own / "run" / "model.safetensors"
    about = tensorfile.metadata(file)
    assert about["run"]["recipe"]["lr"] == 0.5
    assert about["class_names"] == list("0123456789")
    assert tensorfile.read(file)["1.weight"].unique().tolist() == [0.5]
    assert zoo.create("own_net", weights=file).zoo_info.classes == "digits"


def test_what_a_familys_own_train_hook_made_can_be_made_again_from_its_record(own: Path) -> None:
    zoo.train("own_net", "digits", recipe="default", settings={"lr": 0.5, "seed": 3}, output=own / "run")
    about = tensorfile.metadata(own / "run" / "model.safetensors")
    assert about["run"]["data"]["train"]["n"] == 1437
    assert zoo.reproduce(own / "run", output=own / "again").outcome == "file"


def test_arguments_of_the_network_are_kept_with_its_weights_and_made_again_from_the_record(own: Path) -> None:
    words = ["train", "own_net", "--data", "digits", "--recipe", "default", "--arg", "bias=false", "-o", own / "run"]
    answer = ask(*words)
    assert answer.exit_code == 0, answer.stderr
    file = own / "run" / "model.safetensors"
    assert list(tensorfile.read(file)) == ["1.weight"]
    assert zoo.create("own_net", weights=file)[1].bias is None
    assert zoo.reproduce(own / "run", output=own / "again").outcome == "file"


@pytest.mark.parametrize(
    ("given", "said"),
    [("num_classes=3", "num_classes is decided by"), ("bias", "'bias' is not KEY=VALUE, such as column")],
)
def test_an_argument_that_cannot_be_one_is_refused(own: Path, given: str, said: str) -> None:
    answer = ask("train", "own_net", "--data", "digits", "--arg", given, "-o", own / "run")
    assert answer.exit_code == 2
    assert said in answer.stderr


def test_a_hook_that_pauses_leaves_no_finished_weights(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import own_model  # of the fixture's distribution

    monkeypatch.setattr(own_model, "train", own_model.pause)
    zoo.train("own_net", "digits", recipe="default", output=own / "run")
    assert not (own / "run" / "model.safetensors").exists()


def test_a_familys_own_evaluate_hook_is_the_one_that_scores(own: Path) -> None:
    assert zoo.evaluate(zoo.create("own_net"), "digits") == 360


def test_the_default_hooks_record_is_the_runs_configuration(tmp_path: Path) -> None:
    settings = {"epochs": 1, "warmup_epochs": 0}
    zoo.train("resnet20", "digits", recipe="digits", settings=settings, output=tmp_path / "run", device="cpu")
    record = tensorfile.metadata(tmp_path / "run" / "model.safetensors")["run"]
    assert record == json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["data"]["train"]["n"] == 1437

"""A family that learns and scores in its own way, through the public contract."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from scipy.stats import binomtest
from support import distributions

import zoo
from zoo import registry
from zoo.cli import cli
from zoo.errors import PluginError
from zoo.loading import safetensors_file

MODEL = '''
import msgspec
import zoo.evaluation
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

def nothing(model, data, recipe, run, *, preprocess, device=None):
    pass

def stumble(model, data, *more, preprocess, device=None):
    raise KeyError("weights")

CHANGES = {}

def evaluate(model, data, *, preprocess, device=None):
    """Three right of all, whatever the network says."""
    report = zoo.evaluation.evaluate(model, data, preprocess=preprocess, device=device)
    report = msgspec.structs.replace(report, correct=3, top1=100 * 3 / report.n)
    return msgspec.structs.replace(report, **CHANGES)
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
    about = safetensors_file.metadata(file)
    assert about["run"]["recipe"]["lr"] == 0.5
    assert about["class_names"] == list("0123456789")
    assert safetensors_file.read(file)["1.weight"].unique().tolist() == [0.5]
    assert zoo.create("own_net", weights=file).zoo_info.classes == "digits"


def test_what_a_familys_own_train_hook_made_can_be_made_again_from_its_record(own: Path) -> None:
    zoo.train("own_net", "digits", recipe="default", settings={"lr": 0.5, "seed": 3}, output=own / "run")
    about = safetensors_file.metadata(own / "run" / "model.safetensors")
    assert about["run"]["data"]["train"]["n"] == 1437
    assert zoo.reproduce(own / "run", output=own / "again").outcome == "file"


def test_arguments_of_the_network_are_kept_with_its_weights_and_made_again_from_the_record(own: Path) -> None:
    words = ["train", "own_net", "--data", "digits", "--recipe", "default", "--arg", "bias=false", "-o", own / "run"]
    answer = ask(*words)
    assert answer.exit_code == 0, answer.stderr
    file = own / "run" / "model.safetensors"
    assert list(safetensors_file.read(file)) == ["1.weight"]
    assert zoo.create("own_net", weights=file)[1].bias is None
    assert zoo.reproduce(own / "run", output=own / "again").outcome == "file"


@pytest.mark.parametrize(
    ("given", "said"),
    [("num_classes=3", "num_classes is set by other options"), ("bias", "'bias' is not KEY=VALUE, such as column")],
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
    assert zoo.evaluate(zoo.create("own_net"), "digits").correct == 3


def test_the_core_computes_what_follows_from_a_hooks_counts(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import own_model  # of the fixture's distribution

    boast = {"interval": (0.0, 100.0), "fingerprint": "sha256:mine", "dataset": "imagenet", "split": "train"}
    monkeypatch.setattr(own_model, "CHANGES", boast)
    report = zoo.evaluate(zoo.create("own_net"), "digits")
    low, high = binomtest(3, 360).proportion_ci(method="wilson")
    assert report.interval == pytest.approx((100 * low, 100 * high))
    assert report.fingerprint == zoo.data.load("digits", "test").fingerprint
    assert (report.dataset, report.split) == ("digits", "test")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top1": 100.0}, r"top1 = 100.0, but 3 of 360 correct images are 0.833%"),
        ({"top1": float("nan")}, "top1 = nan"),
        ({"n": 10_000, "top1": 0.03}, "3 of 10000 images correct, but there are 360"),
        ({"correct": 361, "top1": 100.3}, "361 of 360"),
        ({"mean_class": 101.0}, "mean_class = 101.0, expected 0 to 100"),
    ],
)
def test_a_report_that_cannot_be_right_is_refused(
    own: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    import own_model  # of the fixture's distribution

    monkeypatch.setattr(own_model, "CHANGES", changes)
    with pytest.raises(PluginError, match=rf"own_model:evaluate's report on own_net is inconsistent: .*{message}"):
        zoo.evaluate(zoo.create("own_net"), "digits")


def test_an_evaluate_hook_need_not_know_every_option_of_the_command(own: Path) -> None:
    zoo.train("own_net", "digits", recipe="default", output=own / "run")
    command = ["evaluate", "own_net", "--data", "digits", "--weights", own / "run" / "model.safetensors"]
    assert ask(*command).exit_code == 0
    for words, argument in ((["--precision", "bfloat16"], "dtype"), (["--compile"], "compile")):
        answer = ask(*command, *words)
        assert (answer.exit_code, f"which scores own_net, has no argument {argument}" in answer.stderr) == (1, True)


def test_a_hook_that_fails_is_named(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import own_model  # of the fixture's distribution

    monkeypatch.setattr(own_model, "train", own_model.nothing)
    with pytest.raises(PluginError, match="own_model:train returned NoneType, expected the trained network of own_net"):
        zoo.train("own_net", "digits", recipe="default", output=own / "a")
    for hook in ("train", "evaluate"):
        monkeypatch.setattr(own_model, hook, own_model.stumble)
    said = "own_model:{} failed for own_net: KeyError: 'weights'"
    answer = ask("train", "own_net", "--data", "digits", "--recipe", "default", "-o", own / "b")
    assert (answer.exit_code, said.format("train") in answer.stderr) == (1, True)
    assert "Traceback" not in answer.stderr
    with pytest.raises(PluginError, match=said.format("evaluate")):
        zoo.evaluate(zoo.create("own_net"), "digits")
    monkeypatch.setattr(own_model, "evaluate", len)
    with pytest.raises(PluginError, match=r"own_model:evaluate failed for own_net: TypeError: len\(\)"):
        zoo.evaluate(zoo.create("own_net"), "digits")
    monkeypatch.setattr(own_model, "evaluate", lambda model, data, **options: len(data))
    with pytest.raises(PluginError, match=r"returned int, expected zoo.evaluation.Report"):
        zoo.evaluate(zoo.create("own_net"), "digits")


@pytest.mark.slow
def test_the_default_hooks_record_is_the_runs_configuration(tmp_path: Path) -> None:
    settings = {"epochs": 1, "warmup_epochs": 0}
    zoo.train("resnet20", "digits", recipe="digits", settings=settings, output=tmp_path / "run", device="cpu")
    record = safetensors_file.metadata(tmp_path / "run" / "model.safetensors")["run"]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config.pop("source") == {"data": "digits"}  # a path of this machine, elsewhere
    assert record == config
    assert record["data"]["train"]["n"] == 1437

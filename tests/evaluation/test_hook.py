"""A family that learns and scores in its own way, through the public contract."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import binomtest
from support import distributions
from support.command import ask_warm as ask

import zoo
from zoo import registry
from zoo.errors import DataError, PluginError, UnknownNameError
from zoo.evaluation import claims
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
    return zoo.evaluation.logits(model, data, preprocess=preprocess, device=device)

def report(model, data, *, preprocess, device=None):
    """Three right of all, whatever the network says: as at contract 1."""
    report = zoo.evaluation.evaluate(model, data, preprocess=preprocess, device=device)
    report = msgspec.structs.replace(report, correct=3, top1=100 * 3 / report.n)
    return msgspec.structs.replace(report, **CHANGES)
'''


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, *, api: int, evaluate: str) -> Path:
    text = distributions.plugin("own", "own_net", api=str(api)).replace(
        "build=",
        "preprocess=Preprocess(input_size=(1, 8, 8), crop_pct=1.0, mean=(0.0,), std=(1.0,)), num_classes=10, "
        f'train="own_model:train", evaluate="own_model:{evaluate}", head=("1",), '
        'file_args={"bias": Argument((True, False))}, build=',
    )
    text = text.replace("import Model", "import Argument, Preprocess, Model")
    site = distributions.install(
        folder / "site", "zoo-own", {"own": "own:plugin"}, {"own.py": text, "own_model.py": MODEL}
    )
    monkeypatch.syspath_prepend(str(site))
    registry.clear()
    return folder


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A family whose hooks are its own; returns a folder for runs."""
    return install(tmp_path, monkeypatch, api=2, evaluate="evaluate")


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same for contract 1, whose evaluate hook returns a report."""
    return install(tmp_path, monkeypatch, api=1, evaluate="report")


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


def test_the_core_computes_what_follows_from_an_old_hooks_counts_and_says_whose_they_are(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import own_model  # of the fixture's distribution

    boast = {"interval": (0.0, 100.0), "fingerprint": "sha256:mine", "dataset": "imagenet", "split": "train"}
    monkeypatch.setattr(own_model, "CHANGES", boast)
    report = zoo.evaluate(zoo.create("own_net"), "digits")
    assert (report.correct, report.stated_by) == (3, "own_model:report")
    low, high = binomtest(3, 360).proportion_ci(method="wilson")
    assert report.interval == pytest.approx((100 * low, 100 * high))
    assert report.fingerprint == zoo.data.load("digits", "test").fingerprint
    assert (report.dataset, report.split) == ("digits", "test")


@pytest.mark.first(3)
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
    old: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    import own_model  # of the fixture's distribution

    monkeypatch.setattr(own_model, "CHANGES", changes)
    with pytest.raises(PluginError, match=rf"own_model:report's report on own_net is inconsistent: .*{message}"):
        zoo.evaluate(zoo.create("own_net"), "digits")


def answer_with(monkeypatch: pytest.MonkeyPatch, answer: Callable[[torch.Tensor], Any]) -> None:
    """Makes the hook return what ``answer`` says, which gets labels that the hook itself does not have."""
    import own_model  # of the fixture's distribution

    def evaluate(model: Any, data: zoo.data.Images, *, preprocess: Any, rule: str | None = None) -> Any:
        labels = (
            zoo.data.load("digits", "test").labels
            if data.split == "test"
            else zoo.data.hold_out(zoo.data.load("digits"), 100, 0)[1].labels
        )
        return answer(labels)

    monkeypatch.setattr(own_model, "evaluate", evaluate)


def test_the_core_scores_the_logits_that_a_hook_returns(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    digits = zoo.data.load("digits", "test")
    logits = torch.randn(360, 10, generator=torch.Generator().manual_seed(0))
    answer_with(monkeypatch, lambda labels: logits)
    report = zoo.evaluate(zoo.create("own_net"), "digits", rule="mine")
    assert report.top1 == pytest.approx(100 * metrics.accuracy_score(digits.labels, logits.argmax(1)))
    assert report.mean_class == pytest.approx(100 * metrics.balanced_accuracy_score(digits.labels, logits.argmax(1)))
    assert report.top5 == pytest.approx(100 * metrics.top_k_accuracy_score(digits.labels, logits, k=5))
    assert report.loss == pytest.approx(metrics.log_loss(digits.labels, logits.double().softmax(1)))
    low, high = binomtest(report.correct, 360).proportion_ci(method="wilson")
    assert report.interval == pytest.approx((100 * low, 100 * high))
    assert (report.fingerprint, report.model) == (digits.fingerprint, "own_net, rule mine")


@pytest.mark.parametrize("kind", [torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.clone, torch.Tensor.short])
def test_a_hook_may_return_classes_in_any_form(own: Path, monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    answer_with(monkeypatch, lambda labels: kind((labels + (torch.arange(360) % 4 == 0)) % 10))
    report = zoo.evaluate(zoo.create("own_net"), "digits")
    assert (report.correct, report.n, report.top1) == (270, 360, 75.0)
    assert (report.top5, report.loss) == (None, None)


def test_ranked_classes_have_a_top_5(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, lambda labels: (labels[:, None] - torch.tensor([4, 3, 2, 1, 0, 5])) % 10)
    report = zoo.evaluate(zoo.create("own_net"), "digits")
    assert (report.top1, report.top5) == (0.0, 100.0)
    answer_with(monkeypatch, lambda labels: (labels[:, None] - torch.tensor([4, 3, 2, 1, 5, 0])) % 10)
    assert zoo.evaluate(zoo.create("own_net"), "digits").top5 == 0.0


@pytest.mark.first(2)
@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda labels: 360, r"returned torch.int64 of shape \(\) for 360 images, expected logits \(images, classes\)"),
        (lambda labels: {"top1": 99.0}, "returned dict, expected logits"),
        (lambda labels: None, "returned NoneType, expected logits"),
        (lambda labels: torch.zeros(359, 10), r"returned torch.float32 of shape \(359, 10\) for 360 images"),
        (lambda labels: torch.zeros(360, 9), "returned logits of 9 classes for labels up to 9"),
        (lambda labels: torch.full((360, 10), float("nan")), "returned logits that contain NaN or infinity"),
        (lambda labels: labels - 1, "returned the class -1, expected numbers from 0 on"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    own: Path, monkeypatch: pytest.MonkeyPatch, returned: Callable[[Any], Any], message: str
) -> None:
    answer_with(monkeypatch, returned)
    with pytest.raises(PluginError, match=f"own_model:evaluate, which scores own_net, {message}"):
        zoo.evaluate(zoo.create("own_net"), "digits")


def test_the_mistakes_of_a_run_are_those_of_the_hook(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, lambda labels: (labels + (torch.arange(100) == 2)) % 10)
    words = ["train", "own_net", "--data", "digits", "--recipe", "default", "--set", "validation=100"]
    answer = ask(*words, "-o", own / "run")
    assert answer.exit_code == 0, answer.stderr
    assert "1 of 100 validation images are wrong" in answer.stderr
    [_, line] = (own / "run" / "mistakes.csv").read_text().splitlines()
    _, true, predicted, probability = line.split(",")
    assert (int(predicted), probability) == ((int(true) + 1) % 10, "")


def test_an_evaluate_hook_need_not_know_every_option_of_the_command(own: Path) -> None:
    zoo.train("own_net", "digits", recipe="default", output=own / "run")
    command = ["evaluate", "own_net", "--data", "digits", "--weights", own / "run" / "model.safetensors"]
    assert ask(*command).exit_code == 0
    with pytest.raises(UnknownNameError, match=r"which scores own_net, has no argument batchsize") as raised:
        zoo.evaluate(zoo.create("own_net"), "digits", batchsize=8)
    assert raised.value.hint == "Did you mean batch_size?"
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


@pytest.mark.slow
def test_the_default_hooks_record_is_the_runs_configuration(tmp_path: Path) -> None:
    settings = {"epochs": 1, "warmup_epochs": 0}
    zoo.train("resnet20", "digits", recipe="digits", settings=settings, output=tmp_path / "run", device="cpu")
    record = safetensors_file.metadata(tmp_path / "run" / "model.safetensors")["run"]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config.pop("source") == {"data": "digits"}  # a path of this machine, elsewhere
    assert record == config
    assert record["data"]["train"]["n"] == 1437


def test_a_hook_sees_no_labels(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import own_model  # of the fixture's distribution

    monkeypatch.setattr(own_model, "evaluate", lambda model, data, *, preprocess: data.labels)
    with pytest.raises(PluginError, match=r"own_model:evaluate failed for own_net: .*Images have no 'labels'"):
        zoo.evaluate(zoo.create("own_net"), "digits")
    monkeypatch.setattr(own_model, "evaluate", own_model.report)
    with pytest.raises(DataError, match="digits/test has no labels here"):
        zoo.evaluate(zoo.create("own_net"), "digits")


def test_a_report_is_no_answer(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = zoo.create("own_net")
    digits = zoo.data.load("digits", "test")
    report = zoo.evaluation.evaluate(model, digits, preprocess=model.zoo_info.preprocess)
    answer_with(monkeypatch, lambda labels: report)
    with pytest.raises(PluginError, match="own_model:evaluate returned a report on own_net, expected its answers"):
        zoo.evaluate(model, digits)


def test_images_without_labels_are_those_of_the_set() -> None:
    digits = zoo.data.load("digits", "test")
    alone = digits.without_labels()
    assert (len(alone), alone.classes, alone.channels) == (360, digits.classes, 1)
    assert alone.image(-1).tobytes() == digits.image(359).tobytes()
    assert alone.subset([5, 7]).image(1).tobytes() == digits.image(7).tobytes()
    read = zoo.data.ImageSet("digits", "test", digits.classes, digits.labels, read=digits.image, channels=1)
    assert read.without_labels().subset([5, 7]).image(1).tobytes() == digits.image(7).tobytes()
    transform = zoo.preprocess(zoo.create("resnet20.digits"))
    for whole, part in zip((digits, read), (alone, read.without_labels()), strict=True):
        expected = [images for images, _ in zoo.evaluation.batches(whole, transform, 100)]
        pairs = [*zoo.evaluation.batches(part, transform, 100)]
        assert all(torch.equal(first, second) for first, (second, _) in zip(expected, pairs, strict=True))
        assert {labels for _, labels in pairs} == {None}


OLD = {
    "logits": "zoo.evaluation.logits(model, data, preprocess=preprocess)",
    "its own forward": "model((data.pixels / 255).float())",
}


@pytest.mark.parametrize("answer", OLD.values(), ids=OLD)
def test_an_old_hook_that_answers_is_measured_as_before(
    answer: str, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import own_model  # of the fixture's distribution

    exec(f"def answer(model, data, *, preprocess):\n    return {answer}", vars(own_model))
    monkeypatch.setattr(own_model, "report", own_model.answer)
    model = zoo.create("own_net")
    report = zoo.evaluate(model, "digits")
    digits = zoo.data.load("digits", "test")
    expected = zoo.evaluation.evaluate(model, digits, preprocess=model.zoo_info.preprocess)
    assert (report.correct, report.stated_by, report.fingerprint) == (expected.correct, "", digits.fingerprint)


def test_an_old_hook_that_saw_the_labels_is_not_measured(
    old: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import own_model  # of the fixture's distribution

    monkeypatch.setattr(own_model, "report", lambda model, data, *, preprocess: data.labels)
    zoo.train("own_net", "digits", recipe="default", output=old / "run")
    report = zoo.evaluate(zoo.create("own_net", weights=old / "run" / "model.safetensors"), "digits")
    assert (report.top1, report.stated_by) == (100.0, "own_model:report")
    assert "is its own account, not measured" in caplog.text
    claimed = zoo.manifest.Score(n=360, source="somebody", top1=100.0)
    comparison = claims.check(report, claimed)
    assert (comparison.agrees, comparison.message.endswith("own_model:report, which saw the labels")) == (False, True)
    answer = ask("evaluate", "own_net", "--weights", old / "run" / "model.safetensors", "--data", "digits")
    assert "stated by" in answer.stdout
    words = ["publish", old / "run", "--as", "own_net.mine", "--to", old / "hub"]
    answer = ask(*words, "--evaluate", "digits", "--license", "weights=MIT", "--allow-uncommitted")
    assert (answer.exit_code, "own_model:report saw the labels of digits" in answer.stderr) == (1, True)

"""The command line: what it prints where, and what it exits with."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from click.testing import Result
from PIL import Image
from support import outputs
from support import pictures as pictures_of
from support.command import ask
from support.distributions import install, plugin, run
from support.signed import write_key
from support.terminal import draw
from torch import nn

import zoo
from zoo import registry
from zoo import results as tables
from zoo.cli import cli
from zoo.loading import safetensors_file

CLASSES = [f"kind{i}" for i in range(10)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image folder: three pictures of each of ten classes, in a train and a test split."""
    return pictures_of.write(tmp_path_factory.mktemp("data") / "pictures", CLASSES, {"train": 3, "test": 3})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """A resnet20 of random weights, and a safetensors file of them that describes itself."""
    torch.manual_seed(0)
    model = zoo.create("resnet20")
    file = tmp_path_factory.mktemp("trained") / "mine.safetensors"
    about = {"model": "resnet20", "classes": "pictures", "class_names": CLASSES, "num_classes": 10, "in_chans": 3}
    safetensors_file.write(model.state_dict(), file, about)
    return model.eval(), file


@pytest.fixture(scope="module")
def converted(trained: tuple[nn.Module, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted") / "hub"
    answer = ask("convert", trained[1], "resnet20.tiny", "-o", folder / "resnet20.tiny.safetensors")
    assert answer.exit_code == 0, answer.output
    return folder


@pytest.fixture
def hub(converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is a hub with ``resnet20.tiny``, probe included, made by ``zoo convert``; ZOO_HUB names it."""
    folder = shutil.copytree(converted, tmp_path / "hub")
    monkeypatch.setenv("ZOO_HUB", str(folder))
    registry.clear()
    yield folder
    registry.clear()


def claim(hub: Path, top1: float, where: str = "pictures/test") -> None:
    """Adds a claimed score to the hub's manifest."""
    with (hub / "manifest.toml").open("a") as stream:
        stream.write(f'\n[resnet20.tiny.scores."{where}"]\nn = 30\ntop1 = {top1}\nsource = "its author"\n')


# ---- what is asked often is answered at once ---------------------------------------------------------


@pytest.mark.parametrize(
    "words", [["list"], ["list", "resnet18.*"], ["info", "resnet18.tv_in1k"], ["plugins"], ["recipes"]]
)
def test_asking_imports_nothing_heavy(words: list[str]) -> None:
    process = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "zoo", *words], capture_output=True, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip() for line in process.stderr.splitlines() if "import time:" in line}
    assert "zoo.registry.registry" in imported
    assert not {"torch", "numpy", "rich", "fsspec", "huggingface_hub", "PIL", "zoo.cli.fetch"} & imported


def test_the_list_is_sorted_as_a_person_expects() -> None:
    names = [row["name"] for row in json.loads(ask("list", "resnet*", "--json").stdout)]
    assert names.index("resnet18") < names.index("resnet20") < names.index("resnet110") < names.index("resnet1202")
    assert [line.split()[0] for line in ask("list", "resnet*").stdout.splitlines()] == ["model", *names]


def test_the_list_shows_what_the_papers_say() -> None:
    """He et al. 2015 and Simonyan & Zisserman 2014, with torchvision's parameter counts."""
    rows = {row["name"]: row for row in json.loads(ask("list", "--json").stdout)}
    assert (rows["resnet152"]["params"], rows["resnet152"]["year"]) == (60_192_808, 2015)
    assert (rows["vgg16"]["params"], rows["vgg16"]["year"]) == (138_357_544, 2014)
    line = next(line for line in ask("list").stdout.splitlines() if line.startswith("resnet152 "))
    assert "60.2 M" in line
    assert "a1_in1k" in line


def test_filters_on_the_command_line() -> None:
    rows = json.loads(ask("list", "--max-params", "300k", "--family", "resnet", "--json").stdout)
    assert {"resnet8", "resnet20", "plain20"} == {row["name"] for row in rows}
    for spelling in ("--licence", "--license"):
        rows = json.loads(ask("list", spelling, "apache-2.0", "--json").stdout)
        assert rows
        assert {row["license"]["weights"] for row in rows} == {"Apache-2.0"}
    rows = json.loads(ask("list", "--dataset", "imagenet-1k", "--weights", "--family", "vgg", "--json").stdout)
    assert {row["classes"] for row in rows} == {"imagenet-1k"}


def test_weights_are_listed_with_their_score(hub: Path) -> None:
    claim(hub, 12.34)
    assert "12.34%" in ask("list", "resnet20.*").stdout
    row = next(row for row in json.loads(ask("list", "resnet20.*", "--json").stdout) if row["name"] == "resnet20.tiny")
    assert row["scores"]["pictures/test"]["top1"] == 12.34


def test_what_is_not_pinned_is_marked() -> None:
    unpinned = [row["name"] for row in json.loads(ask("list", "--weights", "--json").stdout) if not row["pinned"]]
    arch, _, tag = unpinned[0].partition(".")
    assert f"{tag}*" in next(line for line in ask("list").stdout.splitlines() if line.startswith(f"{arch} "))
    line = next(line for line in ask("list", unpinned[0]).stdout.splitlines() if line.startswith(unpinned[0]))
    assert "not pinned" in line


def test_a_pipe_gets_whole_lines_and_a_terminal_a_table() -> None:
    piped = run("list", "resnet50", COLUMNS="20")
    assert "\x1b" not in piped.stdout
    assert len(piped.stdout.splitlines()) == 2
    drawn = draw([sys.executable, "-m", "zoo", "list", "resnet20"], columns=80).terminal
    assert b"\x1b[1mmodel" in drawn
    assert b"resnet20" in drawn


def test_info_tells_all_that_is_known() -> None:
    told = ask("info", "resnet18.tv_in1k").stdout
    known = json.loads(ask("info", "resnet18.tv_in1k", "--json").stdout)
    assert known == json.loads(json.dumps(zoo.info("resnet18.tv_in1k")))
    weights = known["weights"][0]
    for fact in (known["paper"]["title"], f"{known['params']:,}", weights["sha256"], weights["revision"]):
        assert fact in told
    assert "on imagenet-1k/validation" in told


# ---- errors ---------------------------------------------------------------------------------------------


@pytest.mark.first(8)
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["info", "resnt20"], 2, "error: Unknown model 'resnt20'.\nhint: Did you mean resnet20"),
        (["info", "ResNet"], 2, "error: 'ResNet' is not a model name."),
        (["fetch", "resnet20.nope"], 2, "error: Unknown weights 'resnet20.nope'."),
        (["fetch", "resnet1202"], 1, "error: resnet1202 has no weights."),
        (["verify", "resnet18.tv_in1k"], 1, "error: resnet18.tv_in1k is not in the cache.\nhint: zoo fetch resnet18"),
        (["list", "--family", "vgh"], 2, "error: Unknown family 'vgh'.\nhint: Did you mean vgg?"),
        (["lst"], 2, "No such command 'lst'. Did you mean 'zoo list'?"),
        (["list", "--max-params", "many"], 2, "'many' is not a number such as"),
        (["list", "--no-such-option"], 2, "No such option"),
        (["predict", "resnet20", "no-such-file.png"], 1, "error: no-such-file.png: no such file."),
        (["train", "resnet20", "--data", "digits", "-o", "x", "--set", "lr"], 2, "'lr' is not KEY=VALUE"),
        (["train", "resnet20", "--data", "digits"], 2, "Missing option '-o' / '--output'"),
        (["train", "resnet20", "--data", "./nowhere", "-o", "x"], 1, "/nowhere: no such file or folder."),
        (
            ["train", "resnet20", "--data", "digit", "-o", "x"],
            2,
            "data set 'digit'.\nhint: Did you mean digits or five_digits?",
        ),
        (
            ["train", "resnet20", "--data", "digits", "-o", "x", "--set", "weight_deca=1e-4"],
            2,
            "error: Recipe 'digits' has no field 'weight_deca'.\nhint: Did you mean weight_decay?",
        ),
        (["train", "resnet20", "--data", "digits", "-o", "x", "--recipe", "digit"], 2, "hint: Did you mean digits?"),
        (["reproduce", "resnet20.digit"], 2, "error: Unknown weights 'resnet20.digit'.\nhint: Did you mean"),
        (["recipes", "resnet2"], 2, "error: Unknown model 'resnet2'.\nhint: Did you mean"),
        (["evaluate", "resnet20", "--device", "abacus"], 2, "'abacus' cannot be used"),
        (["completion", "tcsh"], 2, "'tcsh' is not one of"),
    ],
)
def test_an_error_is_a_message_and_an_exit_code(words: list[str], code: int, message: str) -> None:
    answer = ask(*words)
    assert message in answer.stderr
    assert (answer.exit_code, answer.stdout) == (code, "")


def test_a_traceback_is_shown_under_debug_alone() -> None:
    plain, debug = run("info", "resnt20"), run("--debug", "info", "resnt20")
    assert (plain.returncode, debug.returncode) == (2, 2)
    assert "Traceback" not in plain.stderr
    assert "Traceback" in debug.stderr
    assert debug.stderr.endswith(plain.stderr)


def test_a_reader_that_leaves_early_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run([sys.executable, "-m", "zoo", "list"], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert process.stderr == ""


# ---- plugins ----------------------------------------------------------------------------------------------


def test_a_plugins_words_do_not_steer_the_terminal(tmp_path: Path) -> None:
    install(tmp_path, "zoo-a", {"a": "a_plugin:plugin"}, {"a_plugin.py": "raise ValueError('\\x1b[2J\\nfake row')"})
    assert "\x1b" not in run("plugins", site=tmp_path).stdout
    assert not any(line.startswith("fake row") for line in run("plugins", site=tmp_path).stdout.splitlines())


# ---- weights ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_verify_finds_a_network_that_computes_something_else(hub: Path) -> None:
    ask("fetch", "resnet20.tiny")
    manifest = hub / "manifest.toml"
    manifest.write_text(manifest.read_text().replace("logits = [\n    [", "logits = [\n    [9"))
    answer = ask("verify", "resnet20.tiny", "--json", "--failures", hub / "failures")
    assert answer.exit_code == 1
    assert [row["ok"] for row in json.loads(answer.stdout)] == [False]
    assert "The network's logits differ from the probe's" in answer.stderr
    kept = hub / "failures" / "resnet20.tiny"
    assert str(kept) in answer.stderr
    assert safetensors_file.read(kept / "outputs.safetensors")["noise.logits"].shape == (2, 10)
    report = (kept / "report.txt").read_text()
    assert "logits: FAILS" in report
    assert "logits of the photograph: passes" in report


BROKEN = """
import os, time
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.fc = nn.Linear(3, num_classes)

    def forward(self, x):
        DO
        return self.fc(x.mean((2, 3)))

def build(num_classes, in_chans):
    return Net(num_classes)
"""


def install_broken(folder: Path, hub: Path, does: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetches ``bad_net.x``, a network that ``does`` something else before it computes."""
    files = {"bad.py": plugin("bad", "bad_net"), "bad_model.py": BROKEN.replace("DO", does)}
    install(folder, "zoo-bad", {"bad": "bad:plugin"}, files)
    monkeypatch.syspath_prepend(str(folder))
    file = hub / "bad_net.x.safetensors"
    digest = safetensors_file.write(nn.Linear(3, 2).state_dict(prefix="fc."), file, {})
    with (hub / "manifest.toml").open("a") as stream:
        stream.write(f'\n[bad_net.x]\nfile = "{file.name}"\nhub = "{hub}"\nsha256 = "{digest}"\nnum_classes = 2\n')
        stream.write("[bad_net.x.probe]\nlogits = [[1.0, 2.0]]\n")
    registry.clear()
    assert ask("fetch", "bad_net.x", "resnet20.tiny").exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "on_the_path",
    [pytest.param(False, id="as a program", marks=pytest.mark.slow), pytest.param(True, id="as in a notebook")],
)
def test_verify_imports_nothing_from_the_working_directory(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_the_path: bool
) -> None:
    ask("fetch", "resnet20.tiny")
    stick = tmp_path / "stick"
    stick.mkdir()
    for name in ("msgspec", "json", "zoo_resnet", "sitecustomize"):
        (stick / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})")
    monkeypatch.chdir(stick)
    if on_the_path:
        monkeypatch.setattr(sys, "path", ["", *sys.path])
    from zoo.verify import worker

    assert worker.verify("resnet20.tiny").weights == "resnet20.tiny"
    assert not (tmp_path / "ran").exists()


def test_a_network_that_hangs_is_ended(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_broken(tmp_path / "site", hub, "time.sleep(60)", monkeypatch)
    answer = ask("verify", "bad_net.x", "--timeout", "2")
    assert answer.exit_code == 1
    assert "took more than 2 s and was stopped" in answer.stderr


@pytest.mark.slow
def test_verify_all_takes_in_what_ships_along(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [row.name for row in registry.current().plugins if row.name != "targetprop"]
    monkeypatch.setenv("ZOO_DISABLE_PLUGINS", ",".join(others))
    registry.clear()
    answer = ask("verify", "--embedded", "--deep", "--json")
    assert answer.exit_code == 0, answer.stderr
    rows = json.loads(answer.stdout)
    assert [row["name"] for row in rows] == ["dtp_mlp.mnist", "dtp_mlp.mnist_50k", "dtp_mlp.mnist_backprop"]
    assert all(row["difference"] <= row["allowed"] for row in rows)


def test_verify_of_an_empty_cache_says_so() -> None:
    answer = ask("verify")
    assert answer.exit_code == 0
    assert "The cache holds no weights" in answer.stderr


def test_convert_reports_what_became_of_every_tensor(trained: tuple[nn.Module, Path], tmp_path: Path) -> None:
    state = {f"module.{name}": tensor for name, tensor in trained[0].state_dict().items() if "num_batches" not in name}
    state = {name.replace("module.fc.", "module.linear."): tensor for name, tensor in state.items()}
    torch.save({"state_dict": state}, tmp_path / "theirs.th")
    out = tmp_path / "out" / "resnet20.theirs.safetensors"
    answer = ask("convert", tmp_path / "theirs.th", "resnet20", "--from", "akamaster", "-o", out, "--json")
    assert answer.exit_code == 0, answer.stderr
    report = json.loads(answer.stdout)
    assert report["weights"] == "resnet20.theirs"
    assert len(report["renamed"]) == len(state)
    assert len(report["added"]) == 19  # one counter for each of its 19 batch normalisations
    assert not report["dropped"]
    told = ask("convert", tmp_path / "theirs.th", "resnet20", "--from", "akamaster", "-o", out, "--overwrite").stdout
    assert f"{len(state)} renamed, 19 added" in told
    assert "[resnet20.theirs]" in told
    unknown = ask("convert", tmp_path / "theirs.th", "resnet20", "-o", out, "--from", "nobody")
    assert unknown.exit_code == 2
    assert "Unknown key map 'nobody'" in unknown.stderr


# ---- inference ------------------------------------------------------------------------------------------------


def test_predict_names_classes_with_their_probabilities(trained: tuple[nn.Module, Path], pictures: Path) -> None:
    model, weights = trained
    picture = pictures / "test" / "kind3" / "0.png"
    with torch.no_grad():
        expected = model(zoo.preprocess(model)(Image.open(picture))[None]).softmax(1)[0].sort(descending=True)
    answer = ask("predict", "resnet20", picture, "--weights", weights, "-k", 3, "--json")
    assert answer.exit_code == 0, answer.stderr
    (row,) = json.loads(answer.stdout)["predictions"]
    assert [found["class"] for found in row["classes"]] == [CLASSES[i] for i in expected.indices[:3]]
    assert [found["probability"] for found in row["classes"]] == pytest.approx(expected.values[:3].tolist(), rel=1e-4)
    told = ask("predict", "resnet20", picture, "--weights", weights, "-k", 99).stdout.splitlines()
    assert told[0] == str(picture)
    assert len(told) == 1 + 10
    assert told[1].split() == [f"{expected.values[0]:.2%}", CLASSES[expected.indices[0]]]


def test_evaluate_reports_what_was_measured_on_what(hub: Path, trained: tuple[nn.Module, Path], pictures: Path) -> None:
    answer = ask("evaluate", "resnet20.tiny", "--data", pictures, "--json")
    assert answer.exit_code == 0, answer.stderr
    report = json.loads(answer.stdout)
    asked = {"model", "weights", "dataset", "split", "fingerprint", "n", "correct", "top1", "top5", "interval", "loss"}
    assert asked <= set(report)
    assert (report["weights"], report["dataset"], report["split"], report["n"]) == (
        "resnet20.tiny",
        "pictures",
        "test",
        30,
    )
    model = trained[0]
    files = sorted((pictures / "test").rglob("*.png"))
    with torch.no_grad():
        logits = model(torch.stack([zoo.preprocess(model)(Image.open(file)) for file in files]))
    labels = torch.tensor([CLASSES.index(file.parent.name) for file in files])
    assert report["correct"] == int((logits.argmax(1) == labels).sum())
    assert report["top1"] == pytest.approx(100 * report["correct"] / 30)
    assert report["loss"] == pytest.approx(float(nn.functional.cross_entropy(logits, labels)), rel=1e-4)
    low, high = report["interval"]
    assert low <= report["top1"] <= high
    again = ask("evaluate", "resnet20", "--data", pictures, "--weights", trained[1])
    assert f"top-1       {report['top1']:.3f}%  ({report['correct']} of 30" in again.stdout
    assert f"mean class  {report['mean_class']:.3f}%" in again.stdout
    assert report["fingerprint"] in again.stdout


@pytest.mark.first(1)
@pytest.mark.parametrize(("distance", "code", "words"), [(60, 1, "does not agree"), (0, 0, "agrees")])
def test_check_compares_with_the_claim(hub: Path, pictures: Path, distance: float, code: int, words: str) -> None:
    top1 = json.loads(ask("evaluate", "resnet20.tiny", "--data", pictures, "--json").stdout)["top1"]
    claim(hub, (top1 + distance) % 100)
    answer = ask("evaluate", "resnet20.tiny", "--data", pictures, "--check")
    assert answer.exit_code == code
    assert words in answer.stdout
    report = json.loads(ask("evaluate", "resnet20.tiny", "--data", pictures, "--check", "--json").stdout)
    assert report["check"]["agrees"] == (code == 0)


def test_check_needs_a_claim(hub: Path, pictures: Path, trained: tuple[nn.Module, Path]) -> None:
    answer = ask("evaluate", "resnet20.tiny", "--data", pictures, "--check")
    assert answer.exit_code == 1
    assert "claims no score of resnet20.tiny" in answer.stderr
    claim(hub, 50, where="other/test")
    answer = ask("evaluate", "resnet20.tiny", "--data", pictures, "--check")
    assert answer.exit_code == 1
    assert "It claims scores on other/test." in answer.stderr
    answer = ask("evaluate", "resnet20", "--data", pictures, "--weights", trained[1], "--check")
    assert answer.exit_code == 2


# ---- training ---------------------------------------------------------------------------------------------------


TRAIN = ["train", "resnet20", "--recipe", "default", "--set", "batch_size=10", "--set", "precision=float32"]


@pytest.mark.slow
def test_ctrl_c_keeps_a_checkpoint_and_says_how_to_go_on(pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="needs zoo-vision[train]")
    output = tmp_path / "run"
    words = [*TRAIN, "--data", str(pictures), "--set", "epochs=9999", "-o", str(output)]
    with subprocess.Popen(
        [sys.executable, "-m", "zoo", *words],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any(line.startswith("epoch   1") for line in lines)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(60) == 130
    assert "Traceback" not in said
    assert f"Interrupted. The checkpoint is {output / 'checkpoint.safetensors'}; continue with" in said
    assert said.rstrip().endswith(f"zoo train --resume -o {output}")
    assert (output / "checkpoint.safetensors").exists()


# ---- completion, and JSON everywhere ------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_completion_script_is_for_its_shell(shell: str) -> None:
    answer = ask("completion", shell)
    assert answer.exit_code == 0
    assert f"_ZOO_COMPLETE={shell}_complete" in answer.stdout


@pytest.mark.first(2)
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("zoo pl", {"plugins"}),
        ("zoo info resnet15", {"resnet152"}),
        ("zoo fetch resnet20.ti", {"resnet20.tiny"}),
        ("zoo list --family v", {"vgg"}),
        ("zoo evaluate --dt", {"--dtype"}),
    ],
)
def test_a_shell_completes_commands_options_and_names(hub: Path, typed: str, offered: set[str]) -> None:
    words = typed.split()
    process = run(_ZOO_COMPLETE="bash_complete", COMP_WORDS=typed, COMP_CWORD=str(len(words) - 1))
    assert {line.partition(",")[2] for line in process.stdout.splitlines()} == offered


@pytest.mark.first(1)
@pytest.mark.parametrize("option", ["--licence", "--license"])
def test_weights_are_listed_by_a_pattern_of_their_own_licence(option: str) -> None:
    rows = json.loads(ask("list", option, "cc-by-NC*", "--json").stdout)
    assert {row["license"]["weights"] for row in rows} == {"CC-BY-NC-4.0"}
    assert len(rows) == 4  # Facebook's semi-supervised ResNet-18 and ResNet-50
    apache = json.loads(ask("list", option, "apache*", "--json").stdout)
    assert {row["license"]["weights"] for row in apache} == {"Apache-2.0"}
    assert json.loads(ask("list", option, "nobody's", "--json").stdout) == []


def test_info_shows_licences_papers_and_scores_with_their_intervals() -> None:
    from scipy.stats import binomtest

    told = ask("info", "resnet50.am_in1k").output
    for text in ("weights Apache-2.0", "code Apache-2.0", "training data ImageNet terms", "arxiv.org/abs/1912.02781"):
        assert text in told
    for top1, n in ((79.004, 50_000), (85.131, 46_837), (66.72, 10_000)):  # the set, ReaL labels, ImageNetV2
        expected = binomtest(round(top1 * n / 100), n).proportion_ci(0.95, method="wilson")
        assert f"{top1:g}% ({100 * expected.low:.2f} to {100 * expected.high:.2f})" in told
    assert "timm results-imagenet-real.csv" in told
    assert "lock" not in told


def test_info_says_how_images_are_prepared() -> None:
    told = ask("info", "sift_bovw_knn.caltech101").stdout
    assert "3 x 140 x 140, crop 1 (squash), bilinear" in told
    assert "turned as their EXIF says, and laid on white where they are transparent" in " ".join(told.split())
    assert "crop 0.875, bilinear" in ask("info", "resnet18.tv_in1k").stdout
    assert "std [0.00392157, 0.00392157, 0.00392157]" in ask("info", "resnet8").stdout  # 1/255


@pytest.mark.parametrize("takes_seconds", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_command_prints_one_json_document(
    takes_seconds: bool,
    hub: Path,
    trained: tuple[nn.Module, Path],
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # where zoo.lock goes
    key = write_key(tmp_path / "lab.pem")
    picture = pictures / "test" / "kind0" / "0.png"
    tables.write(tmp_path / "runs", [], [])
    stored = outputs.write(tmp_path / "outputs.safetensors", *outputs.sample(100, 2.0))
    answers: dict[str, Callable[[], Result]] = {
        "list": lambda: ask("list", "--json"),
        "info": lambda: ask("info", "resnet20", "--json"),
        "plugins": lambda: ask("plugins", "--json"),
        "completion": lambda: ask("completion", "fish", "--json"),
        "fetch": lambda: ask("fetch", "resnet20.tiny", "--json"),
        "experiment": lambda: ask("experiment", "degradation", "--json"),
        "data": lambda: ask("data", "check", pictures, "--json"),
        "verify": lambda: ask("verify", "resnet20.tiny", "--json"),
        "manifest pin": lambda: ask("manifest", "pin", "resnet20.digits", "--json"),
        "lock": lambda: ask("lock", "resnet20.tiny", "--json"),
        "manifest sign": lambda: ask("manifest", "sign", hub, "--key", key, "--json"),
        "manifest verify-signature": lambda: ask(
            "manifest", "verify-signature", hub, "--key", key.with_suffix(".pub"), "--json"
        ),
        "cache": lambda: ask("cache", "list", "--json"),
        "predict": lambda: ask("predict", "resnet20.tiny", picture, "--json"),
        "evaluate": lambda: ask("evaluate", "resnet20.tiny", "--data", pictures, "--json"),
        "calibrate": lambda: ask("calibrate", stored, "--hold-out", "50", "--json"),
        "bulk": lambda: ask("bulk", "benchmark", "resnet8", "--steps", "5", "-o", tmp_path / "bulk", "--json"),
        "audit": lambda: ask("audit", "resnet20.digits", "--data", "digits", "--json"),
        "benchmark": lambda: ask(
            "benchmark", "resnet8", "--batch-size", "1", "--warmup", "1", "--steps", "5", "--json"
        ),
        "export": lambda: ask("export", "resnet20.tiny", "-o", tmp_path / "tiny.pt2", "--json"),
        "convert": lambda: ask("convert", trained[1], "resnet20", "-o", tmp_path / "new.safetensors", "--json"),
        "manifest probe": lambda: ask("manifest", "probe", hub / "manifest.toml", "--json"),
        "publish": lambda: ask("publish", trained[1], "--as", "resnet20.x", "--to", tmp_path / "there", "--json"),
        "train": lambda: ask(*TRAIN, "--set", "epochs=1", "--data", pictures, "-o", tmp_path / "run", "--json"),
        "recipes": lambda: ask("recipes", "--json"),
        "results": lambda: ask("results", "show", tmp_path / "runs" / "results.csv", "--json"),
        "attack": lambda: ask("attack", "curve", "resnet20.tiny", "--data", pictures, "--attack", "fgsm", "--json"),
        "features": lambda: ask(
            "features", "resnet20.tiny", "--data", pictures, "-o", tmp_path / "f.safetensors", "--json"
        ),
        "classify": lambda: ask("classify", tmp_path / "f.safetensors", "--classifier", "knn", "--json"),
        "choose": lambda: ask("choose", "--data", pictures, "--among", "resnet20.digits", "--json"),
        "look": lambda: ask("look", "layers", "resnet20", "--json"),
        "course": lambda: ask("course", "--json"),
        "gallery": lambda: ask("gallery", "build", "resnet20", "-o", tmp_path / "site", "--json"),
        "reproduce": lambda: ask("reproduce", tmp_path / "run", "--data", pictures, "-o", tmp_path / "again", "--json"),
    }
    assert {command.partition(" ")[0] for command in answers} == set(cli.list_commands(None))  # type: ignore[arg-type]
    for command in [command for command in answers if (command in ("bulk", "export")) == takes_seconds]:
        got = answers[command]()
        assert got.exit_code == 0, (command, got.stderr)
        assert isinstance(json.loads(got.stdout), dict | list), command


@pytest.mark.slow
def test_what_a_family_prints_does_not_spoil_the_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = (
        "from torch import nn\ndef build(num_classes, in_chans):\n    print('building')\n    return nn.Linear(2, 2)\n"
    )
    install(
        tmp_path, "zoo-loud", {"loud": "loud:plugin"}, {"loud.py": plugin("loud", "loud_net"), "loud_model.py": model}
    )
    file = tmp_path / "w.safetensors"
    safetensors_file.write(nn.Linear(2, 2).state_dict(), file, {"model": "loud_net"})
    picture = tmp_path / "p.png"
    Image.new("RGB", (8, 8)).save(picture)
    process = run("predict", "loud_net", str(picture), "--weights", str(file), "--json", site=tmp_path)
    assert "building" in process.stderr
    assert "building" not in process.stdout


def test_python_m_zoo_imports_nothing_from_the_working_directory(tmp_path: Path) -> None:
    """``zoo`` itself never did; with ``-m``, Python puts the working directory first."""
    import subprocess

    for name in ("click", "msgspec", "io", "tomllib"):
        (tmp_path / f"{name}.py").write_text("print('from the working directory')")
    words = [sys.executable, "-m", "zoo", "--version"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "from the working directory" not in done.stdout

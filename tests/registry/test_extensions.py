"""What plugins bring apart from models, through the commands and functions that use it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import extended
from support.command import ask_warm as ask

import zoo
from zoo.errors import AmbiguousNameError, DataError, ExportError, PluginError, SpecError, UnknownNameError
from zoo.spec import AttackMethod, ExportPass, Plugin, Reader
from zoo.testing import CheckError, checks_of
from zoo_export import network as exported


def run(*words: object) -> str:
    answer = ask(*words)
    assert answer.exit_code == 0, answer.stderr
    return answer.stdout


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return extended.install(tmp_path, monkeypatch)


# ---- attacks ----


def test_an_attack_runs_by_its_name_within_the_ball(site: Path) -> None:
    words = ("attack", "curve", "resnet20.digits", "--data", "digits", "--limit", 40, "--epsilons", "0,0.25,1")
    [curve] = json.loads(run(*words, "--attack", "darken", "--json"))
    assert curve["method"]["name"] == "darken"
    accuracies = [point["accuracy"] for point in curve["points"]]
    assert accuracies[0] == 100
    assert accuracies[2] < 50  # all black
    images = torch.rand(4, 1, 8, 8)
    model = zoo.create("resnet20.digits")
    from zoo_attack.gradient import perturb

    changed = perturb(model, images, torch.zeros(4, dtype=torch.int64), 0.25, zoo.attack.Method("darken"))
    torch.testing.assert_close(changed, (images - 0.25).clamp(min=0))


def test_a_name_of_zoos_own_attack_is_addressed_in_full_and_has_its_norm(site: Path) -> None:
    assert zoo.attack.Method("pgd").own is None
    assert zoo.attack.Method("pet/pgd").norm == "l2"
    words = ("attack", "curve", "resnet20.digits", "--data", "digits", "--attack", "pet/pgd", "--attack", "fgsm")
    answer = ask(*words)
    assert answer.exit_code == 2
    assert "pet/pgd measures epsilon in another norm" in answer.stderr


def test_attacks_are_listed_and_suggested(site: Path) -> None:
    assert "|random_sign|darken|pet/pgd]" in "".join(run("attack", "curve", "--help").split())
    answer = ask("attack", "image", "resnet20.digits", __file__, "--attack", "darkn")
    assert (answer.exit_code, "hint: Did you mean darken?" in answer.stderr) == (2, True)
    with pytest.raises(UnknownNameError, match="Unknown attack method 'brighten'") as raised:
        zoo.attack.Method("brighten")
    assert "fgsm, pgd, pgd_l2, autoattack, random_sign, darken, pet/pgd" in raised.value.hint


@pytest.mark.first(2)
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("images[:1]", r"pet_hooks:darken returned torch.float32 \(1, 1, 8, 8\), expected the images torch.float32"),
        ("images * float('nan')", "returned images that contain NaN or infinity"),
        ("None", "returned NoneType, expected the images"),
        ("images + {}", "pet_hooks:darken failed for darken: TypeError"),
    ],
)
def test_an_attack_that_returns_no_images_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str
) -> None:
    extended.install(tmp_path, monkeypatch, ("images - 10 * epsilon * method.steps", body))
    with pytest.raises(PluginError, match=message):
        zoo.attack.curve("resnet20.digits", "digits", "darken", [0.1], limit=10)


# ---- questions ----


@pytest.mark.slow
def test_a_question_is_a_command(site: Path, tmp_path: Path) -> None:
    shown = run("look", "--help")
    assert "From plugins:" in shown
    assert "norms            Measure the norms of parameters." in shown
    files = [tmp_path / f"norms{suffix}" for suffix in (".png", ".json", ".safetensors")]
    words = ["look", "norms", "resnet20.digits", "--layer", "fc", "--set", "order=1"]
    told = run(*words, *(word for file in files for word in ("-o", file)))
    assert "Norms of order 1 with no image" in told
    assert all(file.stat().st_size for file in files)
    about = json.loads(files[1].read_text())
    fc = zoo.create("resnet20.digits").get_classifier()
    assert about["largest"] == pytest.approx(
        max(float(part.detach().abs().sum()) for part in fc.parameters()), abs=1e-3
    )
    assert "with an image" in run("look", "norms", "resnet20.digits", "--index", 0)


def test_a_question_of_zoos_own_name_is_addressed_in_full(site: Path) -> None:
    assert "Norms of order 2" in run("look", "pet/features", "resnet20.digits")
    assert "Show a layer's output" in run("look", "features", "--help")
    assert ask("look", "norm", "resnet20.digits").stderr.rstrip().endswith("Did you mean 'zoo look norms'?")


def test_a_question_leaves_the_network_as_it_was_and_says_what_it_takes(site: Path) -> None:
    network = zoo.create("resnet20.digits").train()
    found = zoo.look.ask("norms", network)
    assert isinstance(found, zoo.look.Look)
    assert network.training
    with pytest.raises(PluginError, match="pet_hooks:norms of norms takes no argument 'ordr'"):
        zoo.look.ask("norms", network, options={"ordr": 1})
    with pytest.raises(UnknownNameError, match="Unknown look question 'norm'"):
        zoo.look.ask("norm", network)


# ---- export passes ----


@pytest.mark.slow
def test_a_pass_changes_what_is_exported_and_is_recorded(site: Path, tmp_path: Path) -> None:
    file = tmp_path / "digits.pt2"
    network = zoo.create("resnet20.digits")
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    made = zoo.export(network, file, passes=["same"])
    assert made.about.passes == ("same",)
    assert exported.open_file(file).zoo_info.classes == "digits"
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    told = run("export", "resnet20.digits", "-o", tmp_path / "again.pt2", "--pass", "same")
    assert "passes" in told


@pytest.mark.slow
def test_a_pass_that_changes_the_outputs_leaves_no_file(site: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError):
        zoo.export("resnet20.digits", tmp_path / "digits.pt2", passes=["zero"])
    assert not list(tmp_path.glob("*.pt2"))
    answer = ask("export", "resnet20.digits", "-o", tmp_path / "digits.pt2", "--pass", "fuse")
    assert (answer.exit_code, "Available: same, zero." in answer.stderr) == (2, True)


# ---- readers ----


@pytest.mark.parametrize("address", ["{}", "npz:{}"])
def test_a_reader_reads_its_files_and_addresses_everywhere(
    site: Path, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = zoo.data.load("digits", "test")
    file = tmp_path / "digits.npz"
    np.savez(file, pixels=digits.pixels.numpy(), labels=digits.labels.numpy())
    name = address.format(file)
    assert zoo.data.load(name, "train").fingerprint == digits.fingerprint
    assert zoo.data.splits(name) == ["train", "test"]
    assert zoo.data.address(name) == name
    assert zoo.data.open_stream(name) is None
    assert json.loads(run("evaluate", "resnet20.digits", "--data", name, "--json"))["correct"] == 360
    with pytest.raises(DataError, match="no split 'validation'"):
        zoo.data.load(name, "validation")


def test_a_file_that_nobody_reads_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "digits.npz"
    file.write_bytes(b"")
    with pytest.raises(DataError, match="not a data set"):
        zoo.data.load(file)


# ---- names ----


def test_what_third_parties_contest_is_addressed_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extended.install(tmp_path, monkeypatch, names=("pet", "rival"))
    for look_up in (
        lambda: zoo.attack.Method("darken"),
        lambda: zoo.look.ask("norms", "resnet20.digits"),
        lambda: zoo.export("resnet20.digits", tmp_path / "x.pt2", passes=["same"]),
    ):
        with pytest.raises(AmbiguousNameError) as raised:
            look_up()
        assert "Use pet/" in raised.value.hint
        assert "rival/" in raised.value.hint
    assert zoo.attack.Method("rival/darken").own is not None
    assert "pet/norms" in run("look", "--help")


BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: AttackMethod("Darken", run="a:b"), "a name has lower case letters"),
    (lambda: AttackMethod("darken", run="a"), "must have the form 'package.module:function'"),
    (lambda: AttackMethod("darken", run="a:b", norm="l1"), "norm = 'l1'"),  # type: ignore[arg-type]  # it is wrong
    (lambda: Reader("npz", run="a:b"), "expected suffixes or a prefix"),
    (lambda: Reader("npz", run="a:b", suffixes=("npz",)), "suffix 'npz' must begin with a dot"),
    (lambda: Reader("npz", run="a:b", prefix="npz"), "must be a name and a colon"),
    (lambda: Plugin("p", 1, exports=(ExportPass("a", "a:b"), ExportPass("a", "a:c"))), "have one name: a, a"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_a_row_that_cannot_be_right_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make()


def test_they_are_listed_without_torch(site: Path) -> None:
    code = (
        "import sys; from zoo.registry import extensions; print(extensions.names_in('attacks'), 'torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['darken', 'pgd'] False"


def test_the_conformance_kit_calls_no_hook_that_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extended.install(tmp_path, monkeypatch)
    [check] = [check for check in checks_of("pet") if check.name == "plugin-extensions"]
    check()
    extended.install(tmp_path / "other", monkeypatch, ("def same(network)", "def same(network, model)"), names=("cat",))
    [check] = [check for check in checks_of("cat") if check.name == "plugin-extensions"]
    with pytest.raises(CheckError, match="cat_hooks:same of same needs an argument 'model', which is not passed"):
        check()

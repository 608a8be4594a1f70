"""``zoo plugins check``: what it prints about a plugin that is wrong, what it fixes, and how it tries a wheel."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support import specimen

from zoo import registry, scaffold
from zoo.cli import cli
from zoo.testing import wheel

ROW = "params=4 * 3 * 9 + 8 + 4 * 5 + 5"


def ask(*words: object) -> Result:
    return CliRunner().invoke(cli, ["plugins", "check", *map(str, words)], prog_name="zoo")


def test_a_plugin_without_faults_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specimen.install(tmp_path, monkeypatch)
    done = ask("specimen")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("specimen: 32 passed, 2 inapplicable (4 costly ones were left out: --slow)")
    slow = ask("specimen", "--slow", "--json")
    assert json.loads(slow.stdout)["passed"] == 35
    assert json.loads(slow.stdout)["left_out"] == 0


@pytest.mark.slow
def test_a_failure_names_model_field_line_and_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = specimen.install(tmp_path, monkeypatch, ("nn.BatchNorm2d(4)", "nn.BatchNorm3d(4)"))
    done = ask("specimen")
    assert done.exit_code == 1
    assert "net: forward_features: ValueError: expected 5D input (got 4D input)" in done.stdout
    assert f"at {package}/model.py:" in done.output
    assert "more checks fail." in done.output
    assert "Traceback" not in done.output
    assert "Traceback (most recent call last)" in ask("specimen", "--traceback").output
    (first, *_) = [one for one in json.loads(ask("specimen", "--json").stdout)["checks"] if one["status"] == "failed"]
    assert (first["of"], first["field"]) == ("net", "forward_features")
    assert "in forward_features" in first["traceback"]


def test_fix_writes_the_numbers_that_were_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The specimen has 4 filters of 3 x 3 x 3, a normalisation of 4 and a linear layer 4 to 5."""
    package = specimen.install(
        tmp_path, monkeypatch, (ROW, "params=7"), ("            macs=4 * 3 * 9 * 64 + 4 * 5,\n", "")
    )
    done = ask("specimen", "--fix")
    assert done.exit_code == 0, done.output
    text = (tmp_path / package / "__init__.py").read_text()
    assert f"params={4 * 27 + 2 * 4 + 4 * 5 + 5}," in text
    assert 'build="' + package + '.model:build",\n            macs=6_932,\n' in text
    assert registry.current().find("net").model.macs == 4 * 27 * 64 + 4 * 5
    assert "params = 141, was 7" in done.output
    again = ask("specimen", "--fix", "--json")
    assert json.loads(again.stdout)["changes"] == []


def test_fix_prints_numbers_that_are_computed_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = specimen.install(tmp_path, monkeypatch, (ROW, f"{ROW} + 1"))
    before = (tmp_path / package / "__init__.py").read_text()
    done = ask("specimen", "--fix")
    assert done.exit_code == 1
    assert "Its numbers are params=141." in done.output
    assert (tmp_path / package / "__init__.py").read_text() == before


def test_without_a_name_it_is_the_plugin_of_this_folder(
    inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = ask()
    assert nothing.exit_code == 2
    assert "There is no pyproject.toml in this folder" in nothing.output
    specimen.install(tmp_path, monkeypatch)
    (inside / "pyproject.toml").write_text(f'[project.entry-points."{registry.GROUP}"]\nspecimen = "x:plugin"\n')
    assert ask().output.startswith("specimen: 32 passed, 2 inapplicable")
    (inside / "pyproject.toml").write_text("[project]\n")
    assert "has not exactly one entry point" in ask().output


# ---- wheels ------------------------------------------------------------------------------------------------


def build(folder: Path) -> Path:
    words = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run(words, cwd=folder, capture_output=True, check=True)
    (wheel,) = (folder / "dist").iterdir()
    return wheel


def test_a_file_that_is_not_a_wheel_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_text("no archive")
    assert "x.whl is not a wheel" in ask(tmp_path / "x.whl").output
    assert ask(tmp_path / "y.whl").exit_code == 2
    assert ask(tmp_path / "x.whl", "--fix").exit_code == 2


def test_a_wheel_without_the_entry_point_fails(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="needs hatchling")
    scaffold.write("pet", tmp_path / "pet")
    project = tmp_path / "pet" / "pyproject.toml"
    project.write_text(project.read_text().replace('"zoo.plugins"', '"zoo.plugin"'))
    done = ask(build(tmp_path / "pet"))
    assert done.exit_code == 1
    assert 'Add [project.entry-points."zoo.plugins"] to pyproject.toml' in done.output


@pytest.mark.slow
def test_a_wheel_is_installed_listed_loaded_verified_and_predicts(tmp_path: Path) -> None:
    folder = shutil.copytree(Path(__file__).parents[2] / "examples" / "zoo_hello", tmp_path / "zoo_hello")
    done = ask(build(folder), "--json")
    assert done.exit_code == 0, done.output
    steps = [(one["check"], one["of"]) for one in json.loads(done.stdout)["checks"]]
    assert steps == [
        ("installed", "zoo_hello-0.1.0-py3-none-any.whl"),
        ("listed", "hello"),
        ("loaded", "hello_net"),
        ("verified", "hello_net.digits"),
        ("predicted", "hello_net.digits"),
    ]


@pytest.mark.slow
def test_a_wheel_that_lacks_its_weights_fails_although_this_environment_has_them(tmp_path: Path) -> None:
    folder = shutil.copytree(Path(__file__).parents[2] / "examples" / "zoo_hello", tmp_path / "zoo_hello")
    project = folder / "pyproject.toml"
    project.write_text(project.read_text() + '\n[tool.hatch.build.targets.wheel]\nexclude = ["*.safetensors"]\n')
    done = ask(build(folder))
    assert done.exit_code == 1
    assert "hello_net.digits: file: " in done.output


def test_the_steps_of_a_plugin_that_cannot_be_used_end_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specimen.install(tmp_path, monkeypatch, ("from zoo.spec", "import absent\nfrom zoo.spec"))
    (only,) = wheel.outcomes("specimen")
    assert (only.check, only.status) == ("listed", "failed")
    assert "No module named 'absent'" in only.reason


def test_a_model_without_weights_in_the_wheel_predicts_with_random_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specimen.install(tmp_path, monkeypatch)
    found = [(one.check, one.of, one.status) for one in wheel.outcomes("specimen")]
    assert found == [("listed", "specimen", "passed"), ("loaded", "net", "passed"), ("predicted", "net", "passed")]


@pytest.mark.slow
def test_a_wheel_that_cannot_be_installed_is_not_tried(tmp_path: Path) -> None:
    """The environment around it may have the plugin already: that one must not answer."""
    wheel = tmp_path / "zoo_targetprop-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:  # without METADATA and WHEEL
        archive.writestr("zoo_targetprop-1.0.dist-info/entry_points.txt", "[zoo.plugins]\ntargetprop = x:plugin\n")
    done = ask(wheel, "--json")
    assert done.exit_code == 1
    (only,) = json.loads(done.stdout)["checks"]
    assert (only["check"], only["status"]) == ("installed", "failed")
    assert "cannot be installed" in only["reason"]

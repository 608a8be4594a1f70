"""``zoo plugins new``: a distribution that passes the conformance kit as it is, trained or fitted."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner
from support import distributions

import zoo
from zoo import registry, scaffold
from zoo.cli import cli
from zoo.errors import PluginError, SpecError, StorageError
from zoo.testing import checks_of

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "zoo_hello"
MODELS = pytest.mark.parametrize("kind", ["trained", "fitted"])
KINDS = pytest.mark.parametrize("kind", get_args(scaffold.Kind))


def install(name: str, site: Path, folder: Path, *, kind: scaffold.Kind) -> Path:
    """Writes a distribution to ``folder`` and puts its package on the path ``site``, as an editable install would."""
    scaffold.write(name, folder, kind=kind)
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    group, points = next(iter(project["entry-points"].items()))
    distributions.install(site, project["name"], points, {}, group=group)
    (site / f"zoo_{name}").symlink_to(folder / f"zoo_{name}")
    registry.clear()
    return folder


@KINDS
def test_a_new_plugin_passes_the_quick_checks(site: Path, tmp_path: Path, kind: scaffold.Kind) -> None:
    install("pet", site, tmp_path / "pet", kind=kind)
    checks = [check for check in checks_of("pet") if not check.is_slow]
    assert len(checks) >= {"command": 8, "weights": 2}.get(kind, 26)
    for check in checks:
        check()


@pytest.mark.slow
@KINDS
def test_a_new_plugin_passes_the_slow_checks(site: Path, tmp_path: Path, kind: scaffold.Kind) -> None:
    install("pet", site, tmp_path / "pet", kind=kind)
    for check in checks_of("pet"):
        if check.is_slow:
            check()


@KINDS
def test_a_new_plugins_code_passes_ruff(tmp_path: Path, kind: scaffold.Kind) -> None:
    scaffold.write("zebra_pet", tmp_path, kind=kind)
    for words in (("check",), ("format", "--check")):
        done = subprocess.run([sys.executable, "-m", "ruff", *words, "."], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["trained", "fitted", "command"])
def test_a_new_plugins_code_passes_a_strict_type_check(tmp_path: Path, kind: scaffold.Kind) -> None:
    scaffold.write("zebra_pet", tmp_path, kind=kind)
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@MODELS
def test_its_own_recipe_trains_it(site: Path, tmp_path: Path, kind: scaffold.Kind) -> None:
    install("pet", site, tmp_path / "pet", kind=kind)
    name = "pet_ridge" if kind == "fitted" else "pet_net"
    settings = {} if kind == "fitted" else {"epochs": 2}
    zoo.train(name, "digits", output=tmp_path / "run", settings=settings)
    top1 = zoo.evaluate(name, "digits", weights=tmp_path / "run" / "model.safetensors").top1
    assert top1 > (95 if kind == "fitted" else 40)  # of ten classes


@KINDS
def test_no_placeholder_is_left_and_every_name_is_the_plugins(tmp_path: Path, kind: scaffold.Kind) -> None:
    for file in scaffold.write("zebra", tmp_path, kind=kind):
        text = (tmp_path / file).read_text(encoding="utf-8")
        assert not any(f"${word}" in text for word in scaffold.words_of("zebra", kind=kind)), file
        assert "PACKAGE" not in str(file)
        assert "hello" not in text


def test_the_example_is_what_the_command_writes(tmp_path: Path) -> None:
    """Its weights were published into it, so its manifest has entries after the comment."""
    published = EXAMPLE / "zoo_hello" / "manifest.toml"
    for file in scaffold.write("hello", tmp_path):
        made, kept = ((folder / file).read_text(encoding="utf-8") for folder in (tmp_path, EXAMPLE))
        assert kept == made or (EXAMPLE / file == published and kept.startswith(made)), file
    weights = {path.name for path in (EXAMPLE / "zoo_hello" / "weights").iterdir()}
    assert weights == {"hello_net.digits.safetensors"}


@pytest.mark.parametrize(
    ("name", "hint"), [("my-net", "my_net"), ("My Net", "my_net"), ("2pets", "my_net"), ("../pet", "pet")]
)
def test_a_name_that_no_plugin_can_have_is_an_error_with_one_that_it_can(name: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        scaffold.write(name, tmp_path / "new")
    assert hint in caught.value.hint
    assert not (tmp_path / "new").exists()


def test_a_name_of_an_installed_plugin_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="There is already a plugin 'resnet', from zoo-vision"):
        scaffold.write("resnet", tmp_path / "new")


def test_files_that_are_there_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match="not empty"):
        scaffold.write("pet", tmp_path)
    assert [*tmp_path.iterdir()] == [tmp_path / "notes.txt"]


def test_a_plugin_with_a_command_brings_it_and_its_module(site: Path, tmp_path: Path) -> None:
    install("sure", site, tmp_path / "sure", kind="command")
    digit = ROOT / "examples" / "digit.png"
    said = CliRunner().invoke(cli, ["sure", "resnet20.digits", str(digit), "--json"], prog_name="zoo")
    assert said.exit_code == 0, said.output
    [[first, second]] = zoo.predict("resnet20.digits", digit, topk=2)
    assert json.loads(said.stdout) == {"class": first.class_name, "margin": first.probability - second.probability}
    assert getattr(zoo, "sure").__name__ == "zoo_sure.answers"  # noqa: B009  # type checkers do not know it


def test_a_command_that_two_plugins_bring_is_reached_by_the_name_of_each(site: Path) -> None:
    for name in ("first", "second"):
        text = (
            "import click\nfrom zoo.spec import Plugin\n"
            f"plugin = Plugin('{name}', api=1, commands={{'detect': 'zoo_{name}:detect'}})\n"
            f"@click.command()\ndef detect():\n    click.echo('{name}')\n"
        )
        points = {name: f"zoo_{name}:plugin"}
        distributions.install(site, f"zoo-{name}", points, {f"zoo_{name}.py": text})
    registry.clear()
    refused = CliRunner().invoke(cli, ["detect"], prog_name="zoo")
    assert refused.exit_code == 2
    assert "Use zoo first/detect or zoo second/detect." in refused.stderr
    for name in ("first", "second"):
        assert CliRunner().invoke(cli, [f"{name}/detect"], prog_name="zoo").stdout == f"{name}\n"


def test_a_command_that_zoo_has_as_well_and_one_that_is_gone_are_reached_and_explained(site: Path) -> None:
    text = (
        "import click\nfrom zoo.spec import Plugin\n"
        "plugin = Plugin('third', api=1, commands={'look': 'zoo_third:look', 'gone': 'zoo_third:absent'})\n"
        "@click.command()\ndef look():\n    click.echo('third')\n"
    )
    distributions.install(site, "zoo-third", {"third": "zoo_third:plugin"}, {"zoo_third.py": text})
    registry.clear()
    assert CliRunner().invoke(cli, ["third/look"], prog_name="zoo").stdout == "third\n"
    assert "Show what a network has learned" in CliRunner().invoke(cli, ["look", "-h"], prog_name="zoo").stdout
    gone = CliRunner().invoke(cli, ["gone", "x", "--flag"], prog_name="zoo")
    assert gone.exit_code == 1
    assert "absent" in gone.stderr


def test_the_command_prints_what_to_do_next(inside: Path) -> None:
    done = CliRunner().invoke(cli, ["plugins", "new", "pet", "--fit"], prog_name="zoo")
    assert done.exit_code == 0, done.output
    assert (inside / "zoo_pet" / "zoo_pet" / "training.py").exists()
    assert "zoo plugins check pet" in done.stdout
    again = CliRunner().invoke(cli, ["plugins", "new", "pet", "-o", "zoo_pet"], prog_name="zoo")
    assert again.exit_code == 1
    assert "zoo_pet already exists and is not empty." in again.stderr
    both = CliRunner().invoke(cli, ["plugins", "new", "cat", "--fit", "--command"], prog_name="zoo")
    assert both.exit_code == 2
    assert "Give one of --fit, --command and --weights" in both.stderr
    data = CliRunner().invoke(cli, ["plugins", "new", "cat", "--weights"], prog_name="zoo")
    assert "zoo publish FILE --as resnet20.cat --to embedded:zoo_cat/weights" in data.stdout

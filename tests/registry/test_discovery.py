"""Installed plugins that are damaged, pretend or are misspelt: none takes the others along."""

import json
import logging
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.distributions import HEAD, install, plugin

from zoo import registry
from zoo.cli import cli
from zoo.registry import PluginRow
from zoo.spec import API


def rows() -> dict[str, PluginRow]:
    registry.clear()
    return {row.name: row for row in registry.current().plugins}


def info_of(site: Path, distribution: str) -> Path:
    return site / f"{distribution}-1.0.dist-info"


def test_damage_that_is_not_about_plugins_is_nobodys_business(site: Path) -> None:
    before = len(rows())
    install(site, "other", {}, {})
    (info_of(site, "other") / "entry_points.txt").write_bytes(b"[console_scripts]\nx = \xff:main\n")
    assert len(rows()) == before


def test_a_second_distribution_of_zoos_name_is_said(
    site: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    install(site, "zoo-vision", {"pet": "pet:plugin"}, {"pet.py": plugin("pet", "pet_net")})
    with caplog.at_level(logging.WARNING, logger="zoo"):
        rows()
    (message,) = caplog.messages
    assert message.startswith(f"{info_of(site, 'zoo_vision')} is used: ")
    assert message.endswith(" is a second zoo-vision")


def test_a_module_that_hides_zoos_own_is_named_and_not_imported(site: Path) -> None:
    (site / "zoo_vgg.py").write_text("raise SystemExit('imported')")
    assert (rows()["vgg"].status, rows()["resnet"].status) == ("broken", "ok")
    assert rows()["vgg"].reason == f"{site}/zoo_vgg.py hides Zoo's own zoo_vgg: rename or remove it"


def test_a_folder_without_code_hides_nothing(site: Path) -> None:
    (site / "zoo_vgg").mkdir()
    (site / "zoo_vgg" / "notes.txt").touch()
    assert rows()["vgg"].status == "ok"


def test_the_first_distribution_of_a_name_on_the_path_is_the_one(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "zoo-pet", {"pet": "pet:plugin"}, {"pet.py": plugin("pet", "old_net")})
    install(tmp_path / "first", "zoo_pet", {"pet": "pet:plugin"}, {"pet.py": plugin("pet", "new_net")})
    monkeypatch.syspath_prepend(tmp_path / "first")
    assert list(rows()["pet"].models) == ["new_net"]


def test_a_name_in_the_environment_that_no_plugin_has_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ZOO_DISABLE_PLUGINS", "vgg,resnt")
    registry.clear()
    with caplog.at_level(logging.WARNING, logger="zoo"):
        registry.current()
    (record,) = caplog.records
    assert "ZOO_DISABLE_PLUGINS names 'resnt'" in record.getMessage()
    assert "did you mean resnet?" in record.getMessage()


NEWER = [
    plugin("pet", "pet_net", api=str(API + 1), color="'red'"),
    plugin("pet", "pet_net", api=str(API + 1)).replace("build=", "colour='red', build="),
    f"from zoo.spec import NewThing\n{plugin('pet', 'pet_net', api=str(API + 1))}",
]


@pytest.mark.parametrize("text", NEWER, ids=["a new field", "a row's new field", "a new name"])
def test_a_plugin_for_a_newer_contract_is_told_so_whatever_it_fails_at(text: str, site: Path) -> None:
    install(site, "zoo-pet", {"pet": "pet:plugin"}, {"pet.py": text})
    row = rows()["pet"]
    assert row.status == "set aside"
    assert row.reason == f"it needs plugin contract {API + 1}, this Zoo has {API}: pip install -U zoo-vision"


def test_the_contract_of_a_module_within_a_package_is_read(site: Path) -> None:
    files = {"pet/__init__.py": "", "pet/rows.py": NEWER[0]}
    install(site, "zoo-pet", {"pet": "pet.rows:plugin"}, files)
    assert rows()["pet"].status == "set aside"


@pytest.mark.parametrize("api", ["0", "-1"])
def test_a_contract_that_never_was_is_refused(api: str, site: Path) -> None:
    install(site, "zoo-pet", {"pet": "pet:plugin"}, {"pet.py": plugin("pet", "pet_net", api=api)})
    assert f"api = {api}, expected" in rows()["pet"].reason


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (plugin("pet", "pet_net").replace("build=", "parmas=5, build="), "params"),
        (plugin("pet", "pet_net", recipe="'x'"), "recipes"),
    ],
)
def test_a_misspelt_field_is_answered_with_the_nearest_and_the_line(text: str, said: str, site: Path) -> None:
    install(site, "zoo-pet", {"pet": "pet:plugin"}, {"pet.py": text})
    assert f"did you mean {said}? (pet.py:2)" in rows()["pet"].reason


def test_a_row_of_another_kind_is_named_with_what_was_expected(site: Path) -> None:
    install(site, "zoo-pet", {"pet": "pet:plugin"}, {"pet.py": f"{HEAD}plugin = Plugin('pet', 1, ('net',))"})
    assert "Plugin 'pet': models = ('net',): Expected `Model`, got `str`" in rows()["pet"].reason


def test_the_command_fails_for_a_broken_plugin_and_shows_one_by_name(site: Path) -> None:
    install(site, "zoo-bad", {"bad": "bad:plugin"}, {"bad.py": "raise RuntimeError('spoilt')"})
    install(site, "zoo-pet", {"pet": "pet:plugin"}, {"pet.py": plugin("pet", "pet_net")})
    ask = CliRunner().invoke
    every, good = ask(cli, ["plugins"]), ask(cli, ["plugins", "show", "pet"])
    assert (every.exit_code, good.exit_code) == (1, 0)
    assert {"bad", "pet", "resnet"} <= {line.split()[0] for line in every.stdout.splitlines()}
    assert [line.split()[0] for line in good.stdout.splitlines()] == ["plugin", "pet"]
    assert "Traceback" not in every.stderr
    told = ask(cli, ["--debug", "plugins", "show", "bad", "--json"])
    assert (told.exit_code, json.loads(told.stdout)[0]["status"]) == (1, "broken")
    assert "Traceback" in told.stderr
    assert "RuntimeError: spoilt" in told.stderr
    unknown = ask(cli, ["plugins", "show", "resnt"])
    assert unknown.exit_code == 2
    assert "Did you mean resnet?" in unknown.stderr

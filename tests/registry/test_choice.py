"""Plugins that a user disables and enables."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.distributions import install, plugin

import zoo
from zoo import registry
from zoo.cli import cli
from zoo.errors import PluginError
from zoo.registry import discovery

TRIES = "with open(__file__ + '.tries', 'a') as tries: tries.write('x')\n"


def ask(*words: str) -> Result:
    registry.clear()
    return CliRunner().invoke(cli, ["plugins", *words])


def state(name: str) -> tuple[str, str]:
    registry.clear()
    return next((row.status, row.reason) for row in registry.current().plugins if row.name == name)


def test_a_plugin_that_is_disabled_is_neither_imported_nor_used_until_it_is_enabled(site: Path) -> None:
    install(site, "zoo-pet", {"pet": "pet:plugin"}, {"pet.py": TRIES + plugin("pet", "pet_net")})
    assert ask("disable", "pet").stderr == "pet is disabled: zoo plugins enable pet undoes it.\n"
    assert state("pet") == ("disabled", "zoo plugins enable pet undoes it")
    assert zoo.list_models("pet*") == []
    assert "resnet20" in zoo.list_models()
    assert not (site / "pet.py.tries").exists()
    assert ask("enable", "pet").stderr == "pet is enabled.\n"
    assert state("pet") == ("ok", "")
    assert zoo.list_models("pet*") == ["pet_net"]


def test_a_distribution_that_cannot_be_read_can_be_disabled(site: Path) -> None:
    install(site, "zoo-pet", {"pet": "pet:plugin"}, {})
    (site / "zoo_pet-1.0.dist-info" / "entry_points.txt").write_bytes(b"[zoo.plugins]\npet = \xff:plugin\n")
    assert state("zoo-pet")[0] == "broken"
    assert ask("disable", "zoo-pet").exit_code == 0
    assert state("zoo-pet")[0] == "disabled"
    assert ask().exit_code == 0


@pytest.mark.parametrize("command", ["disable", "enable"])
def test_an_unknown_name_is_an_error_with_the_nearest(command: str) -> None:
    answer = ask(command, "resnt")
    assert answer.exit_code == 2
    assert "Unknown plugin 'resnt'" in answer.stderr
    assert "Did you mean resnet?" in answer.stderr
    assert not discovery.place_of_choice().exists()


def test_a_plugin_that_is_gone_can_be_enabled(site: Path) -> None:
    install(site, "zoo-pet", {"pet": "pet:plugin"}, {})
    ask("disable", "pet")
    (site / "zoo_pet-1.0.dist-info" / "entry_points.txt").unlink()
    assert ask("enable", "pet").exit_code == 0
    assert discovery.disabled() == frozenset()


def test_enabling_says_that_the_environment_still_disables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_DISABLE_PLUGINS", "vgg")
    answer = ask("enable", "vgg", "--json")
    assert json.loads(answer.stdout)["reason"] == "listed in ZOO_DISABLE_PLUGINS"


@pytest.mark.parametrize("text", ["disabled = 5", "disabled = [", "disable = []", 'disabled = ["\xff"]'])
def test_a_file_of_choices_that_cannot_be_read_is_named(text: str) -> None:
    discovery.place_of_choice().parent.mkdir(parents=True)
    discovery.place_of_choice().write_text(text, encoding="latin-1")
    registry.clear()
    with pytest.raises(PluginError, match=r"plugins\.toml cannot be read") as caught:
        registry.current()
    assert "Repair or remove the file" in caught.value.hint

"""Plugins whose import hangs, crashes, meddles or talks: each in real processes, where it would take others along."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.distributions import install, plugin, run

import zoo
from zoo import registry
from zoo.cli import cli
from zoo.registry import PluginRow, extensions, importing

GOOD = plugin("pet", "pet_net")
TRIES = "with open(__file__ + '.tries', 'a') as tries: tries.write('x')\n"
"""So that a test can count how often a module was imported."""


def put(site: Path, text: str) -> None:
    install(site, "zoo-pet", {"pet": "pet:plugin"}, {"pet.py": text})


def row() -> PluginRow:
    registry.clear()
    return next(row for row in registry.current().plugins if row.name == "pet")


def tries(site: Path, name: str = "pet") -> int:
    return len((site / f"{name}.py.tries").read_text())


def plugins(site: Path) -> dict[str, Any]:
    """What ``zoo plugins --json`` says, in a process of its own."""
    done = run("plugins", "--json", site=site)
    assert done.returncode in (0, 1), done.stderr
    return {row["name"]: row for row in json.loads(done.stdout)}


ABUSES = {
    "it exits": ("import os; os._exit(7)", "importing pet:plugin ends the process with exit code 7"),
    "it exits in order": ("import sys; sys.exit(3)", "importing pet:plugin raised SystemExit: 3"),
    "it ends as if all were well": ("import os; os._exit(0)", "importing pet:plugin ends the process with exit code 0"),
    "it crashes": ("import ctypes; ctypes.string_at(0)", "importing pet:plugin crashes the process (SIGSEGV)"),
    "it aborts": ("import os; os.abort()", "importing pet:plugin crashes the process (SIGABRT)"),
    "it forks": ("import os; os.fork()\n" + GOOD, "importing pet:plugin leaves more than one process"),
    "it closes files": ("import os; os.closerange(0, 100)\n" + GOOD, "ends the process with exit code 0"),
    "it patches a function": ("import json\njson.loads = print\n" + GOOD, "importing pet:plugin replaces json.loads"),
    "it patches a class": (
        "import pathlib\npathlib.Path.read_text = lambda self: ''\n" + GOOD,
        "importing pet:plugin replaces pathlib.Path.read_text",
    ),
    "it patches Zoo": (
        "import zoo.names\nzoo.names.parse = print\n" + GOOD,
        "importing pet:plugin replaces zoo.names.p",
    ),
    "it patches the builtins": ("import builtins\nbuiltins.open = print\n" + GOOD, "replaces builtins.open"),
    "it opens a connection": (
        "import socket\nsocket.create_connection(('127.0.0.1', 9))\n" + GOOD,
        "importing pet:plugin raised PermissionError: [Errno 1] this process has no network",
    ),
}


@pytest.mark.first(3)
@pytest.mark.parametrize(("text", "reason"), ABUSES.values(), ids=ABUSES)
def test_an_abuse_is_a_row_with_the_reason_once(text: str, reason: str, site: Path) -> None:
    put(site, TRIES + text)
    first = plugins(site)
    assert first["pet"]["status"] == "broken"
    assert reason in first["pet"]["reason"]
    assert {row["status"] for name, row in first.items() if name != "pet"} == {"ok"}
    again = run("list", "resnet20", site=site)
    assert (again.returncode, "resnet20" in again.stdout) == (0, True)
    assert "plugins that cannot be used (pet); zoo plugins shows why" in again.stderr
    assert tries(site) == 1
    put(site, TRIES + GOOD + "# changed\n")
    assert plugins(site)["pet"]["status"] == "ok"
    assert tries(site) == 2


BINARY = b"\xff\xfe\x00\x80" * 20
DAMAGES = {
    "no metadata": ("METADATA", None, "pet", "ok"),
    "binary metadata": ("METADATA", BINARY, "pet", "ok"),
    "entry points that are not UTF-8": ("entry_points.txt", b"[zoo.plugins]\npet = \xff:plugin\n", "zoo-pet", "broken"),
    "entry points without a value": ("entry_points.txt", b"[zoo.plugins]\npet\n", "zoo-pet", "broken"),
}


@pytest.mark.first(2)
@pytest.mark.parametrize(("file", "content", "name", "status"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_distribution_is_a_row(file: str, content: bytes | None, name: str, status: str, site: Path) -> None:
    put(site, GOOD)
    damaged = site / "zoo_pet-1.0.dist-info" / file
    damaged.unlink() if content is None else damaged.write_bytes(content)
    for _ in range(2):
        shown = plugins(site)
        assert (shown[name]["status"], shown[name]["version"]) == (status, "1.0")
        assert {row["status"] for other, row in shown.items() if other != name} == {"ok"}
    if status == "broken":
        assert "its entry_points.txt cannot be read" in shown[name]["reason"]


@pytest.mark.parametrize(
    "text", ["import time; time.sleep(60)", "while True: pass", "import re; re.match('(a+)+b', 'a' * 60)"]
)
def test_an_import_that_hangs_is_ended_once(text: str, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "PATIENCE", 2.0)  # enough for the process to start
    put(site, TRIES + text)
    for _ in range(2):
        assert (row().status, row().reason) == ("broken", "importing pet:plugin takes longer than 2 s")
    assert "resnet20" in zoo.list_models()
    assert tries(site) == 1


def test_an_import_that_hangs_does_not_go_on(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "PATIENCE", 2.0)
    put(site, f"import time\nwhile True:\n    time.sleep(0.01)\n    {TRIES}")
    assert row().status == "broken"
    before = tries(site)
    time.sleep(0.1)
    assert tries(site) == before > 1


def test_a_plugin_after_one_that_hangs_is_imported(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "PATIENCE", 2.0)
    install(site, "zoo-ape", {"ape": "ape:plugin"}, {"ape.py": "while True: pass"})
    put(site, GOOD)
    assert row().status == "ok"


def test_no_plugin_sees_what_another_one_imported(site: Path) -> None:
    install(site, "zoo-ape", {"ape": "ape:plugin"}, {"ape.py": plugin("ape", "ape_net")})
    put(site, "import sys\nassert 'ape' not in sys.modules\n" + GOOD)
    assert row().status == "ok"


@pytest.mark.slow
def test_a_plugin_that_imports_torch_is_slow_and_usable(site: Path) -> None:
    put(site, "import torch\n" + GOOD)
    shown = plugins(site)["pet"]
    assert (shown["status"], shown["models"]) == ("slow", 1)
    assert "importing pet:plugin imports torch" in shown["reason"]


@pytest.mark.parametrize("talk", ["print('loading\\nthe pet')", "import os; os.write(1, b'loading the pet')"])
def test_a_plugin_that_writes_to_standard_output_is_noisy_and_usable(talk: str, site: Path) -> None:
    put(site, f"{talk}\n{GOOD}")
    shown = plugins(site)["pet"]  # whose JSON is whole
    assert (shown["status"], shown["models"]) == ("noisy", 1)
    assert shown["reason"] == "importing pet:plugin writes to standard output: 'loading the pet'"


def test_what_a_noisy_plugin_brings_is_used(site: Path) -> None:
    brought = '(DatasetSpec("pets", load="pet_data:load"),)'
    put(site, "print('loading')\nfrom zoo.spec import DatasetSpec\n" + plugin("pet", "pet_net", datasets=brought))
    assert row().status == "noisy"
    assert "pets" in extensions.names("datasets")
    assert zoo.list_models("pet*") == ["pet_net"]


def test_a_plugin_for_a_newer_contract_is_not_imported(site: Path) -> None:
    put(site, TRIES + plugin("pet", "pet_net", api="2"))
    assert row().reason == "it needs plugin contract 2, this Zoo has 1: pip install -U zoo-vision"
    assert not (site / "pet.py.tries").exists()


def test_a_plugin_that_asks_for_the_plugins_is_answered_with_an_error(site: Path) -> None:
    put(site, "import zoo\nzoo.list_models()\n" + GOOD)
    assert "PluginError: A plugin asked for the installed plugins while it was imported" in row().reason


def test_interrupting_an_import_names_the_plugin(site: Path) -> None:
    install(site, "zoo-ape", {"ape": "ape:plugin"}, {"ape.py": TRIES + plugin("ape", "ape_net")})
    put(site, "import pathlib, time\npathlib.Path(__file__).with_name('begun').touch()\ntime.sleep(60)")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "zoo", "list"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while not (site / "begun").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 130
    assert "Interrupted while plugin 'pet' (pet:plugin, of zoo-pet) was imported" in said
    assert "zoo plugins disable pet disables it" in said
    assert tries(site, "ape") == 1
    put(site, GOOD)
    assert row().status == "ok", "an interrupt is not the plugin's failure"
    assert tries(site, "ape") == 1, "what was imported before the interrupt is recorded"


def test_a_failure_is_remembered_until_the_plugin_is_asked_for_by_name(site: Path) -> None:
    put(site, f"{TRIES}import os; os._exit(1)")
    for _ in range(3):
        assert row().status == "broken"
    assert tries(site) == 1
    registry.clear()
    CliRunner().invoke(cli, ["plugins", "show", "pet"])
    assert tries(site) == 2

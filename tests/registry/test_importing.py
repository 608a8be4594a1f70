"""Plugins whose import fails, hangs, talks or meddles."""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.distributions import forget, install, plugin, run

import zoo
from zoo import registry
from zoo.registry import PluginRow, discovery, extensions

GOOD = plugin("pet", "pet_net")
TRIES = "with open(__file__ + '.tries', 'a') as tries: tries.write('x')\n"
"""So that a test can count how often a module was imported."""


def put(site: Path, text: str) -> None:
    install(site, "zoo-pet", {"pet": "pet:plugin"}, {"pet.py": text})


def row(site: Path) -> PluginRow:
    """Returns the plugin as a new process finds it."""
    forget(site)
    return next(row for row in registry.current().plugins if row.name == "pet")


def tries(site: Path, name: str = "pet") -> int:
    return len((site / f"{name}.py.tries").read_text())


@contextlib.contextmanager
def listing(site: Path) -> Iterator[subprocess.Popen[str]]:
    """Yields ``zoo list`` in a process of its own, once the plugin ``pet`` has made its file ``begun``."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "zoo", "list", "resnet20"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        while not (site / "begun").exists():
            assert process.poll() is None
            time.sleep(0.02)
        yield process


WAITS = """
import pathlib, time
here = pathlib.Path(__file__)
here.with_name("begun").touch()
while not here.with_name("go on").exists():
    time.sleep(0.02)
"""


def test_a_failure_is_not_remembered(site: Path) -> None:
    """What was to blame may be gone: a closed pipe, a full disk, a library that was not there."""
    put(site, f"{TRIES}import pathlib\nassert pathlib.Path(__file__).with_name('cure').exists()\n{GOOD}")
    assert row(site).status == "broken"
    assert "AssertionError" in row(site).reason
    (site / "cure").touch()
    assert [row(site).status for _ in range(2)] == ["ok", "ok"]
    assert tries(site) == 3


def test_a_process_that_is_killed_while_it_imports_a_plugin_leaves_no_mark(site: Path) -> None:
    put(site, WAITS + GOOD)
    with listing(site) as process:
        process.kill()
    (site / "go on").touch()
    assert row(site).status == "ok"


def test_a_plugin_that_ends_the_process_can_be_disabled(site: Path) -> None:
    put(site, "import os; os._exit(7)")
    assert run("list", site=site).returncode == 7
    assert run("plugins", "disable", "pet", site=site).returncode == 0
    assert run("list", "resnet20", site=site).returncode == 0


def test_a_plugin_that_is_waited_for_is_named_meanwhile(site: Path) -> None:
    put(site, WAITS + GOOD)
    with listing(site) as process:
        assert process.stderr is not None
        said = process.stderr.readline()  # while the import goes on: it ends when the file is there
        (site / "go on").touch()
        listed, _ = process.communicate()
    assert said == ("Still importing plugin 'pet' (pet:plugin, of zoo-pet); zoo plugins disable pet disables it\n")
    assert (process.returncode, "resnet20" in listed) == (0, True)
    assert row(site).status == "ok"


def test_a_plugin_that_takes_no_time_is_not_named(site: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(site, GOOD)
    with caplog.at_level(logging.WARNING, logger="zoo"):
        assert row(site).status == "ok"
        assert not any(isinstance(thread, threading.Timer) for thread in threading.enumerate())
    assert caplog.messages == []


def test_interrupting_an_import_names_the_plugin(site: Path) -> None:
    install(site, "zoo-ape", {"ape": "ape:plugin"}, {"ape.py": TRIES + plugin("ape", "ape_net")})
    put(site, WAITS + GOOD)
    with listing(site) as process:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert "Interrupted while plugin 'pet' (pet:plugin, of zoo-pet) was imported" in said
    assert "zoo plugins disable pet disables it" in said
    assert tries(site, "ape") == 1
    (site / "go on").touch()
    assert row(site).status == "ok"
    assert tries(site, "ape") == 1, "what was imported before the interrupt is recorded"


def test_what_a_plugin_prints_is_no_part_of_an_answer(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    brought = '(DatasetSpec("pets", load="pet_data:load"),)'
    text = "print('loading')\nfrom zoo.spec import DatasetSpec\n" + plugin("pet", "pet_net", datasets=brought)
    put(site, text)
    done = run("list", "pet*", "--json", site=site)
    assert [found["name"] for found in json.loads(done.stdout)] == ["pet_net"]
    assert "loading" in done.stderr
    put(site, text + "# changed")
    assert row(site).status == "ok"
    assert capsys.readouterr() == ("", "loading\n")
    assert "pets" in extensions.names_in("datasets")


@pytest.mark.parametrize("text", ["raise ValueError('x' * 10**7)", "import sys; sys.exit('x' * 10**7)"])
def test_an_endless_error_is_shown_in_part(text: str, site: Path) -> None:
    put(site, text)
    assert "raised" in row(site).reason
    assert row(site).reason.endswith("(pet.py:1)")
    assert len(row(site).reason) < 1000
    assert len(row(site).traceback) < 100_000


def test_a_plugin_that_asks_for_the_plugins_is_answered_with_an_error(site: Path) -> None:
    put(site, "import zoo\nzoo.list_models()\n" + GOOD)
    assert "PluginError: A plugin asked for the installed plugins while it was imported" in row(site).reason
    assert "resnet20" in zoo.list_models()


def test_threads_that_ask_at_the_same_time_are_all_answered(site: Path) -> None:
    put(site, "import time\ntime.sleep(0.1)\n" + GOOD)
    forget(site)
    found: list[list[str]] = []
    threads = [threading.Thread(target=lambda: found.append(zoo.list_models("pet*"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [["pet_net"]] * 4
    assert sys.stdout is not sys.stderr


BINARY = b"\xff\xfe\x00\x80" * 20
DAMAGES = {
    "no metadata": ("METADATA", None, "pet", "ok"),
    "binary metadata": ("METADATA", BINARY, "pet", "ok"),
    "entry points that are not UTF-8": ("entry_points.txt", b"[zoo.plugins]\npet = \xff:plugin\n", "zoo-pet", "broken"),
    "entry points without a value": ("entry_points.txt", b"[zoo.plugins]\npet\n", "zoo-pet", "broken"),
}


@pytest.mark.parametrize(("file", "content", "name", "status"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_distribution_is_a_row(file: str, content: bytes | None, name: str, status: str, site: Path) -> None:
    put(site, GOOD)
    damaged = site / "zoo_pet-1.0.dist-info" / file
    damaged.unlink() if content is None else damaged.write_bytes(content)
    for _ in range(2):
        forget(site)
        rows = {row.name: row for row in discovery.discover()}
        assert (rows[name].status, rows[name].version) == (status, "1.0")
        assert {row.status for other, row in rows.items() if other != name} == {"ok"}
    if status == "broken":
        assert "its entry_points.txt cannot be read" in rows[name].reason

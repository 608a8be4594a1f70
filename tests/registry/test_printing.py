"""Output and errors of a plugin at import, as a terminal shows them: escaped, and of bounded length."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.distributions import install, plugin, run

LOUD = """
import os, sys, logging
print("\\x1b[2J\\x1b]0;owned\\x07 said")
print("\\u202egnp.exe", file=sys.stderr)
sys.stdout.buffer.write(b"\\x9b31m caf\\xc3\\xa9\\n")
sys.stderr.write("x" * 10_000_000)
logging.basicConfig(stream=sys.stderr)
assert sys.stderr.fileno() == 2
"""


def test_what_a_plugin_prints_at_import_is_escaped_and_bounded(site: Path) -> None:
    install(site, "zoo-pet", {"pet": "pet:plugin"}, {"pet.py": LOUD + plugin("pet", "pet_net")})
    answer = run("list", "pet_net", site=site)
    assert answer.returncode == 0
    assert "pet_net" in answer.stdout
    assert "\x1b" not in answer.stderr + answer.stdout
    assert "\u202e" not in answer.stderr
    assert r"\x1b[2J\x1b]0;owned\x07 said" in answer.stderr
    assert r"\x9b31m café" in answer.stderr
    assert len(answer.stderr) < 5_000
    assert "more characters of plugin 'pet'" in answer.stderr


def test_a_stream_that_a_plugin_keeps_works_after_its_import(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = "import sys\nkept = sys.stderr\nprint('y' * 5_000)\n"
    install(site, "zoo-pet", {"pet": "pet:plugin"}, {"pet.py": code + plugin("pet", "pet_net")})
    words = (
        "import zoo, sys; zoo.list_models('pet_net'); import pet; pet.kept.write('later\\x1b' + 'z' * 9_000 + '\\n')"
    )
    answer = subprocess.run(
        [sys.executable, "-c", words], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(site)}
    )
    assert "later\\x1b" + "z" * 9_000 in answer.stderr
    assert answer.stderr.count("y") < 5_000


@pytest.mark.parametrize("words", [("plugins",), ("create", "pet_net"), ("info", "pet_net")])
def test_the_text_of_an_exception_is_escaped_and_bounded(words: tuple[str, ...], site: Path) -> None:
    code = 'raise RuntimeError("\\x1b[31m" + "long" * 2_500_000)\n'
    install(site, "zoo-pet", {"pet": "pet:plugin"}, {"pet.py": code})
    answer = run(*words, site=site)
    assert "\x1b" not in answer.stderr + answer.stdout
    assert len(answer.stderr + answer.stdout) < 30_000


HOOK = """
def build(**_):
    raise RuntimeError("\\x1b[31m" + "long" * 2_500_000)
"""


@pytest.mark.first(1)
@pytest.mark.parametrize("words", [(), ("--debug",)])
def test_so_is_that_of_a_hook(words: tuple[str, ...], site: Path) -> None:
    files = {"pet.py": plugin("pet", "pet_net"), "pet_model.py": HOOK}
    install(site, "zoo-pet", {"pet": "pet:plugin"}, files)
    answer = run(*words, "benchmark", "pet_net", site=site)
    assert answer.returncode != 0
    assert "\x1b" not in answer.stderr
    assert r"\x1b[31mlong" in answer.stderr
    assert len(answer.stderr) < 250_000


def test_an_error_that_nobody_expects_is_shown_in_the_same_way() -> None:
    code = """
import sys
from zoo import cli
def main(**_): raise RuntimeError("\\x1b[31m" + "long" * 2_500_000)
cli.cli = main
cli.main()
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 1
    assert r"RuntimeError: \x1b[31mlong" in answer.stderr
    assert len(answer.stderr) < 150_000

"""The kit as a pytest plugin: an option runs it without a test file, and it costs nothing if it is not used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import specimen


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    words = ("-p", "no:cacheprovider", "--strict-markers", "-W", "error", *words)
    return subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
def test_the_option_runs_all_checks_without_a_test_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specimen.install(tmp_path, monkeypatch, ("+ 5,", "+ 6,"))
    done = run(tmp_path, "--zoo-plugin", "specimen", "-k", "net-parameters or net-macs", "-v")
    assert "zoo-plugin/specimen::net-macs PASSED" in done.stdout
    assert "zoo-plugin/specimen::net-parameters FAILED" in done.stdout
    assert "net: params = 142 is declared, the network has 141" in done.stdout
    assert "1 failed, 1 passed, 36 deselected" in done.stdout
    assert "zoo/testing/checks.py" not in done.stdout


@pytest.mark.slow
def test_a_file_with_the_decorator_needs_no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``slow`` is a known marker, and ``-m`` chooses by it."""
    specimen.install(tmp_path, monkeypatch)
    text = 'from zoo.testing import conformance\n\n@conformance("specimen")\ndef test_it(check):\n    check()\n'
    (tmp_path / "test_it.py").write_text(text)
    done = run(tmp_path, "-m", "slow", "--collect-only", "-q")
    assert "test_it.py::test_it[net-compiled]" in done.stdout
    assert "4/38 tests collected" in done.stdout


def test_a_run_that_does_not_use_it_imports_neither_torch_nor_the_registry(tmp_path: Path) -> None:
    code = "import sys\n\ndef test_it():\n    assert not {'torch', 'numpy', 'zoo.registry'} & sys.modules.keys()\n"
    (tmp_path / "test_it.py").write_text(code)
    done = run(tmp_path)
    assert "1 passed" in done.stdout, done.stdout + done.stderr

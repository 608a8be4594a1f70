"""``make demo`` says what is missing before it installs anything."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import versions

MAKEFILE = Path(__file__).parents[1] / "Makefile"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is missing")


def make_with(folder: Path, version: str, locale: str = "C.UTF-8") -> subprocess.CompletedProcess[str]:
    """Runs ``make`` in ``folder`` with a Python that says that it is ``version``, and only checks."""
    folder.mkdir()
    shutil.copy(MAKEFILE, folder)
    (folder / "pyproject.toml").touch()
    python = folder / "python"
    told = f"import sys; sys.version_info = ({version.replace('.', ', ')}, 0); exec(sys.argv[1])"
    python.write_text(
        f"#!/bin/sh\n[ \"$1\" = -c ] || {{ echo installs; exit 1; }}\nexec '{sys.executable}' -c '{told}' \"$2\"\n",
        encoding="utf-8",
    )
    python.chmod(0o755)
    environment = {"LC_ALL": locale, "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        ["make", "demo", f"PYTHON={python}"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
    )


def test_an_old_python_is_refused_in_words(tmp_path: Path) -> None:
    done = make_with(tmp_path / "here", "3.10")
    assert done.returncode != 0
    assert "Zoo needs Python 3.11 or later, this is 3.10" in done.stderr
    assert "installs" not in done.stdout
    assert "installs" in make_with(tmp_path / "new", "3.11").stdout


def test_a_path_that_the_locale_cannot_write_is_refused_in_words(tmp_path: Path) -> None:
    done = make_with(tmp_path / "ümlaut", "3.12", "C")
    assert "cannot be written in the encoding of this locale" in done.stderr
    assert "installs" not in done.stdout
    assert "installs" in make_with(tmp_path / "ähnlich", "3.12").stdout
    assert "installs" in make_with(tmp_path / "größer", "3.13", "C").stdout, "3.13 reads such paths as UTF-8"


def test_the_tests_of_other_versions_are_there() -> None:
    """They are named in a file that only ``make test-versions`` reads."""
    assert [name for name in versions.SUBSET if not (versions.ROOT / "tests" / name).exists()] == []

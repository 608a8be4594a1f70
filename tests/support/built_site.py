"""The documentation site, built in a copy without a network."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.loaded import load

ROOT = Path(__file__).parents[2]


def build(folder: Path) -> Path:
    """Returns the site that is built and finished in ``folder``; skips the test if zensical is missing."""
    pytest.importorskip("zensical", reason="needs zoo-vision[docs]")
    for name in ("docs", "zoo"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "zensical.toml", folder)
    alone = ["unshare", "--map-root-user", "--net"]  # if the kernel lets this user
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], capture_output=True).returncode:
        alone = []
    command = [*alone, sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    load(ROOT / "docs" / "finish.py").finish(folder / "build" / "docs")
    return folder / "build" / "docs"

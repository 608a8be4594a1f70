"""timm's own tests of its networks, from its source distribution, on Zoo's: see ``support/timm_suite.py``.

``ZOO_TIMM_SUITE`` names other networks than the smallest of each build function: ``all``, or names with spaces between.
"""

import os
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path

import pytest

import zoo
from zoo import registry

pytest.importorskip("timm", reason="needs zoo-vision[timm]")

LARGEST = 3e9
"""Multiply-adds of the largest network of those that are tested by default."""
COLLECTIONS = (
    "timm/test_resnet",
    "timm/test_vit",
    "timm/test_convnext",
    "torchvision/resnet18",
    "torchvision/mobilenet_v3_small",
    "torchvision/shufflenet_v2_x0_5",
)


def networks() -> list[str]:
    """Returns the names to test."""
    rows = [registry.current().find(name).model for name in zoo.list_models()]
    asked = os.environ.get("ZOO_TIMM_SUITE", "")
    if asked and asked != "all":
        return asked.split()
    if asked:
        return [*(row.name for row in rows), *COLLECTIONS]
    smallest = {
        row.build: row.name for row in sorted(rows, key=lambda row: row.macs, reverse=True) if row.macs < LARGEST
    }
    return [*smallest.values(), *COLLECTIONS]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fetches timm's source distribution, of the version that is installed, and returns its file of tests."""
    folder, version = tmp_path_factory.mktemp("timm"), metadata.version("timm")
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-binary", ":all:", "--no-deps"]
    done = subprocess.run([*pip, f"timm=={version}", "-d", folder], capture_output=True, text=True, check=False)
    archive = folder / f"timm-{version}.tar.gz"
    if not archive.is_file():
        pytest.skip(f"timm's source distribution cannot be fetched: {done.stderr.strip()[-200:]}")
    with tarfile.open(archive) as opened:
        opened.extract(f"timm-{version}/tests/test_models.py", folder, filter="data")
    return folder / f"timm-{version}" / "tests" / "test_models.py"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_networks_pass_the_tests_that_timm_has_for_its_own(suite: Path) -> None:
    environment = {"ZOO_TIMM_SUITE": " ".join(networks()), "PYTHONPATH": str(Path(__file__).parent)}
    plugins = ["-p", "support.timm_suite", "-p", "no:cacheprovider", "-p", "no:random_order", "-p", "no:xdist"]
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", suite.parent, *plugins]
    done = subprocess.run(
        [*command, "-q", "-W", "ignore", "--tb=short", suite],
        env=os.environ | environment,
        cwd=suite.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]

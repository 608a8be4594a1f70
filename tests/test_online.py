"""benchmarks/online.py, against the local hub in place of the public ones."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.hub_server import HubServer

import zoo
from zoo.loading import safetensors_file

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "online.py"
NAME = "timm/test_resnet.r160_in1k"


def run(*words: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(PROGRAM), *map(str, words)]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_report_has_a_row_for_each_name_and_the_reason_of_a_failure(hub_server: HubServer, tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="needs zoo-vision[timm]")
    safetensors_file.write(zoo.create("timm/test_resnet").state_dict(), tmp_path / "model.safetensors", {})
    content = (tmp_path / "model.safetensors").read_bytes()
    commit = hub_server.commit(NAME, {"model.safetensors": content})
    done = run(NAME, "resnet18.a1_in1k", "--report", tmp_path / "report.md", HF_TOKEN="token-of-alice")
    assert done.returncode == 1, done.stderr
    report = (tmp_path / "report.md").read_text()
    assert "1 of 2 names work." in report
    assert f"sha256 `{hashlib.sha256(content).hexdigest()}`, commit `{commit}`" in report
    assert report.count("%\n") == 5, "the five likeliest classes"
    assert "has no repository timm/resnet18.a1_in1k" in report
    assert "token-of-alice" not in report
    assert str(tmp_path) not in report


def test_without_a_network_each_row_says_so() -> None:
    done = run("resnet18.a1_in1k", ZOO_OFFLINE="1")
    assert done.returncode == 1
    assert "0 of 1 names work." in done.stdout
    assert "network access is disabled (ZOO_OFFLINE=1)" in done.stdout

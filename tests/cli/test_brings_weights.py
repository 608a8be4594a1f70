"""Every command brings the weights that it needs, says so in one line, and behaves alike without a network."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from support.command import ask
from support.distributions import install, plugin
from support.hub_server import HubServer

import zoo
from zoo import registry
from zoo.hub import cache
from zoo.manifest import Weights, render

NAME = "distant/far_net.digits"

MODEL = """
import zoo


def build(*, num_classes=10, in_chans=1):
    return zoo.create("resnet20", num_classes=num_classes, in_chans=in_chans)
"""

COMMANDS: dict[str, Callable[[Path], list[object]]] = {
    "fetch": lambda folder: ["fetch", NAME],
    "predict": lambda folder: ["predict", NAME, folder / "digit.png"],
    "evaluate": lambda folder: ["evaluate", NAME, "--data", "digits"],
    "features": lambda folder: ["features", NAME, "--data", "digits", "-o", folder / "features.safetensors"],
    "look": lambda folder: ["look", "features", NAME, "--layer", "layer1", "--image", folder / "digit.png"],
    "attack": lambda folder: ["attack", "image", NAME, folder / "digit.png", "--epsilon", "16/255"],
}


@pytest.fixture
def served(site: Path, tmp_path: Path, hub_server: HubServer, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """A hub with the file of resnet20.digits for NAME, and a photograph of a digit."""
    info = zoo.create("resnet20.digits").zoo_info
    assert info.file is not None
    assert info.weights is not None
    content = info.file.read_bytes()
    commit = hub_server.commit("alice/far", {"model.safetensors": content})
    entry = Weights(
        file="model.safetensors", arch="far_net", tag="digits", repo="alice/far", revision=commit,
        sha256=info.weights.sha256, size=len(content), classes="digits", num_classes=10, preprocess=info.preprocess,
    )  # fmt: skip
    files = {
        "distant/__init__.py": plugin("distant", "far_net", weights='("distant:weights.toml",)'),
        "distant_model.py": MODEL,
        "distant/weights.toml": render(entry),
    }
    install(site, "zoo-distant", {"distant": "distant:plugin"}, files)
    monkeypatch.setenv("PYTHONPATH", str(site))
    registry.clear()
    Image.fromarray(zoo.data.load("digits", "test").pixels[0].squeeze().numpy()).save(tmp_path / "digit.png")
    shutil.rmtree(cache.root())
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS")
    return hub_server


@pytest.mark.first(1)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_brings_its_weights_and_says_so_once(command: str, served: HubServer, tmp_path: Path) -> None:
    words = COMMANDS[command](tmp_path)
    first = ask(*words)
    assert (first.exit_code, first.exception) == (0, None), first.output
    size = served.requests[-1].sent
    assert first.stderr.count(f"far_net.digits: fetching {size / 1e6:.1f} MB from {served.url}\n") == 1
    served.requests.clear()
    again = ask(*words)
    assert (again.exit_code, served.requests) == (0, [])
    assert "fetching" not in again.stderr


def test_the_line_can_be_turned_off(served: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    assert ask("fetch", NAME).stderr == ""


@pytest.mark.first(1)
@pytest.mark.parametrize("command", COMMANDS)
def test_offline_a_command_uses_what_is_cached_and_says_how_to_bring_what_is_not(
    command: str, served: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = COMMANDS[command](tmp_path)
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    refused = ask(*words)
    assert refused.exit_code == 1, refused.output
    assert f"the cache {cache.root()}: does not have it" in refused.stderr
    assert f"{served.url}: not used, because network access is disabled (ZOO_OFFLINE=1)" in refused.stderr
    assert "ZOO_CACHE=DIR zoo fetch far_net.digits there, ZOO_CACHE=DIR here" in refused.stderr
    assert served.requests == []
    monkeypatch.delenv("ZOO_OFFLINE")
    zoo.fetch(NAME)
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    assert ask(*words).exit_code == 0


def offline_of(name: str) -> dict[str, bool]:
    """Returns what ``zoo list --json`` says of the weights of ``name``: those that need no network."""
    model = json.loads(ask("list", name, "--json").stdout)[0]
    rows = json.loads(ask("list", f"{name}.*", "--json").stdout)
    said = {row["name"]: row["offline"] for row in model["weights"]}
    assert said == {row["name"]: row["offline"] for row in rows}, "models and weights agree"
    return said


@pytest.mark.slow
def test_the_list_marks_what_works_offline_now(
    served: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert offline_of("far_net") == {"far_net.digits": False}
    assert ask("list", "far_net.*", "--offline").stderr.startswith("Nothing matches 'far_net.*' and the filters.\n")
    assert "no: it is fetched on first use" in ask("info", NAME).stdout
    zoo.fetch(NAME)
    assert offline_of("far_net") == {"far_net.digits": True}
    assert "far_net  distant (from zoo-distant)  digits+\n" in ask("list", "far_net").stdout
    assert "+ works offline" in ask("list", "far_net").stderr
    assert ask("list", "far_net.*", "--offline").stdout.startswith("weights")
    assert "yes: the file is on this machine" in ask("info", NAME).stdout
    file = shutil.copy(zoo.fetch(NAME), tmp_path / "copy")
    shutil.rmtree(cache.root())
    assert offline_of("far_net") == {"far_net.digits": False}
    (tmp_path / "hub" / "alice" / "far").mkdir(parents=True)
    shutil.move(file, tmp_path / "hub" / "alice" / "far" / "model.safetensors")
    monkeypatch.setenv("ZOO_HUB", str(tmp_path / "hub"))
    assert offline_of("far_net") == {"far_net.digits": True}, "a folder that is a mirror"


@pytest.mark.slow
def test_the_list_knows_embedded_weights_and_those_in_the_cache_of_huggingface_hub(served: HubServer) -> None:
    from huggingface_hub import hf_hub_download

    assert set(offline_of("resnet20").values()) == {True}
    assert set(offline_of("resnet152").values()) == {False}
    hf_hub_download("alice/far", "model.safetensors", endpoint=served.url, cache_dir=os.environ["HF_HUB_CACHE"])
    assert offline_of("far_net") == {"far_net.digits": True}
    served.requests.clear()
    assert ask("fetch", NAME).exit_code == 0
    assert served.requests == []


def test_a_machine_without_a_network_says_how_to_bring_the_weights(
    served: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    refused = ask("fetch", NAME)
    assert refused.exit_code == 1
    assert "cannot be reached" in refused.stderr
    assert "ZOO_CACHE=DIR zoo fetch far_net.digits there, ZOO_CACHE=DIR here" in refused.stderr

"""Xet, by which the hub's client uploads and downloads large files; Zoo reads the same files by plain HTTP."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.hub_server import HubServer
from support.xet_server import TOKEN, Cas, XetStore

from zoo import hub, manifest
from zoo.hub import cache
from zoo.manifest import Weights

DIGITS = Path(__file__).parents[3] / "weights_manifest" / "embedded" / "resnet20.digits.safetensors"

pytest.importorskip("hf_xet", reason="needs hf-xet")


@pytest.fixture
def store(hub_server: HubServer) -> XetStore:
    store = XetStore()
    hub_server.add_xet(store, Cas)
    return store


def run(*command: Any) -> str:
    """Returns what another process prints, for which Xet is not disabled: the client decides that at import."""
    environment = {**os.environ, "HF_HUB_DISABLE_XET": "0", "HF_TOKEN": "token-of-alice"}
    words = [sys.executable, *map(str, command)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_publish_uploads_through_xet_and_fetch_reads_it_by_http(
    hub_server: HubServer, store: XetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ("--to", "hf://alice/tiny", "--manifest", tmp_path / "weights.toml")
    run("-m", "zoo", "publish", DIGITS, "--as", "resnet20.mine", *where)
    asked = [(request.method, request.path.split("/")[1:3]) for request in hub_server.requests if request.status == 200]
    assert ("POST", ["v1", "xorbs"]) in asked
    assert ("POST", ["v1", "shards"]) in asked
    assert not any("lfs" in request.path for request in hub_server.requests)
    assert {request.authorization for request in hub_server.requests if request.origin == "xet"} == {f"Bearer {TOKEN}"}

    content = DIGITS.read_bytes()
    [entry] = manifest.read(tmp_path / "weights.toml")
    assert entry.sha256 == hashlib.sha256(content).hexdigest()
    assert list(store.hashes) == [entry.sha256]

    hub_server.requests.clear()
    monkeypatch.setenv("HF_TOKEN", "token-of-alice")
    hub_server.inject("cut", entry.sha256, after=200_000)
    assert hub.fetch(entry).read_bytes() == content
    assert [(request.origin, request.method, request.range) for request in hub_server.requests] == [
        ("hub", "GET", ""),
        ("content", "GET", ""),
        ("hub", "GET", "bytes=200000-"),
        ("content", "GET", "bytes=200000-"),
    ]
    assert [request.authorization for request in hub_server.requests[1::2]] == ["", ""]


def test_the_hubs_client_downloads_the_same_bytes_through_xet(
    hub_server: HubServer, store: XetStore, tmp_path: Path
) -> None:
    """Chunks of random, repeated and float32 bytes: stored, compressed, and compressed with the bytes regrouped."""
    import numpy

    floats = numpy.random.default_rng(0).normal(size=200_000).astype("float32").tobytes()
    body = os.urandom(300_000) + b"repeated " * 30_000 + floats
    header = json.dumps({"weights": {"dtype": "U8", "shape": [len(body)], "data_offsets": [0, len(body)]}}).encode()
    content = len(header).to_bytes(8, "little") + header + body
    (tmp_path / "model.safetensors").write_bytes(content)
    script = """
import json, sys
from huggingface_hub import HfApi, hf_hub_download
api = HfApi(endpoint=sys.argv[1])
api.create_repo("alice/tiny")
commit = api.upload_file(path_or_fileobj=sys.argv[2], path_in_repo="model.safetensors", repo_id="alice/tiny").oid
print(json.dumps([commit, hf_hub_download("alice/tiny", "model.safetensors", endpoint=sys.argv[1], revision=commit)]))
"""
    commit, theirs = json.loads(run("-c", script, hub_server.url, tmp_path / "model.safetensors"))
    assert Path(theirs).read_bytes() == content
    assert any(request.path.startswith("/v1/reconstructions/") for request in hub_server.requests)
    assert not any(request.origin == "content" for request in hub_server.requests)
    assert len(next(iter(store.xorbs.values()))) < len(content), "some chunks are compressed"

    sha256 = hashlib.sha256(content).hexdigest()
    weights = Weights(file="model.safetensors", repo="alice/tiny", revision=commit, arch="a", tag="b", sha256=sha256)
    file = hub.fetch(weights)
    assert file.read_bytes() == content
    assert file.samefile(theirs), "the client's cache names the file by its sha256"
    assert cache.find(weights) == file
    unknown = Weights(file="model.safetensors", repo="alice/tiny", revision=commit, arch="a", tag="b", pinned=False)
    assert hub.fetch_unpinned(unknown).sha256 == sha256, "and by its Xet hash where it lies"

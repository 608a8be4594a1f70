"""A package index that asks for a password: pypiserver, in a process of its own."""

import base64
import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

USER, PASSWORD = "reader", "s3cret-word"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A package index that asks for a password: its folder, and its address without one."""
    if util.find_spec("pypiserver") is None:  # not imported: it changes how this process imports
        pytest.skip("needs pypiserver")
    folder, secrets = tmp_path_factory.mktemp("index"), tmp_path_factory.mktemp("secrets") / "htpasswd"
    digest = "{SHA}" + base64.b64encode(hashlib.sha1(PASSWORD.encode()).digest()).decode()
    secrets.write_text(f"{USER}:{digest}\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["run", "-p", str(port), "-i", "127.0.0.1", "-a", "list,download,update", "-P", str(secrets)]
    words += ["--disable-fallback", "--backend", "simple-dir", str(folder)]
    command = [sys.executable, "-m", "pypiserver", *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        for _ in range(100):
            try:
                urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except (URLError, ConnectionError):
                time.sleep(0.1)
        yield folder, f"127.0.0.1:{port}/simple"
        server.terminate()


@pytest.fixture
def index(served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the index, empty, which pip is configured for, password and all."""
    folder, address = served
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://{USER}:{PASSWORD}@{address}")
    yield folder
    for wheel in folder.iterdir():
        wheel.unlink()

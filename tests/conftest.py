"""Fixtures of all tests: no test touches the user's caches, tokens or the network."""

import gc
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from support import browser
from support.hub_server import HubServer
from support.package_index import index, served  # noqa: F401  # fixtures

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a background job, whose children would ignore it too
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ["HF_HUB_DISABLE_XET"] = "1"  # huggingface_hub reads it at import, whoever imports it first


# No deadline: a busy machine is not a failure. In CI the same examples each time: a red run blames the change.
settings.register_profile("zoo", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("zoo")


gc.disable()  # until all tests are collected: what is imported stays, and each look at it takes longer


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fail-on-skip", action="store_true", help="A test that would be skipped fails.")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what comes after the first n cases of a test with ``first(n)`` as slow."""
    cases = Counter[str]()
    for item in items:
        if marker := item.get_closest_marker("first"):
            function = item.nodeid.partition("[")[0]
            cases[function] += item.get_closest_marker("slow") is None
            if cases[function] > marker.args[0]:
                item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Lets the garbage collector pass over the modules and tests of this process, which stay to its end."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fails, with ``--fail-on-skip``, where data or a library is not there; ``may_skip`` exempts a test."""
    report = yield
    if report.skipped and item.config.getoption("--fail-on-skip") and item.get_closest_marker("may_skip") is None:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped: {report.longrepr[-1] if report.longrepr else ''}"
    return report


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser.opened() as opened:
        yield opened


@pytest.fixture(autouse=True)
def cache_dir(_index: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ZOO_CACHE with nothing but the index of plugins, an empty ZOO_CONFIG and Hugging Face home, no hub or token."""
    # In a folder of their own and without pytest's numbering, which reads all names each time.
    folder = tmp_path_factory.getbasetemp() / "caches" / str(next(_numbers))
    shutil.copytree(_index, folder / "zoo" / "index", copy_function=os.link)
    for name in [*os.environ]:
        if name.startswith(("ZOO_", "HF_", "HUGGING", "FSSPEC_")) and name not in ("ZOO_DATA", "ZOO_WEIGHTS"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1", "localhost"])))
    monkeypatch.setenv("ZOO_CACHE", str(folder / "zoo"))
    monkeypatch.setenv("ZOO_CONFIG", str(folder / "config"))
    monkeypatch.setenv("HF_HOME", str(folder / "huggingface"))
    monkeypatch.setenv("HF_HUB_CACHE", str(folder / "huggingface" / "hub"))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens: the public hub is never asked
    if constants := sys.modules.get("huggingface_hub.constants"):  # read at import
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "huggingface" / "token"))
    return folder / "zoo"


def _surroundings() -> tuple[object, ...]:
    """Returns what decides which plugins and hubs there are."""
    own = ("ZOO_CACHE", "ZOO_CONFIG")
    settings = {name: value for name, value in os.environ.items() if name.startswith("ZOO_") and name not in own}
    return *sys.path, os.environ.get("HOME"), *sorted(settings.items())


_usual = _surroundings()
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _fresh_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test changed about plugins is not what the next one sees; a registry of the usual ones is kept."""
    from zoo import registry
    from zoo.registry import discovery

    read_under = []
    discover, current = discovery.discover, registry.current

    def recorded() -> list[object]:
        read_under.append(_surroundings())
        return discover()

    monkeypatch.setattr(discovery, "discover", recorded)
    yield
    is_usual = all(conditions == _usual for conditions in read_under)
    if not is_usual or (current.cache_info().currsize and any(row.status != "ok" for row in current().plugins)):
        current.cache_clear()


@pytest.fixture(autouse=True)
def _fresh_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A plugin that a test wrote and imported is not what the next test's plugin of that name is."""
    before = set(sys.modules)
    yield
    root = str(tmp_path_factory.getbasetemp())
    for name in sys.modules.keys() - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(root):
            del sys.modules[name]


@pytest.fixture
def only_built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Third-party plugins of this environment are not used: documentation does not mention them."""
    from zoo import registry

    others = [row.name for row in registry.current().plugins if not row.is_builtin]
    monkeypatch.setenv("ZOO_DISABLE_PLUGINS", ",".join(others))
    registry.clear()


@pytest.fixture(scope="session")
def _index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of the usual plugins, made once: a registry that is read from it takes a tenth of the time."""
    folder = tmp_path_factory.mktemp("index")
    subprocess.run(
        [sys.executable, "-c", "from zoo import registry; registry.current()"],
        env={**os.environ, "ZOO_CACHE": str(folder), "ZOO_CONFIG": str(folder / "config")},
        check=True,
    )
    return folder / "index"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path that tests fill with distributions."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    if registry := sys.modules.get("zoo.registry"):
        registry.clear()
    return folder


@pytest.fixture
def hub_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A running Hugging Face-compatible hub, and HF_ENDPOINT set to it."""
    with HubServer(tmp_path / "hub_server") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture(scope="session")
def _moto() -> Iterator[str]:
    server_module = pytest.importorskip("moto.server", reason="needs moto[server]")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_server(_moto: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a running S3 server, empty, with credentials for it in the environment."""
    from urllib.request import Request, urlopen

    s3fs = pytest.importorskip("s3fs", reason="needs zoo-vision[s3]")
    s3fs.S3FileSystem.clear_instance_cache()  # an earlier test's may have other credentials
    monkeypatch.setenv("AWS_ENDPOINT_URL", _moto)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with urlopen(Request(f"{_moto}/moto-api/reset", method="POST")):
        return _moto


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, and the working directory in it."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A private key; the public one lies beside it as ``lab.pub``."""
    from support.signed import write_key

    return write_key(tmp_path / "lab.pem")


@pytest.fixture(scope="session")
def _converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    import zoo
    from zoo.convert import convert
    from zoo.loading import safetensors_file

    folder = tmp_path_factory.mktemp("converted")
    torch.manual_seed(0)
    about = {"model": "resnet20", "num_classes": 10}
    safetensors_file.write(zoo.create("resnet20").state_dict(), folder / "raw.safetensors", about)
    convert(folder / "raw.safetensors", "resnet20.tiny", folder / "hub" / "resnet20.tiny.safetensors")
    return folder / "hub"


@pytest.fixture
def converted_hub(_converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that ZOO_HUB names, with ``resnet20.tiny``, probe included, as zoo convert makes it."""
    from zoo import registry

    folder = tmp_path / "hub"
    shutil.copytree(_converted, folder)
    monkeypatch.setenv("ZOO_HUB", str(folder))
    registry.clear()
    return folder

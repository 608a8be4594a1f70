"""``zoo gallery serve``: the site on this machine."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from zoo.errors import StorageError
from zoo_gallery import server


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with server.listening(site) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=[0.05])
        thread.start()
        try:
            yield server.address_of(listening)
        finally:
            listening.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("", "text/html"),
        ("models/resnet20.html", "text/html"),
        ("assets/gallery.js", "text/javascript"),
        ("assets/gallery.css", "text/css"),
        ("assets/icon.svg", "image/svg+xml"),
        ("gallery.json", "application/json"),
    ],
)
def test_files_have_the_types_that_browsers_insist_on(address: str, path: str, kind: str) -> None:
    with urlopen(address + path) as answer:
        assert answer.headers["Content-Type"].partition(";")[0] == kind


@pytest.mark.parametrize("path", ["assets/", "models/", "missing.html", "../conftest.py", "%2e%2e/conftest.py"])
def test_folders_are_not_listed_and_nothing_outside_is_served(address: str, path: str) -> None:
    with pytest.raises(HTTPError) as caught:
        urlopen(address + path)
    assert caught.value.code == 404
    caught.value.close()


def test_a_browser_that_closes_its_connection_early_is_no_error(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with server.listening(site) as listening:
        for error in (BrokenPipeError(), ConnectionResetError(), ValueError("something else")):
            try:
                raise error
            except (OSError, ValueError):
                listening.handle_error(None, ("127.0.0.1", 1))
    printed = capsys.readouterr().err
    assert "something else" in printed
    assert "BrokenPipeError" not in printed
    assert "ConnectionResetError" not in printed


def test_it_listens_on_this_machine_alone(site: Path) -> None:
    with server.listening(site) as listening:
        assert listening.server_address[0] == "127.0.0.1"


def test_a_port_in_use_and_a_folder_without_a_site_are_errors_with_a_hint(site: Path, tmp_path: Path) -> None:
    with server.listening(site) as listening, pytest.raises(StorageError, match="cannot be used") as caught:
        server.listening(site, listening.server_address[1]).__enter__()
    assert "--port 0" in caught.value.hint
    with pytest.raises(StorageError, match="holds no site") as caught:
        server.listening(tmp_path).__enter__()
    assert "zoo gallery build" in caught.value.hint


def test_ctrl_c_ends_it_without_an_error(site: Path) -> None:
    words = [sys.executable, "-u", "-m", "zoo", "gallery", "serve", str(site), "--port", "0", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline() for _ in range(3)]
        with urlopen(json.loads("".join(lines))["address"]) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert errors == ""

"""Servers that never finish an answer, or say numbers that are none: the next source is asked."""

import logging
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.hub_entries import CONTENT, directory, entry, unpinned

from zoo import hub
from zoo.errors import HubError
from zoo.hub import download
from zoo.trust import pinning
from zoo_publish import destination

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

ENDLESS: dict[str, tuple[bytes, Callable[[int], bytes]]] = {
    "status": (b"", lambda i: b"x"),
    "continue": (b"", lambda i: b"HTTP/1.1 100 Continue\r\n\r\n"),
    "continue's headers": (b"HTTP/1.1 100 Continue\r\n", lambda i: b"x"),
    "headers": (OK, lambda i: b"x" if i % 10 else b": y\r\n"),
    "a redirect's headers": (b"HTTP/1.1 302 Found\r\n", lambda i: b"x"),
    "chunk size": (CHUNKED, lambda i: b"0"),
    "chunk extension": (CHUNKED + b"5;", lambda i: b"x"),
    "trailers": (CHUNKED + b"1\r\na\r\n0\r\n", lambda i: b"x" if i % 10 else b": y\r\n"),
}
"""By what never ends: how the answer begins, and what the server sends for good, a piece at a time."""


@contextmanager
def serving(begin: bytes, piece: Callable[[int], bytes] | None = None) -> Iterator[str]:
    """Yields the address of a server that answers everything with ``begin``, then with piece after piece if any."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):  # the client went away
                self.request.recv(1 << 16)
                self.request.sendall(begin)
                for i in range(600 if piece else 0):  # a minute
                    time.sleep(0.1)
                    self.request.sendall(piece(i) if piece else b"")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("what", ENDLESS)
def test_a_server_that_never_ends_its_answer_gives_way_to_the_next_mirror(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ZOO_TIMEOUT", "0.2")
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    with serving(*ENDLESS[what]) as address, caplog.at_level(logging.INFO, "zoo.hub"):
        monkeypatch.setenv("ZOO_HUB", f"{address},{directory(tmp_path / 'mirror')}")
        assert hub.fetch(entry()).read_bytes() == CONTENT
    (reason,) = caplog.messages
    assert reason.endswith(("did not respond within 0.2 s", "sent nothing for 0.2 s"))


@pytest.mark.timeout(20)
def test_a_proxy_that_never_ends_its_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_TIMEOUT", "0.2")
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with serving(b"HTTP/1.1 200 OK\r\n", lambda i: b"x") as address:
        monkeypatch.setenv("HTTPS_PROXY", address)
        with pytest.raises(HubError, match="did not respond within"):
            hub.fetch(entry(), source="https://127.0.0.1:1")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("what", ["continue", "headers", "chunk extension"])
def test_a_hub_that_never_ends_its_answer_neither_pins_nor_is_published_to(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_TIMEOUT", "0.3")
    monkeypatch.setenv("HF_TOKEN", "token-of-alice")
    place = destination.parse("hf://alice/tiny", "tiny.c10")
    with serving(*ENDLESS[what]) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(HubError, match="did not respond within"):
            pinning.resolve(unpinned())
        with pytest.raises(HubError, match="no response within"):
            place.held()


DIGITS = b"9" * 5000


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: %s\r\n\r\n" % DIGITS,
        OK + b"Content-Length: \xb2\r\n\r\n",
        b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-9/%s\r\n\r\n" % DIGITS,
        b"HTTP/1.1 206 Partial\r\nContent-Range: bytes %s-9/10\r\n\r\n" % DIGITS,
        b"HTTP/1.1 503 Busy\r\nRetry-After: %s\r\nContent-Length: 0\r\n\r\n" % DIGITS,
        CHUNKED + DIGITS + b"\r\n",
    ],
    ids=["length", "length of another alphabet", "range's size", "range's start", "wait", "chunk"],
)
def test_a_number_that_no_file_has_gives_way_to_the_next_mirror(
    answer: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(answer) as address:
        monkeypatch.setenv("ZOO_HUB", f"{address},{directory(tmp_path / 'mirror')}")
        assert hub.fetch(entry()).read_bytes() == CONTENT


@pytest.mark.timeout(20)
def test_a_server_that_begins_fast_and_then_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_TIMEOUT", "0.3")
    begin = OK + b"Content-Length: %d\r\n\r\n" % len(CONTENT) + CONTENT[:500_000]
    drip = serving(begin, lambda i: CONTENT[500_000 + i : 500_001 + i])
    with drip as address, pytest.raises(HubError, match="too slow"):
        hub.fetch(entry(), source=address)


def test_a_slow_body_that_gets_on_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline is for each piece: a file may take longer than it in all."""
    monkeypatch.setenv("ZOO_TIMEOUT", "0.3")
    step = len(CONTENT) // 8
    pieces = [CONTENT[i : i + step] for i in range(0, len(CONTENT), step)]
    head = OK + b"Content-Length: %d\r\n\r\n" % len(CONTENT)
    with serving(head, lambda i: pieces[i] if i < len(pieces) else b"") as address:
        assert hub.fetch(entry(), source=address).read_bytes() == CONTENT

"""The standard library's HTTP client with a deadline for the response, and for each chunk of its body.

A socket's own time limit begins anew with every byte: a server that drips headers, repeats ``100 Continue`` or
never ends a chunk's size would hold its client for good.
"""

import io
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from socket import socket
from typing import Any, TypeVar
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

T = TypeVar("T")


def open(url: str, headers: dict[str, str], limit: float) -> "Response | None":
    """Returns the response, once its headers have arrived; None for a scheme other than http and https.

    Connecting, a proxy's response, the TLS handshake and the headers may take at most ``limit`` seconds each. Raises
    the standard library's errors; TimeoutError may be the reason of a URLError.
    """
    opener = OpenerDirector()  # build_opener would add file:, ftp: and its own redirects
    for handler in (ProxyHandler(), _Plain(), _Secure()):
        opener.add_handler(handler)
    response: Response | None = opener.open(Request(url, headers=headers), timeout=limit)
    return response


def within(seconds: float, ask: Callable[[], T]) -> T:
    """Returns the result of ``ask``, a request by another client; raises TimeoutError after ``seconds``.

    Its thread then continues in the background, because a client that waits for a server cannot be interrupted.
    """
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # it is raised where the answer is asked for
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return answer.result(seconds)


class Response(HTTPResponse):
    """A response whose reads raise TimeoutError after the time set by :meth:`allow`."""

    def __init__(self, sock: socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self._received = _Received(sock)
        self.fp = io.BufferedReader(self._received)
        self.allow(sock.gettimeout() or 0.0)

    def allow(self, seconds: float) -> None:
        """Sets the time limit in seconds for all further reads."""
        self._received.deadline = time.monotonic() + seconds


class _Received(io.RawIOBase):
    """The bytes that a socket receives until ``deadline``."""

    deadline = 0.0

    def __init__(self, sock: socket) -> None:
        self._sock = sock
        self._file = sock.makefile("rb", buffering=0)  # keeps the socket open, whoever else closes it

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


class _PlainConnection(HTTPConnection):
    response_class = Response


class _SecureConnection(HTTPSConnection):
    response_class = Response


class _Plain(HTTPHandler):
    def http_open(self, req: Request) -> Any:
        return self.do_open(_PlainConnection, req)


class _Secure(HTTPSHandler):
    def https_open(self, req: Request) -> Any:
        return self.do_open(_SecureConnection, req)

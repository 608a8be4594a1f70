"""Shows a site on this machine."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from zoo.errors import StorageError
from zoo_gallery.site import INDEX


class _Handler(SimpleHTTPRequestHandler):
    """Serves files, with the types that browsers insist on, and no listings of folders."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".json": "application/json",
        ".mjs": "text/javascript",
        ".svg": "image/svg+xml",
        ".wasm": "application/wasm",
    }

    def list_directory(self, path: Any) -> None:
        self.send_error(404, "Not found")

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing: the terminal shows the address alone."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Reports an error, unless the browser closed its connection early."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def listening(folder: str | Path, port: int = 0) -> Iterator[ThreadingHTTPServer]:
    """Serves ``folder`` on 127.0.0.1, closed when the block ends; ``port`` 0 means a free one.

    Raises :class:`StorageError` if the folder holds no site or the port is in use.
    """
    if not (Path(folder) / INDEX).is_file():
        raise StorageError(f"{folder} holds no site: it has no {INDEX}.", hint=f"zoo gallery build -o {folder}")
    try:
        server = _Server(("127.0.0.1", port), partial(_Handler, directory=str(folder)))
    except OSError as error:
        raise StorageError(
            f"Port {port} of 127.0.0.1 cannot be used: {error}", hint="--port 0 finds a free one."
        ) from None
    with server:
        yield server


def address_of(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/"

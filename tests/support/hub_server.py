"""A hub that speaks Hugging Face's language, for tests: real HTTP, real content addressing, real faults.

Two origins, as in production: the hub, and a content origin to which it redirects large files. The
content origin also serves ``/mirror/<repo>/<file>``, as any web server would that holds a copy.
Derived from what the public client asks for; never compared with the public hub.

::

    with HubServer(folder) as server:
        commit = server.commit("alice/tiny", {"model.safetensors": content})
        server.inject("cut", "model.safetensors", after=1000)
        ... HF_ENDPOINT=server.url ...
        assert server.requests[-1].range == "bytes=1000-"
"""

import hashlib
import mmap
import ssl
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

from support.hub_handlers import Content, Handler, Hub
from support.hub_repositories import Fault, File, Repo, Request, git_sha1, is_large


class Xet(Protocol):
    """A Xet store that a hub names in its responses: :class:`support.xet_server.XetStore`."""

    url: str

    def headers(self, hub: "HubServer", name: str, revision: str, sha256: str) -> dict[str, str]: ...

    def access(self) -> dict[str, Any]: ...


class HubServer:
    """``tokens`` maps a token to (user, whether it may write)."""

    def __init__(self, folder: Path, *, certificate: tuple[Path, Path] | None = None, page: int = 1000) -> None:
        self.store = folder / "content"
        self.store.mkdir(parents=True, exist_ok=True)
        self.repos: dict[str, Repo] = {}
        self.tokens = {"token-of-alice": ("alice", True), "token-of-bob": ("bob", False)}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.redirects = True
        self.links: set[str] = set()
        self.renamed: dict[str, str] = {}
        self.xet: Xet | None = None
        self.sending = self.most_at_once = 0
        self.page = page
        self.lock = threading.RLock()
        self._servers = [
            self._listen(handler, name, certificate) for handler, name in ((Hub, "hub"), (Content, "content"))
        ]
        scheme = "https" if certificate else "http"
        self.url, self.content_url = (f"{scheme}://127.0.0.1:{server.server_port}" for server in self._servers)
        self.mirror_url = f"{self.content_url}/mirror"

    def _listen(self, kind: type[Handler], name: str, certificate: tuple[Path, Path] | None) -> ThreadingHTTPServer:
        handler = type(kind.__name__, (kind,), {"hub": self, "origin": name})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        server.block_on_close = False
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        return server

    def __enter__(self) -> "HubServer":
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def add_xet(self, store: Xet, kind: type[Handler]) -> None:
        """Starts the origin of a Xet store, to which the hub refers from now on."""
        server = self._listen(type("Cas", (kind,), {"store": store}), "xet", None)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self._servers.append(server)
        store.url = f"http://127.0.0.1:{server.server_port}"
        self.xet = store

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def commit(self, name: str, files: dict[str, bytes], *, private: bool = False, branch: str = "main") -> str:
        """Adds ``files`` to a repository, made where there is none; returns the commit."""
        with self.lock:
            repo = self.repos.setdefault(name, Repo(name.split("/")[0], private))
            head = repo.branches.get(branch)
            state = dict(repo.commits[head].files) if head else {}
            state |= {path: self.keep(path, content) for path, content in files.items()}
            return repo.add(branch, "commit", state)

    def keep(self, path: str, content: bytes) -> File:
        if not is_large(path, len(content)):
            return File(git_sha1(content), content, len(content))
        sha256 = hashlib.sha256(content).hexdigest()
        if not (self.store / sha256).exists():  # what is there may be mapped
            (self.store / sha256).write_bytes(content)
        return self.large(sha256)

    def stored(self, sha256: str) -> memoryview:
        """Returns stored content, mapped rather than read: it may be larger than what should be sent of it."""
        with (self.store / sha256).open("rb") as opened:
            is_empty = not opened.seek(0, 2)
            return memoryview(b"" if is_empty else mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))

    def large(self, sha256: str) -> File:
        """Returns the file of a commit that points to stored content."""
        size = (self.store / sha256).stat().st_size
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
        return File(git_sha1(pointer), b"", size, sha256)

    def sign(self, sha256: str) -> str:
        """Returns an address of stored content that works until :meth:`expire`."""
        self.links.add(link := f"/{sha256}?X-Amz-Expires=3600&X-Amz-Signature=secret-{len(self.links)}")
        return self.content_url + link

    def expire(self) -> None:
        """Makes addresses invalid: none that was signed so far works any more."""
        self.links = {"none"}

    def inject(
        self,
        kind: str,
        match: str = "",
        *,
        times: int = 1,
        after: int = 0,
        seconds: float = 0.0,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Makes the next ``times`` answers whose path contains ``match`` go wrong."""
        self.faults.append(Fault(kind, match, times, after, seconds, headers or {}))

    def take(self, kind: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.kind == kind and fault.times > 0 and fault.match in path:
                    fault.times -= 1
                    return fault
        return None

    def bodies(self) -> list[Request]:
        """Returns the requests that were answered with (a part of) a file."""
        return [request for request in self.requests if request.sent]

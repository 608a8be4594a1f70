"""What the hub of the tests holds and notes: repositories, commits, files, requests, faults."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

CHUNK = 1 << 16
LARGE_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".onnx", ".npz", ".gz")
LARGE_SIZE = 10_000_000
DATE = "2026-01-01T00:00:00.000Z"


@dataclass
class Request:
    """What was asked and answered; ``sent`` counts the bytes of the body that left."""

    origin: str
    method: str
    path: str
    range: str
    authorization: str
    status: int = 0
    sent: int = 0


@dataclass
class Fault:
    """What goes wrong.

    In place of an answer: a status (``403``, ``429``, ``500``, ``503``; ``seconds`` is its Retry-After, ``headers`` are
    further ones), or ``silent`` for some seconds. In the body: ``cut`` or ``hang`` after bytes, ``flip`` a byte,
    ``slow`` by seconds a chunk, wrong ``size``.
    """

    kind: str
    match: str
    times: int
    after: int = 0
    seconds: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class File:
    """A file of a commit: small ones lie in git, large ones (``sha256``) in the content store."""

    oid: str
    content: bytes
    size: int
    sha256: str = ""

    @property
    def etag(self) -> str:
        return f'"{self.sha256 or self.oid}"'

    def described(self, path: str) -> dict[str, Any]:
        row: dict[str, Any] = {"type": "file", "oid": self.oid, "size": self.size, "path": path}
        if self.sha256:
            row["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": 134}
        return row


@dataclass(frozen=True)
class Commit:
    title: str
    files: dict[str, File]
    parent: str


@dataclass
class Gate:
    accepted: set[str] = field(default_factory=set)
    pending: set[str] = field(default_factory=set)


@dataclass
class Repo:
    """``gate`` closes the files to all but the owner and those whose requests were ``accepted``."""

    owner: str
    is_private: bool = False
    gate: Gate | None = None
    is_disabled: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def add(self, branch: str, title: str, files: dict[str, File]) -> str:
        """Commits the whole state ``files``; returns the commit's 40 hex digits."""
        parent = self.branches.get(branch, "")
        state = [parent, title, len(self.commits), sorted((path, file.oid) for path, file in files.items())]
        oid = hashlib.sha1(json.dumps(state).encode()).hexdigest()
        self.commits[oid] = Commit(title, files, parent)
        self.branches[branch] = oid
        return oid


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_large(path: str, size: int) -> bool:
    return path.endswith(LARGE_SUFFIXES) or size > LARGE_SIZE

"""Weights of a manifest, the bytes that they mean, and hubs that hold them."""

import hashlib
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from support.pinned import safetensors_of

from zoo.hub import cache
from zoo.manifest import Weights

REPO = "alice/tiny"


FILE = "model.safetensors"


CONTENT = safetensors_of(1_000_000)


SHA256 = hashlib.sha256(CONTENT).hexdigest()


COMMIT = "0123456789" * 4


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


FLIPPED_SHA256 = hashlib.sha256(flipped(CONTENT)).hexdigest()


def entry(**fields: Any) -> Weights:
    """Returns a pinned entry for CONTENT, with ``fields`` instead."""
    known = {"file": FILE, "repo": REPO, "arch": "tiny", "tag": "c10", "sha256": SHA256, "size": len(CONTENT)}
    return Weights(**(known | fields))


def unpinned(**fields: Any) -> Weights:
    return entry(**({"sha256": "", "size": 0, "pinned": False} | fields))


def directory(folder: Path, content: bytes = CONTENT) -> str:
    """Returns a directory hub that holds ``content``; returns its address."""
    file = folder / REPO / FILE
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    return str(folder)


def quarantined() -> list[str]:
    folder = cache.root() / "quarantine"
    return [file.name for file in folder.iterdir()] if folder.is_dir() else []


def parts() -> list[Path]:
    return [*(cache.root() / "parts").iterdir()]


def arrived(key: str) -> int:
    """Returns the bytes of ``key`` that a fetch has written so far."""
    sizes = [0]
    for file in (cache.root() / "parts").glob(f"{key}.*"):
        with suppress(FileNotFoundError):
            sizes.append(file.stat().st_size)
    return max(sizes)


def start_fetch(weights: Weights, environment: dict[str, str] | None = None) -> "subprocess.Popen[str]":
    """Returns another process that fetches ``weights`` and prints where the file lies."""
    script = (
        "import sys, msgspec; from zoo import hub; from zoo.manifest import Weights\n"
        "print(hub.fetch(msgspec.json.decode(sys.argv[1], type=Weights)))"
    )
    command = [sys.executable, "-c", script, msgspec.json.encode(weights).decode()]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | (environment or {}))

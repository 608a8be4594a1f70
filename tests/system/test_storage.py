"""Fetches that are killed, by the hundred: the right file, nothing left lying about, little read twice; full disks."""

import errno
import hashlib
import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean

import msgspec
import pytest
from support.hub_server import HubServer

from zoo import hub
from zoo.errors import StorageError
from zoo.hub import cache
from zoo.manifest import Weights
from zoo.system import storage

REPO, FILE = "alice/long", "model.safetensors"

# Forks a process that fetches and kills it after some seconds: a fork has its imports done, so that the moment
# falls within the fetch. Answers with the signal that ended it, 0 where it was done before.
KILLER = """
import http.client, json, os, ssl, sys, time, traceback, urllib.request
import filelock, huggingface_hub, msgspec
from zoo import hub
from zoo.hub import address, cache, huggingface, download, web
from zoo.manifest import Weights

huggingface_hub.get_token()
for line in sys.stdin:
    weights, seconds = json.loads(line)
    process = os.fork()
    if not process:
        try:
            hub.fetch(msgspec.convert(weights, Weights))
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    time.sleep(seconds)
    os.kill(process, 9)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    print(-status, flush=True)
"""


@contextmanager
def killer() -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", KILLER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.communicate()


def kill_one(process: "subprocess.Popen[str]", weights: Weights, seconds: float) -> bool:
    """Returns whether a process that fetches ``weights`` was killed, after ``seconds``, before it was done."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps([msgspec.to_builtins(weights), seconds]) + "\n")
    process.stdin.flush()
    signal = int(process.stdout.readline())
    assert signal in (0, 9)
    return signal == 9


def survive(server: HubServer, kills: int, size: int, chunk_seconds: float, longest: float) -> list[float]:
    """Kills fetches at random moments, ten times a file at most, then fetches it once and looks at the cache.

    Returns for every file how often the server sent it, 1 being once.
    """
    moments, done, sent = random.Random(0), 0, []
    with killer() as process:
        while done < kills:
            content = random.Random(f"{done} {len(sent)}").randbytes(size)
            sha256 = hashlib.sha256(content).hexdigest()
            commit = server.commit(REPO, {FILE: content})
            weights = Weights(file=FILE, repo=REPO, arch="tiny", tag="c10", revision=commit, sha256=sha256, size=size)
            server.requests.clear()
            if chunk_seconds:
                server.inject("slow", sha256, times=1000, seconds=chunk_seconds)
            for _ in range(10):
                if not kill_one(process, weights, moments.uniform(0, longest)):
                    break
                done += 1
            assert hub.fetch(weights).read_bytes() == content
            sent.append(sum(request.sent for request in server.requests) / size)
            left = {file.name for file in cache.root().rglob("*") if file.is_file() and file.parent.name != "index"}
            kept = f"{sha256}.safetensors"
            assert left == {kept, f"{kept}.stamp", f"{sha256}.lock"}
            for file in cache.root().rglob("*"):
                if file.is_file():
                    file.unlink()
    return sent


def test_fetches_that_are_killed_leave_nothing_behind_and_lose_little(
    hub_server: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = survive(hub_server, kills=12, size=4_000_000, chunk_seconds=0.002, longest=0.05)
    with capsys.disabled():
        print(f" sent {fmean(sent):.3f} times in {len(sent)} chains", end="")
    assert fmean(sent) < 1.2


@pytest.mark.slow
def test_a_hundred_kills_around_the_last_steps_leave_nothing_behind(hub_server: HubServer) -> None:
    """A file so small that most of a fetch is syncing, moving, stamping."""
    survive(hub_server, kills=100, size=10_000, chunk_seconds=0.0, longest=0.04)


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, r"It takes 1,234,567 bytes, but only [\d,]+ are free\. Free some space"),
        (errno.EDQUOT, r"It takes 1,234,567 bytes, but only [\d,]+ are free\. Free some space"),
        (errno.EROFS, "Check the permissions"),
    ],
)
def test_what_cannot_be_written_says_what_it_takes(number: int, hint: str, tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=f"x cannot be written: (?s:.*){hint}"),
        storage.explained(tmp_path / "not yet there" / "x", 1_234_567),
    ):
        raise OSError(number, "the system's word")


def test_what_a_killed_process_left_is_named_and_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether its process runs on another machine cannot be known."""
    monkeypatch.setattr(storage, "_PATIENCE", 0.1)
    mark = tmp_path / ".manifest.toml.lock"
    mark.touch()
    with pytest.raises(StorageError, match=re.escape(str(mark))) as caught, storage.alone(tmp_path / "manifest.toml"):
        raise AssertionError
    assert "remove that file" in caught.value.hint
    assert mark.exists()
    mark.unlink()
    with pytest.raises(ZeroDivisionError), storage.alone(tmp_path / "manifest.toml"):
        raise ZeroDivisionError
    assert not mark.exists()


@pytest.mark.parametrize("has_links", [True, False])
def test_a_new_file_is_created_once(has_links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_links:

        def refuse(*_: object) -> None:
            raise PermissionError(1, "no links here")

        monkeypatch.setattr("os.link", refuse)
    file = tmp_path / "new" / "file"
    assert storage.create(file, b"first")
    assert not storage.create(file, b"second")
    assert file.read_bytes() == b"first"
    assert [*file.parent.iterdir()] == [file]

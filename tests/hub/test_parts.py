"""Files in arrival: one process writes each; links, pipes and locks that do nothing harm nothing."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from support.hub_entries import CONTENT, FILE, REPO, SHA256, directory, entry, unpinned

from zoo import hub
from zoo.hub import cache, parts
from zoo.hub.parts import Part
from zoo.system import storage

needs_posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@needs_posix
@pytest.mark.parametrize("mask", [0o077, 0o002, 0o022], ids=oct)
def test_files_have_the_mode_that_the_umask_allows(mask: int, tmp_path: Path) -> None:
    address = directory(tmp_path / "hub")
    with umask(mask):
        hub.fetch(entry(hub=address))
        hub.fetch_unpinned(unpinned(hub=address))
        with Part("key") as part:
            part.write(b"begun")
        storage.replace(tmp_path / "out" / "weights", b"content")
        storage.replace(tmp_path / "out" / "weights", b"other content")
    found = [file for folder in (cache.root(), tmp_path / "out") for file in folder.rglob("*") if file.is_file()]
    written = [file for file in found if file.parent.name != "index"]
    assert {file.parent.name for file in written} == {"files", "locks", "parts", "out"}
    assert {oct(file.stat().st_mode & 0o777) for file in written} == {oct(0o666 & ~mask)}


def left_by_a_killed_process(key: str) -> Path:
    """Returns the path of a part whose process has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    place = parts.released(key).with_name(f"{key}.{parts.machine()}-{process.pid}-abcd.part")
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


@needs_posix
@pytest.mark.parametrize(("released", "killed"), [(10, 5_000), (5_000, 10)])
def test_the_longest_part_is_continued(released: int, killed: int) -> None:
    left_by_a_killed_process("key").write_bytes(CONTENT[:killed])
    parts.released("key").write_bytes(CONTENT[:released])
    with Part("key") as part:
        assert part.length == 5_000
        assert part.sha256 == hashlib.sha256(CONTENT[:5_000]).hexdigest()


@needs_posix
def test_a_link_in_the_place_of_a_killed_processs_part_is_not_read_through(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    left_by_a_killed_process("key").symlink_to(tmp_path / "secret")
    with Part("key") as part:
        assert part.length == 0


@needs_posix
@pytest.mark.parametrize("link", ["symbolic", "hard", "dangling"])
def test_a_link_at_the_place_of_a_part_is_not_written_through(link: str, tmp_path: Path) -> None:
    victim, place = tmp_path / "victim", parts.released(SHA256)
    place.parent.mkdir(parents=True)
    if link != "dangling":
        victim.write_bytes(b"precious")
    (os.link if link == "hard" else os.symlink)(victim, place)
    assert hub.fetch(entry(hub=directory(tmp_path / "hub"))).read_bytes() == CONTENT
    assert (victim.read_bytes() if victim.exists() else None) == (None if link == "dangling" else b"precious")


@needs_posix
@pytest.mark.timeout(20)
@pytest.mark.parametrize("where", ["file", "stamp", "part", "lock"])
@pytest.mark.parametrize("what", ["pipe", "device"])
def test_a_pipe_or_a_device_in_the_cache_is_not_waited_for(where: str, what: str, tmp_path: Path) -> None:
    weights = entry(hub=directory(tmp_path / "hub"))
    file = cache.file_of(weights, SHA256)
    place = {
        "file": file,
        "stamp": cache.stamp_of(file),
        "part": parts.released(SHA256),
        "lock": cache.root() / "locks" / f"{SHA256}.lock",
    }[where]
    if where == "stamp":
        hub.fetch(weights)
        place.unlink()
    place.parent.mkdir(parents=True, exist_ok=True)
    if what == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to("/dev/zero")
    assert hub.fetch(weights).read_bytes() == CONTENT


@needs_posix
@pytest.mark.timeout(20)
def test_a_pipe_in_hugging_faces_cache_is_not_waited_for(tmp_path: Path) -> None:
    commit = "0123456789" * 4
    place = Path(os.environ["HF_HUB_CACHE"]) / "models--alice--tiny" / "snapshots" / commit / FILE
    place.parent.mkdir(parents=True)
    os.mkfifo(place)
    with pytest.raises(hub.HubError, match="not a regular file"):
        hub.fetch(entry(revision=commit))


@needs_posix
def test_a_second_user_of_a_shared_cache_fetches_though_the_first_ones_lock_is_not_his(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs the right to be another user")
    weights = entry(hub=directory(tmp_path / "hub"))
    with Part(SHA256) as part:
        part.write(CONTENT[:1000])
    with umask(0o022), cache.lock(SHA256):
        pass
    for folder in (cache.root(), *cache.root().iterdir()):
        folder.chmod(0o777)
    above = {*tmp_path.parents, *cache.root().parents} - {*Path(tempfile.gettempdir()).parents}
    for folder in above - {Path(tempfile.gettempdir())}:  # pytest keeps its folders from other users
        folder.chmod(0o711)
    tmp_path.chmod(0o755)
    os.seteuid(65534)
    try:
        assert hub.fetch(weights).read_bytes() == CONTENT
    finally:
        os.seteuid(0)


def test_of_two_fetches_at_once_without_a_lock_each_writes_a_file_of_its_own() -> None:
    with Part("key") as first:
        first.write(b"a" * 1000)
        with Part("key") as second:
            assert second.length == 0, "what the first one writes is not taken away from it"
            second.write(b"b" * 10)
        first.write(b"a" * 1000)
    assert parts.released("key").read_bytes() == b"a" * 2000
    with Part("key") as third:
        assert third.length == 2000


@needs_posix
@pytest.mark.parametrize(
    ("process", "continued"),
    [
        (f"{parts.machine()}-4194305", True),
        (f"{parts.machine()}-1", False),
        ("00000000-9", False),
        (f"{parts.machine()}-{'9' * 100}", False),
    ],
    ids=["ended", "running", "another machine's", "of no process"],
)
def test_a_part_is_continued_once_its_process_has_ended(process: str, continued: bool) -> None:
    left = cache.root() / "parts" / f"key.{process}-00.part"  # no process has a number above 4194304
    left.parent.mkdir(parents=True)
    left.write_bytes(b"begun")
    with Part("key") as part:
        assert part.length == (5 if continued else 0)


def test_a_cache_that_is_emptied_during_a_fetch_ends_it_without_another_error(tmp_path: Path) -> None:
    def empty(here: int, size: int) -> None:
        if here:
            shutil.rmtree(cache.root())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hub.fetch(entry(hub=directory(tmp_path / "hub")), progress=empty)


def test_a_part_of_another_machine_is_continued_once_nobody_has_written_it_for_long() -> None:
    left = cache.root() / "parts" / "key.00000000-9-00.part"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"begun")
    os.utime(left, (0, 0))
    with Part("key") as part:
        assert part.length == 5


WITHOUT_LOCKS = """
import fcntl, filelock, sys, msgspec
fcntl.flock = lambda *_: None
filelock.FileLock.acquire = lambda self, **_: filelock.AcquireReturnProxy(self)
filelock.FileLock.release = lambda self, **_: None
from hashlib import sha256
from zoo import hub
from zoo.manifest import Weights
for weights in msgspec.json.decode(sys.argv[1], type=list[Weights]):
    file = hub.fetch(weights)
    assert sha256(file.read_bytes()).hexdigest() == weights.sha256
"""


@pytest.mark.slow
@needs_posix
def test_processes_that_fetch_the_same_files_where_locks_do_nothing_all_get_them(tmp_path: Path) -> None:
    wanted = []
    for number in range(40):
        content = hashlib.shake_256(b"%d" % number).digest(300_000)
        file = tmp_path / REPO / f"{number}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        wanted.append(
            entry(file=file.name, hub=str(tmp_path), sha256=hashlib.sha256(content).hexdigest(), size=300_000)
        )
    command = [sys.executable, "-c", WITHOUT_LOCKS, msgspec.json.encode(wanted).decode()]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    failures = [said for process in processes if (said := process.communicate()[1])]
    assert failures == []
    assert all(cache.find(weights) for weights in wanted)
    assert [*(cache.root() / "parts").iterdir()] == []


def test_a_disk_that_fails_in_the_background_fails_the_download(monkeypatch: pytest.MonkeyPatch) -> None:
    """An fsync that follows one that failed may succeed, though bytes were lost."""
    failing = [OSError(errno.EIO, "Input/output error")]
    fsync = os.fsync

    def fails_once(descriptor: int) -> None:
        if failing:
            raise failing.pop()
        fsync(descriptor)

    monkeypatch.setattr(parts, "_FLUSHED", 10)
    monkeypatch.setattr(os, "fsync", fails_once)
    with Part("key") as part:
        part.write(b"0123456789")
        with pytest.raises(OSError, match="Input/output error"):
            part.finish()
    assert not failing

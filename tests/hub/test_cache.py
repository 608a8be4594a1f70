"""The cache: what it believes, what it hashes again, where it puts what it does not believe."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pytest

from zoo.errors import HubError, IntegrityError
from zoo.hub import cache
from zoo.hub.parts import Part
from zoo.manifest import Weights
from zoo.system import storage

CONTENT = hashlib.shake_256(b"a small file").digest(50_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WEIGHTS = Weights(file="model.safetensors", arch="tiny", tag="c10", repo="zoo/tiny", hub="/nowhere", sha256=SHA256)


def admit(arrived: Path, sha256: str = SHA256) -> Path:
    return cache.put(arrived, cache.file_of(WEIGHTS, sha256), cache.stamp_for(sha256, arrived.stat()))


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The cached file of WEIGHTS."""
    arrived = tmp_path / "arrived"
    arrived.write_bytes(CONTENT)
    return admit(arrived)


def flip(file: Path) -> str:
    """Changes one byte in place; returns the new sha256."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    with file.open("r+b") as opened:
        opened.write(content)
    return hashlib.sha256(content).hexdigest()


def forge_stamp(file: Path, sha256: str) -> None:
    """Makes the stamp fit the file as it now is, as damage below the file system would leave it."""
    stat = file.stat()
    stamp = cache.Stamp(sha256, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    file.with_name(file.name + ".stamp").write_bytes(msgspec.json.encode(stamp))


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "a"))
    assert cache.root() == tmp_path / "a"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ZOO_CACHE", "~/weights")
    assert cache.root() == tmp_path / "weights"
    monkeypatch.delenv("ZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.root() == tmp_path / "zoo"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.root() == tmp_path / ".cache" / "zoo"


def test_a_file_that_was_never_fetched_is_not_cached() -> None:
    assert cache.find(WEIGHTS) is None
    with pytest.raises(HubError, match="not in the cache") as caught:
        cache.verify(WEIGHTS)
    assert caught.value.hint == "zoo fetch tiny.c10"


def test_a_cached_file_is_found_without_reading_it(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "sha256_of", None)
    assert cache.find(WEIGHTS) == kept
    cache.verify(WEIGHTS)


def test_a_touched_file_is_hashed_again_and_stamped_anew(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(kept)
    assert cache.find(WEIGHTS) == kept
    monkeypatch.setattr(storage, "sha256_of", None)
    assert cache.find(WEIGHTS) == kept


@pytest.mark.parametrize("stamp", [b"", b"{", b"[]", b'{"sha256": 1}', b"\xff" * 1000])
def test_a_damaged_stamp_only_costs_a_hash(kept: Path, stamp: bytes) -> None:
    kept.with_name(kept.name + ".stamp").write_bytes(stamp)
    assert cache.find(WEIGHTS) == kept


def test_a_flipped_byte_in_the_cache_is_found_and_both_hashes_are_named(kept: Path) -> None:
    got = flip(kept)
    assert cache.find(WEIGHTS) is None
    for _ in range(2):
        with pytest.raises(IntegrityError, match=f"{got}, expected {SHA256}") as caught:
            cache.verify(WEIGHTS)
        assert "zoo fetch tiny.c10" in caught.value.hint


def test_a_flipped_byte_is_found_though_the_modification_time_was_restored(kept: Path) -> None:
    before = kept.stat()
    flip(kept)
    os.utime(kept, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(IntegrityError):
        cache.verify(WEIGHTS)


def test_damage_that_no_stat_shows_is_found_by_a_deep_look_and_from_then_on(kept: Path) -> None:
    flip(kept)
    forge_stamp(kept, SHA256)
    cache.verify(WEIGHTS)
    with pytest.raises(IntegrityError):
        cache.verify(WEIGHTS, deep=True)
    assert cache.find(WEIGHTS) is None
    with pytest.raises(IntegrityError):
        cache.verify(WEIGHTS)


def test_a_file_that_changes_while_it_is_hashed_is_hashed_again(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.stamp_of(kept).unlink()
    sha256_of = storage.sha256_of

    def change_behind(opened: BinaryIO) -> Any:
        digest = sha256_of(opened)
        flip(kept)
        return digest

    monkeypatch.setattr(storage, "sha256_of", change_behind)
    assert cache.sha256_of(kept) == SHA256  # of what it was
    monkeypatch.undo()
    assert cache.sha256_of(kept) == hashlib.sha256(kept.read_bytes()).hexdigest() != SHA256


def test_what_a_killed_process_left_of_a_stamp_goes_with_the_next_stamp(kept: Path) -> None:
    """But not what another process may be writing now."""
    left = [kept.with_name(f"{kept.name}.stamp.{number}{cache.UNFINISHED}") for number in ("0", "1")]
    for file in left:
        file.write_bytes(b"x")
    os.utime(left[0], (0, 0))
    cache.stamp_of(kept).unlink()
    cache.sha256_of(kept)
    assert cache.stamp_of(kept).exists()
    assert [file.exists() for file in left] == [False, True]


def test_a_change_at_once_after_the_move_into_place_shows_in_the_stat(tmp_path: Path) -> None:
    for _ in range(20):
        arrived = tmp_path / "arrived"
        arrived.write_bytes(CONTENT)
        flip(admit(arrived))
        assert cache.find(WEIGHTS) is None


def test_one_process_at_a_time_holds_a_lock_and_a_killed_one_gives_it_back() -> None:
    script = "from zoo.hub import cache; import time\nwith cache.lock('key'): print('held', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "held\n"
        from filelock import FileLock, Timeout

        with pytest.raises(Timeout), FileLock(cache.root() / "locks" / "key.lock", timeout=0.05):
            pass
        process.kill()
        process.wait()
    with cache.lock("key"):
        pass


def test_an_empty_file_is_a_file_and_an_empty_part_is_none() -> None:
    with Part("key") as part:
        pass
    assert not part.path.exists()
    with Part("key") as part:
        part.finish()
    empty = hashlib.sha256().hexdigest()
    assert admit(part.path, empty).read_bytes() == b""

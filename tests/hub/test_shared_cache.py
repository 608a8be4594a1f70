"""One cache for several processes, users and machines: no locks, other people's files, read-only mounts."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import cache_attack
from support.hub_entries import CONTENT, FILE, REPO, SHA256, directory, entry, flipped
from support.hub_server import HubServer

from zoo import hub
from zoo.errors import HubError, IntegrityError
from zoo.hub import cache, parts
from zoo.hub.parts import Part
from zoo.system import storage

needs_posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")
needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to become other users"
)


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache that other users can reach: pytest's own folders are closed to them."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setenv("ZOO_CACHE", f"{folder}/cache")
        cache.root().mkdir()
        yield Path(folder)


@contextmanager
def user(number: int, umask: int = 0o022) -> Iterator[None]:
    before = os.umask(umask)
    os.setegid(cache_attack.GROUP)
    os.seteuid(number)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.umask(before)


def share_among_group() -> None:
    os.chown(cache.root(), 0, cache_attack.GROUP)
    cache.root().chmod(0o2775)


def put(part: Part, hashed: cache.Stamp) -> Path:
    return cache.put(part.path, cache.file_of(entry(), SHA256), hashed)


# ---- the attack ------------------------------------------------------------------------------------------------


def held_up(report: cache_attack.Report) -> bool:
    print(f"{report.runs} runs: {cache_attack.summary(report)}")
    return not (report.wrong or report.lost or report.crashes or report.refused)


@pytest.mark.slow
@needs_posix
def test_processes_without_locks_that_are_killed_never_get_a_wrong_byte(shared: Path) -> None:
    report = cache_attack.attack(shared, runs=4, processes=4)
    assert held_up(report), report
    assert report.fetched >= 4


# ---- a process that another one wrongly takes for dead, as in a container of the same host name ----------------


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "is_being_written", lambda path: False)


def test_two_processes_that_continue_the_same_part_never_write_to_one_file(blind: None) -> None:
    with Part(SHA256) as first:
        first.write(CONTENT[:700_000])
        with Part(SHA256) as second:
            assert second.length == 700_000
            first.restart()  # its bytes were wrong, perhaps
            first.write(b"other bytes")
            second.write(CONTENT[700_000:])
            hashed = second.finish()
        file = put(second, hashed)
        first.restart()
        first.write(b"still other bytes")
    assert file.read_bytes() == CONTENT
    assert parts.released(SHA256).exists() is False, "the file of the first is gone, and so is its name"


def test_a_process_that_was_wrongly_taken_for_dead_gets_its_file_all_the_same(blind: None) -> None:
    with Part(SHA256) as first:
        first.write(CONTENT)
        with Part(SHA256):
            pass
        assert not first.path.exists()
        hashed = first.finish()
    assert first.path.read_bytes() == CONTENT
    assert hashed.inode == first.path.stat().st_ino
    assert put(first, hashed).read_bytes() == CONTENT


def test_a_fetch_whose_file_is_removed_before_it_is_in_place_fetches_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, removed = cache.put, []

    def remove_first(arrived: Path, *rest: object) -> Path:
        if not removed:
            removed.append(arrived)
            arrived.unlink()
        return put(arrived, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(cache, "put", remove_first)
    assert hub.fetch(entry(hub=directory(tmp_path / "hub"))).read_bytes() == CONTENT
    assert removed


# ---- what is in place stays ------------------------------------------------------------------------------------


def test_a_right_file_that_is_in_place_is_not_replaced(tmp_path: Path) -> None:
    """Another machine may have mapped it, and a network file system forgets a file that is replaced."""
    file = hub.fetch(entry(hub=directory(tmp_path / "hub")))
    inode = file.stat().st_ino
    with Part(SHA256) as part:
        part.write(CONTENT)
        hashed = part.finish()
    assert put(part, hashed) == file
    assert file.stat().st_ino == inode
    assert not part.path.exists()


@pytest.mark.parametrize("has_links", [True, False])
def test_of_two_that_move_a_file_into_place_the_second_finds_the_firsts(
    has_links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr(os, "link", no_links)
    with Part(SHA256) as first, Part(SHA256) as second:
        for part in (first, second):
            part.write(CONTENT)
        hashed = [part.finish() for part in (first, second)]
    file = put(first, hashed[0])
    inode = file.stat().st_ino
    assert put(second, hashed[1]) == file
    assert (file.stat().st_ino, file.read_bytes()) == (inode, CONTENT)
    assert [*(cache.root() / "parts").iterdir()] == []


def test_a_file_that_is_replaced_while_it_is_moved_into_place_is_read_before_it_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = cache.storage.sync_folder
    replaced = []

    def replace_behind(folder: Path) -> None:
        if not replaced:
            replaced.append(folder)
            (folder / "other").write_bytes(flipped(CONTENT))
            (folder / "other").replace(cache.file_of(entry(), SHA256))
        sync(folder)

    monkeypatch.setattr(cache.storage, "sync_folder", replace_behind)
    assert hub.fetch(entry(hub=directory(tmp_path / "hub"))).read_bytes() == CONTENT
    assert replaced


def test_a_file_that_another_process_has_just_repaired_is_not_put_in_quarantine(tmp_path: Path) -> None:
    file = hub.fetch(entry(hub=directory(tmp_path / "hub")))
    assert cache.quarantine(file, SHA256, hashlib.sha256(b"as it was before").hexdigest()) is None
    assert file.read_bytes() == CONTENT
    assert [*(cache.root() / "quarantine").iterdir()] == []


def test_a_stamp_is_that_of_the_file_that_was_hashed_and_not_of_its_successor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = hub.fetch(entry(hub=directory(tmp_path / "hub")))
    file.write_bytes(flipped(CONTENT))  # damaged
    sha256_of = storage.sha256_of

    def replace_behind(opened: object) -> object:
        digest = sha256_of(opened)  # type: ignore[arg-type]
        (tmp_path / "repaired").write_bytes(CONTENT)
        (tmp_path / "repaired").replace(file)
        return digest

    monkeypatch.setattr(storage, "sha256_of", replace_behind)
    assert cache.sha256_of(file) != SHA256
    monkeypatch.undo()
    assert cache.sha256_of(file) == SHA256


# ---- without locks ---------------------------------------------------------------------------------------------


@needs_posix
@pytest.mark.filterwarnings("error")
def test_a_file_system_without_flock_costs_nothing_but_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import fcntl

    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", missing)
    assert hub.fetch(entry(hub=directory(tmp_path / "hub"))).read_bytes() == CONTENT
    assert sorted(file.name for file in (cache.root() / "locks").iterdir()) == [f"{SHA256}.lock"]


# ---- other users -----------------------------------------------------------------------------------------------

ALICE, BOB = cache_attack.USERS


@needs_root
@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077], ids=oct)
def test_a_folder_that_a_group_shares_is_shared_whatever_the_umask(umask: int, shared: Path) -> None:
    share_among_group()
    weights = entry(hub=directory(shared / "hub"))
    with user(ALICE, umask):
        file = hub.fetch(weights)
        with Part("begun") as part:
            part.write(b"bytes")
    with user(BOB, umask), cache.lock(SHA256):
        assert hub.fetch(weights) == file
        cache.touch(file)
        assert hub.fetch(entry(file="other.safetensors", hub=str(shared / "hub"))) == file
    assert file.stat().st_uid == ALICE
    modes = {path.name: path.stat().st_mode for path in cache.root().rglob("*") if path.suffix != ".part"}
    assert {name for name, mode in modes.items() if mode & 0o060 != 0o060} == set()


@needs_root
def test_a_second_user_reads_a_cache_that_only_the_first_may_write_to(shared: Path) -> None:
    weights = entry(hub=directory(shared / "hub"))
    os.chown(cache.root(), ALICE, cache_attack.GROUP)
    with user(ALICE):
        file = hub.fetch(weights)
    with user(BOB):
        assert hub.fetch(weights) == file
        cache.touch(file)
        with pytest.raises(HubError, match=r"cannot be written: Permission denied") as caught:
            hub.fetch(entry(hub=str(shared / "hub"), sha256="0" * 64))
        assert "ZOO_CACHE" in caught.value.hint


@needs_root
def test_a_file_that_its_owner_keeps_to_himself_is_an_error_before_anything_is_fetched(
    shared: Path, hub_server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.root().chmod(0o777)
    commit = hub_server.commit(REPO, {FILE: CONTENT})
    monkeypatch.setenv("HF_TOKEN", "token-of-bob")
    hub.fetch(entry(revision=commit)).chmod(0o600)
    hub_server.requests.clear()
    with user(BOB), pytest.raises(HubError, match=r"files/.* cannot be read: Permission denied") as caught:
        hub.fetch(entry(revision=commit))
    assert "ask for the permission to read it" in caught.value.hint
    assert hub_server.requests == []


@needs_root
def test_a_damaged_file_that_only_another_user_may_move_says_so(shared: Path) -> None:
    weights = entry(hub=directory(shared / "hub"))
    hub.fetch(weights).write_bytes(flipped(CONTENT))
    with (
        user(BOB),
        pytest.raises(IntegrityError, match=r"cannot be moved to .*quarantine: Permission denied") as caught,
    ):
        hub.fetch(weights)
    assert "Ask the owner of the cache to run zoo cache verify" in caught.value.hint

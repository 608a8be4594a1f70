"""Shared pins: the first uses of many users, each a small file, and what a first use of other bytes is told."""

import hashlib
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.errors import LockError
from zoo.hub import Received
from zoo.system import storage
from zoo.trust import first_use, lock, shared
from zoo.trust.lock import Lock, Locked

NAME = "pet/net.own"
A, B = (hashlib.sha256(text).hexdigest() for text in (b"a", b"b"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_SHARED_PINS", str(tmp_path / "pins"))
    (tmp_path / "pins").mkdir()
    return tmp_path / "pins"


def first_use_of(sha256: str, name: str = NAME) -> Locked:
    return first_use.pin(name, Received(Path("file"), sha256, 10, "https://example.org", ""))


@pytest.fixture
def owners(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """By inode, the users who own files: what the system says of a file is changed, since tests have one user."""
    every: dict[int, int] = {}
    fstat = os.fstat

    def changed(descriptor: int) -> os.stat_result:
        status = fstat(descriptor)
        fields = list(status)
        fields[4] = every.get(status.st_ino, status.st_uid)
        return os.stat_result(fields)

    monkeypatch.setattr(shared.os, "fstat", changed)
    return every


def pinned_by(folder: Path, owners: dict[int, int], user: int, sha256: str, name: str = NAME) -> Path:
    """Adds what ``user`` pinned, as a process of theirs writes it."""
    file = folder / f"{first_use._key_of(name)}.user{user}.toml"
    file.write_text(lock.render(Lock(version=1, weights={name: Locked("zoo-pet", "1", sha256)})))
    owners[file.stat().st_ino] = user
    return file


def test_agreement_is_said_once_with_the_number_of_users(
    folder: Path, owners: dict[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    for user in range(5000, 5012):
        pinned_by(folder, owners, user, A)
    pinned_by(folder, owners, 6000, B, "pet/net.other")
    with caplog.at_level(logging.WARNING):
        first_use_of(A)
        first_use_of(A)
    assert [text.partition("; ")[2] for text in caplog.messages] == ["12 other users pinned the same bytes"]


def test_other_bytes_are_refused_with_the_number_of_each_and_not_pinned(folder: Path, owners: dict[int, int]) -> None:
    for user in range(5000, 5011):
        pinned_by(folder, owners, user, A)
    pinned_by(folder, owners, 6000, B)
    with pytest.raises(LockError) as caught:
        first_use_of(B)
    assert f"sha256 {A}: pinned by 11" in caught.value.message
    assert f"sha256 {B}: pinned by 1" in caught.value.message
    assert first_use.pins() == {}
    assert len([*folder.iterdir()]) == 12


def test_many_files_of_one_owner_are_one_user(folder: Path, owners: dict[int, int]) -> None:
    for user in range(5000, 5003):
        owners[pinned_by(folder, owners, user, A).stat().st_ino] = 5000
    with pytest.raises(LockError, match=f"sha256 {A}: pinned by 1\n"):
        first_use_of(B)


def test_the_first_user_is_compared_with_nobody_and_the_next_with_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_use_of(A)
    monkeypatch.setenv("ZOO_CONFIG", str(folder.parent / "of another"))
    monkeypatch.setenv("LOGNAME", "another")
    with pytest.raises(LockError, match=f"sha256 {A}: pinned by 1"):
        first_use_of(B)
    first_use_of(A)
    assert len([*folder.iterdir()]) == 2


def test_a_pin_that_is_forgotten_is_withdrawn(folder: Path) -> None:
    first_use_of(A)
    first_use.forget([NAME])
    assert [*folder.iterdir()] == []
    first_use_of(B)


def test_a_folder_that_cannot_be_written_is_compared_only(
    folder: Path, owners: dict[int, int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pinned_by(folder, owners, 5000, A)
    create = storage.create

    def refusing(file: Path, data: bytes) -> bool:
        if file.parent == folder:
            raise PermissionError(13, "Permission denied")
        return create(file, data)

    monkeypatch.setattr(storage, "create", refusing)
    with pytest.raises(LockError):
        first_use_of(B)
    first_use_of(A)
    assert "1 other user pinned the same bytes" in caplog.text
    assert len([*folder.iterdir()]) == 1


def test_of_two_users_who_pin_other_bytes_at_once_one_is_refused(
    folder: Path, owners: dict[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other's file comes after the first comparison."""
    create = storage.create

    def interrupted(file: Path, data: bytes) -> bool:
        if file.parent == folder:
            pinned_by(folder, owners, 5000, A)
        return create(file, data)

    monkeypatch.setattr(storage, "create", interrupted)
    with pytest.raises(LockError, match=f"sha256 {A}: pinned by 1"):
        first_use_of(B)
    assert first_use.pins() == {}
    assert len([*folder.iterdir()]) == 1


@pytest.mark.parametrize("content", [b"", b"]", b"\xff", b'version = 1\n[weights."net.x"]\n', b"version = 1\n"])
def test_a_damaged_file_is_told_and_not_counted(folder: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    file = folder / f"{first_use._key_of(NAME)}.somebody.toml"
    file.write_bytes(content)
    first_use_of(A)
    assert f"{file} is not counted" in caplog.text
    assert first_use.pins().keys() == {NAME}


def test_a_pipe_and_a_link_are_not_followed(folder: Path, tmp_path: Path) -> None:
    key = first_use._key_of(NAME)
    (tmp_path / "elsewhere").write_text(lock.render(Lock(version=1, weights={NAME: Locked("zoo-pet", "1", B)})))
    (folder / f"{key}.a.toml").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(folder / f"{key}.b.toml")
    first_use_of(A)


def test_a_folder_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZOO_SHARED_PINS", str(tmp_path / "none"))
    with pytest.raises(LockError, match="which is not a folder"):
        first_use_of(A)
    assert first_use.pins() == {}


USER = """
import hashlib, os, sys
from pathlib import Path
from zoo.errors import LockError
from zoo.hub import Received
from zoo.trust import first_use
os.environ |= {"LOGNAME": sys.argv[1], "ZOO_CONFIG": sys.argv[2]}
sha256 = hashlib.sha256(sys.argv[3].encode()).hexdigest()
print("ready", flush=True)
sys.stdin.readline()
try:
    first_use.pin("net.a", Received(Path("file"), sha256, 10, "https://example.org", ""))
except LockError:
    sys.exit(3)
"""


def test_of_processes_of_several_users_that_begin_at_once_all_that_pinned_agree(folder: Path, tmp_path: Path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [
        subprocess.Popen([sys.executable, "-c", USER, f"user{n}", str(tmp_path / f"{n}"), str(n % 2)], **pipes)  # type: ignore[call-overload]
        for n in range(6)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    codes = []
    for process in processes:
        process.communicate()
        codes.append(process.returncode)
    assert set(codes) <= {0, 3}
    assert len({n % 2 for n, code in enumerate(codes) if code == 0}) <= 1
    assert len([*folder.iterdir()]) == codes.count(0)

"""Weights in wheels of a package index: a real server, asked by the user's own pip."""

import hashlib
import os
import re
import stat
import subprocess
import sys
import zipfile
from importlib import util
from pathlib import Path
from typing import Any

import pytest
from support.hub_entries import CONTENT, FILE, SHA256, entry, flipped
from support.package_index import PASSWORD, USER

from zoo import hub
from zoo.errors import HubError, IntegrityError, OfflineError
from zoo.hub import cache

MEMBER = f"tiny_weights/{FILE}"


def build(folder: Path, *, name: str = "tiny_weights", tag: str = "py3-none-any", **members: Any) -> Path:
    """Writes a wheel of version 1.0 with ``members``, by default the file of the entry; returns it."""
    files = {MEMBER: CONTENT, **members.get("files", {})}
    info = f"{name}-1.0.dist-info"
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode()
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n".encode()
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"]).encode()
    wheel = folder / f"{name}-1.0-{tag}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            if content is None:
                continue
            member = zipfile.ZipInfo(path)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = (stat.S_IFLNK | 0o777 if path in members.get("links", ()) else 0o100644) << 16
            archive.writestr(member, content)
    return wheel


def of(wheel: Path | None = None, **fields: Any) -> Any:
    hashed = f"#sha256={hashlib.sha256(wheel.read_bytes()).hexdigest()}" if wheel is not None else ""
    return entry(**{"repo": "tiny_weights", "hub": f"pypi:tiny-weights==1.0{hashed}", **fields})


def leftovers() -> list[str]:
    return [path.name for path in (cache.root() / "parts").glob("wheel-*")]


def test_a_file_of_a_wheel_comes_by_the_users_pip_with_its_index_and_password(index: Path) -> None:
    told: list[tuple[int, int]] = []
    file = hub.fetch(of(build(index)), progress=lambda *state: told.append(state))
    assert file.read_bytes() == CONTENT
    assert file.name.startswith(SHA256)
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert not leftovers()


def test_nothing_is_installed_and_nothing_of_the_wheel_runs(index: Path, tmp_path: Path) -> None:
    trap = f"open({str(tmp_path / 'ran')!r}, 'w')\n".encode()
    hub.fetch(of(build(index, files={"tiny_weights/__init__.py": trap, "setup.py": trap})))
    listed = subprocess.run([sys.executable, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert not (tmp_path / "ran").exists()
    assert "tiny" not in listed


def test_a_source_distribution_is_not_built(index: Path, tmp_path: Path) -> None:
    import tarfile

    (tmp_path / "tiny-weights-1.0").mkdir()
    (tmp_path / "tiny-weights-1.0" / "setup.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with tarfile.open(index / "tiny-weights-1.0.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "tiny-weights-1.0", "tiny-weights-1.0")
    with pytest.raises(HubError, match="has no wheel of tiny-weights for this platform"):
        hub.fetch(of())
    assert not (tmp_path / "ran").exists()


def test_an_installed_distribution_needs_no_index(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(build(tmp_path)) as archive:
        archive.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    assert hub.fetch(of()).read_bytes() == CONTENT
    with pytest.raises(HubError, match=r"is installed and has no file tiny_weights/other\.safetensors"):
        hub.fetch(of(file="other.safetensors", sha256="0" * 64))


def test_offline_pip_is_not_asked(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(OfflineError, match=r"pypi:tiny-weights==1\.0: not used, because network access is disabled"):
        hub.fetch(of(build(index)))


WRONG = {
    "no such distribution": ({}, {"hub": "pypi:nowhere==1.0"}, "has no wheel of nowhere"),
    "no such release": ({}, {"hub": "pypi:tiny-weights==2.0"}, r"has no wheel of version 2\.0 .*, only 1\.0"),
    "another platform": ({"tag": "cp311-cp311-win_amd64"}, {}, "has no wheel of tiny-weights for this platform"),
    "a missing member": ({}, {"file": "other.safetensors"}, "has no file tiny_weights/other.* in its wheel"),
    "a link": ({"links": (MEMBER,)}, {}, "in its wheel is a link"),
    "a bomb": ({"files": {MEMBER: bytes(len(CONTENT))}}, {}, "unfolds from"),
    "an address": ({}, {"hub": "pypi:tiny-weights"}, "is not an address: expected pypi:NAME==VERSION"),
    "an option": ({}, {"hub": "pypi:-rfile==1.0"}, "is not an address"),
}  # fmt: skip


@pytest.mark.parametrize(("built", "asked", "reason"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_and_nothing_is_kept(
    built: dict[str, Any], asked: dict[str, Any], reason: str, index: Path
) -> None:
    build(index, **built)
    with pytest.raises(HubError, match=reason) as caught:
        hub.fetch(of(**asked))
    assert PASSWORD not in str(caught.value)
    assert not leftovers()
    assert not (cache.root() / "files").exists() or not [*(cache.root() / "files").iterdir()]


def test_wheel_and_member_are_both_checked(index: Path) -> None:
    wheel = build(index, files={MEMBER: flipped(CONTENT)})
    with pytest.raises(IntegrityError, match=f"expected {SHA256}"):
        hub.fetch(of(wheel))
    wheel.unlink()
    right = of(build(index))
    (index / wheel.name).unlink()
    other = build(index, files={"more.txt": b"x"})
    digest = hashlib.sha256(other.read_bytes()).hexdigest()
    with pytest.raises(IntegrityError, match=f"served a wheel with sha256 {digest}, expected"):
        hub.fetch(right)


def test_a_damaged_wheel_is_no_wheel(index: Path) -> None:
    wheel = build(index)
    content = bytearray(wheel.read_bytes())
    middle = content.index(CONTENT[:0], 200) + 5000
    content[middle : middle + 64] = bytes(64)
    wheel.write_bytes(bytes(content))
    with pytest.raises(HubError, match=r"damaged wheel|cannot be read|could not be brought"):
        hub.fetch(of())
    assert not leftovers()


def test_a_wrong_password_is_an_error_that_does_not_show_it(
    index: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    build(index)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://{USER}:not-{PASSWORD}@{served[1]}")
    with pytest.raises(HubError) as caught:
        hub.fetch(of())
    assert PASSWORD not in str(caught.value)
    assert re.search("401|has no wheel|could not be brought", str(caught.value))


@pytest.fixture
def uv_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides pip, so that uv, which stands beside this Python, brings wheels."""
    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *more: None if name == "pip" else find(name, *more))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    monkeypatch.setenv("UV_NO_CONFIG", "1")


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_a_release_that_was_withdrawn_is_refused(
    tool: str, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """An index of plain files, as PEP 503 and 592 have them."""
    if tool == "uv":
        request.getfixturevalue("uv_alone")
    folder = tmp_path / "simple" / "tiny-weights"
    folder.mkdir(parents=True)
    wheel = build(folder)
    page = f'<!DOCTYPE html><a href="{wheel.name}" data-yanked="wrong labels">{wheel.name}</a>'
    (folder / "index.html").write_text(page)
    command = [sys.executable, "-m", "http.server", "0", "-b", "127.0.0.1", "-d", str(tmp_path / "simple")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        port = re.findall(r"port (\d+)", server.stdout.readline())[0]
        monkeypatch.setenv(f"{tool.upper()}_INDEX_URL", f"http://127.0.0.1:{port}")
        with pytest.raises(HubError, match=r'has withdrawn this release \(yanked: "?wrong labels"?\)'):
            hub.fetch(of())
        server.terminate()


@pytest.mark.usefixtures("uv_alone")
def test_uv_brings_it_where_there_is_no_pip(
    index: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_INDEX_URL", f"http://{USER}:{PASSWORD}@{served[1]}")
    wheel = build(index)
    assert hub.fetch(of(wheel)).read_bytes() == CONTENT
    monkeypatch.setenv("ZOO_CACHE", str(cache.root() / "second"))
    with pytest.raises(
        IntegrityError, match=f"sha256 {hashlib.sha256(wheel.read_bytes()).hexdigest()}, expected {'0' * 64}"
    ):
        hub.fetch(of(hub=f"pypi:tiny-weights==1.0#sha256={'0' * 64}"))
    with pytest.raises(HubError) as caught:
        hub.fetch(of(hub="pypi:tiny-weights==2.0"))
    assert PASSWORD not in str(caught.value)

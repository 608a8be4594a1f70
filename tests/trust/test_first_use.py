"""First use: weights whose sha256 nobody states are pinned to what the hub served, for good and for every process."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace
from support import specimen
from support.command import ask
from support.distributions import install, plugin
from support.hub_entries import flipped
from support.hub_server import HubServer
from support.pinned import CONTENT, FILE, REPO, SHA256

import zoo
from zoo import registry
from zoo.errors import IntegrityError, LockError, OfflineError, StorageError, UnknownNameError, UnpinnedError
from zoo.hub import cache
from zoo.loading import resolve, safetensors_file
from zoo.system import storage, toml
from zoo.trust import first_use, lock
from zoo.trust.lock import Locked

NAME = "pet/pet_net.own"
OTHER = flipped(CONTENT)
OTHER_SHA256 = hashlib.sha256(OTHER).hexdigest()


@pytest.fixture
def manifest(site: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Writes the manifest of a plugin, whose only entry is NAME, unpinned, with other fields."""
    files = {
        "pet/__init__.py": plugin("pet", "pet_net", weights='("pet:weights.toml",)'),
        "pet_model.py": specimen.MODEL,
    }
    install(site, "zoo-pet", {"pet": "pet:plugin"}, files)
    monkeypatch.setenv("PYTHONPATH", str(site))

    def write(**fields: str) -> None:
        known = {"repo": REPO, "file": FILE} | fields
        lines = [f'{key} = "{value}"' for key, value in known.items()]
        lines += [] if "sha256" in fields else ["pinned = false"]
        (site / "pet" / "weights.toml").write_text("\n".join(["[pet_net.own]", *lines, ""]))
        registry.clear()

    write()
    return write


@pytest.fixture
def served(hub_server: HubServer, manifest: Callable[..., None]) -> HubServer:
    """A hub that has CONTENT for NAME."""
    hub_server.commit(REPO, {FILE: CONTENT})
    return hub_server


def run(code: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Returns ``code`` in another process, after ``import zoo``."""
    words = [sys.executable, "-c", f"import zoo\n{code}"]
    return subprocess.run(words, capture_output=True, text=True, env={**os.environ, **variables})


def empty_cache() -> None:
    shutil.rmtree(cache.root())


def rewrite(served: HubServer, content: bytes) -> None:
    """Gives the hub ``content`` in every commit, as if its history had been rewritten."""
    for commit in served.repos[REPO].commits.values():
        commit.files[FILE] = served.keep(FILE, content)


# ---- in one line ---------------------------------------------------------------------------------------------


def test_weights_that_nobody_pinned_are_created_in_one_line(
    hub_server: HubServer, manifest: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sha256 = safetensors_file.write(zoo.create("pet_net").state_dict(), tmp_path / "weights", {})
    commit = hub_server.commit(REPO, {FILE: (tmp_path / "weights").read_bytes()})
    file = zoo.create(NAME).zoo_info.file
    assert hashlib.sha256(file.read_bytes()).hexdigest() == sha256 == file.stem
    assert f"{NAME}: pinned on first use, sha256 {sha256[:8]}..., commit {commit[:7]}" in caplog.text
    held = lock.read(first_use.place()).weights
    assert held == {
        NAME: Locked(
            distribution="zoo-pet",
            version="1.0",
            sha256=sha256,
            size=file.stat().st_size,
            revision=commit,
            source=hub_server.url,
            date=datetime.now(UTC).date(),
        )
    }
    caplog.clear()
    hub_server.requests.clear()
    assert zoo.create(NAME).zoo_info.file == file
    assert (caplog.text, hub_server.requests) == ("", [])


def test_a_cached_file_with_the_sha256_that_the_hub_states_is_not_downloaded(served: HubServer) -> None:
    zoo.fetch(NAME)
    ask("lock", "--user", "--forget", NAME)
    served.requests.clear()
    zoo.fetch(NAME)
    assert not [request for request in served.bodies() if request.origin == "content"]
    assert first_use.pins()[NAME].sha256 == SHA256


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"ZOO_CONFIG": "/a", "XDG_CONFIG_HOME": "/b"}, "/a"),
        ({"ZOO_CONFIG": "", "XDG_CONFIG_HOME": "/b"}, "/b/zoo"),
        ({"ZOO_CONFIG": "", "XDG_CONFIG_HOME": ""}, "/home/me/.config/zoo"),
    ],
)
def test_the_users_lock_lies_in_the_folder_of_the_configuration(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ({"HOME": "/home/me"} | variables).items():
        monkeypatch.setenv(name, value)
    assert first_use.place() == Path(expected) / "zoo.lock"


# ---- other bytes ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_another_process_is_held_to_the_pin(served: HubServer) -> None:
    first = run(f"print(zoo.fetch({NAME!r}))")
    assert Path(first.stdout.strip()).read_bytes() == CONTENT
    served.commit(REPO, {FILE: OTHER})  # the branch moves: the pin holds the commit
    empty_cache()
    second = run(f"print(zoo.fetch({NAME!r}))")
    assert Path(second.stdout.strip()).read_bytes() == CONTENT
    assert second.stderr == ""
    rewrite(served, OTHER)
    empty_cache()
    third = run(f"zoo.create({NAME!r})")
    assert third.returncode == 1
    assert f"has sha256 {OTHER_SHA256}, expected {SHA256}" in third.stderr
    assert f"zoo lock --user --forget {NAME}" in third.stderr


def test_a_hub_that_states_one_sha256_and_serves_other_bytes_is_refused(served: HubServer) -> None:
    (served.store / SHA256).write_bytes(OTHER)
    with pytest.raises(IntegrityError, match=f"has sha256 {OTHER_SHA256}, expected {SHA256}"):
        zoo.fetch(NAME)
    assert first_use.pins() == {}


def test_a_hub_that_states_another_sha256_than_the_manifest_begins_is_refused(
    served: HubServer, manifest: Callable[..., None]
) -> None:
    manifest(sha256_prefix="0badbeef")
    with pytest.raises(IntegrityError, match=rf"has sha256 {SHA256}, the manifest has 0badbeef\.\.\."):
        zoo.fetch(NAME)
    assert not served.bodies() or all(request.origin == "hub" for request in served.bodies())
    assert first_use.pins() == {}


def test_a_file_on_the_web_must_begin_as_its_name_says(hub_server: HubServer, manifest: Callable[..., None]) -> None:
    """torchvision's files end in the first digits of their sha256."""
    wrong, right = "net-0badbeef.pth", f"net-{SHA256[:8]}.pth"
    hub_server.commit(REPO, {wrong: CONTENT, right: CONTENT})
    manifest(hub=hub_server.mirror_url, file=wrong)
    with pytest.raises(IntegrityError, match=f"has sha256 {SHA256}, expected one that begins with 0badbeef"):
        zoo.fetch(NAME)
    assert first_use.pins() == {}
    manifest(hub=hub_server.mirror_url, file=right)
    assert zoo.fetch(NAME).read_bytes() == CONTENT
    assert first_use.pins()[NAME].sha256 == SHA256


def test_an_address_without_commits_that_serves_other_bytes_later_is_refused_until_it_is_forgotten(
    served: HubServer, manifest: Callable[..., None]
) -> None:
    manifest(hub=served.mirror_url)
    zoo.fetch(NAME)
    held = first_use.pins()[NAME]
    assert (held.sha256, held.source, held.revision) == (SHA256, served.mirror_url, "")
    served.commit(REPO, {FILE: OTHER})
    empty_cache()
    with pytest.raises(IntegrityError, match=f"has sha256 {OTHER_SHA256}, expected {SHA256}") as caught:
        zoo.fetch(NAME)
    words = re.search(r"zoo (lock --user --forget \S+)", caught.value.hint)
    assert words is not None
    assert ask(*words[1].split()).exit_code == 0
    assert zoo.fetch(NAME).read_bytes() == OTHER
    assert first_use.pins()[NAME].sha256 == OTHER_SHA256


def test_a_named_source_is_held_to_the_pin(served: HubServer, tmp_path: Path) -> None:
    zoo.fetch(NAME)
    empty_cache()
    file = tmp_path / "elsewhere" / REPO / FILE
    file.parent.mkdir(parents=True)
    file.write_bytes(OTHER)
    with pytest.raises(IntegrityError, match=f"has sha256 {OTHER_SHA256}, expected {SHA256}"):
        zoo.fetch(NAME, source=str(tmp_path / "elsewhere"))


@pytest.mark.slow
def test_a_manifest_that_states_other_bytes_later_is_refused(served: HubServer, manifest: Callable[..., None]) -> None:
    zoo.fetch(NAME)
    manifest(sha256=OTHER_SHA256)
    for act in (zoo.fetch, zoo.create):
        with pytest.raises(LockError, match=f"sha256 locked {SHA256}, now {OTHER_SHA256}") as caught:
            act(NAME)
        assert f"zoo lock --user --forget {NAME}" in caught.value.hint
    manifest(sha256=SHA256)
    assert zoo.fetch(NAME).read_bytes() == CONTENT


def test_the_projects_lock_decides_before_first_use_and_against_the_users(served: HubServer, inside: Path) -> None:
    other = lock.Lock(version=1, weights={NAME: Locked("zoo-pet", "1.0", OTHER_SHA256, len(OTHER))})
    (inside / "zoo.lock").write_text(lock.render(other))
    with pytest.raises(IntegrityError, match=f"has sha256 {SHA256}, expected {OTHER_SHA256}"):
        zoo.fetch(NAME)
    assert first_use.pins() == {}
    (inside / "zoo.lock").unlink()
    zoo.fetch(NAME)
    (inside / "zoo.lock").write_text(lock.render(other))
    with pytest.raises(LockError, match=f"sha256 locked {SHA256}, now {OTHER_SHA256}"):
        zoo.fetch(NAME)


def test_a_project_locks_what_its_user_pinned(served: HubServer, inside: Path) -> None:
    zoo.fetch(NAME)
    assert ask("lock", NAME).exit_code == 0
    held, own = lock.read(inside / "zoo.lock").weights[NAME], first_use.pins()[NAME]
    assert (held.sha256, held.size, held.revision) == (own.sha256, own.size, own.revision)
    assert (held.num_classes, own.num_classes) == (1000, None)


# ---- refused -------------------------------------------------------------------------------------------------

REFUSING = 'version = 1\nunpinned = "refuse"\n\n[[rules]]\nunsigned = true\n'


@pytest.mark.parametrize("by", ["ZOO_STRICT", "policy"])
def test_first_use_can_be_refused_and_earlier_pins_remain(
    by: str, served: HubServer, inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        if by == "policy":
            (inside / "zoo-policy.toml").write_text(REFUSING)
        else:
            monkeypatch.setenv("ZOO_STRICT", "1")

    refuse()
    for act in (zoo.fetch, zoo.create):
        with pytest.raises(UnpinnedError, match=f"{NAME} is not pinned: its manifest has no sha256") as caught:
            act(NAME)
        assert f"zoo manifest pin {NAME}" in caught.value.hint
    assert served.requests == []
    (inside / "zoo-policy.toml").unlink(missing_ok=True)
    monkeypatch.delenv("ZOO_STRICT", raising=False)
    zoo.fetch(NAME)
    refuse()
    assert zoo.fetch(NAME).read_bytes() == CONTENT


def test_a_policy_has_two_words_for_unpinned_weights(served: HubServer, inside: Path) -> None:
    (inside / "zoo-policy.toml").write_text(REFUSING.replace("refuse", "first-use"))
    assert zoo.fetch(NAME).read_bytes() == CONTENT
    (inside / "zoo-policy.toml").write_text(REFUSING.replace("refuse", "allow"))
    with pytest.raises(zoo.PolicyError, match="Invalid enum value 'allow'"):
        zoo.fetch(NAME)


# ---- the file ------------------------------------------------------------------------------------------------


def held(number: int) -> Locked:
    return Locked("zoo-vision", "1", hashlib.sha256(str(number).encode()).hexdigest(), source="https://example.org")


ADD_SOME = """
import hashlib, sys
from zoo.trust import first_use
from zoo.trust.lock import Locked
for number in range(int(sys.argv[1]), int(sys.argv[1]) + 10):
    sha256 = hashlib.sha256(str(number).encode()).hexdigest()
    assert first_use.add(f"net.n{number}", Locked("zoo-vision", "1", sha256, source="https://example.org"))
"""


NO_LOCKS = """
import filelock
filelock.FileLock.acquire = lambda self, **_: filelock.AcquireReturnProxy(self)
filelock.FileLock.release = lambda self, **_: None
"""


@pytest.mark.parametrize("before", ["", pytest.param(NO_LOCKS, marks=pytest.mark.slow)], ids=["locks", "no locks"])
def test_of_pins_that_several_processes_write_at_once_none_is_lost(before: str) -> None:
    code = before + ADD_SOME
    processes = [subprocess.Popen([sys.executable, "-c", code, str(10 * number)]) for number in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert first_use.pins() == {f"net.n{number}": held(number) for number in range(40)}


def test_without_locks_a_pin_that_was_written_meanwhile_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that no lock stops writes while this one is about to."""
    beside, others = storage.beside, iter([1, 2])

    def interrupted(file: Path) -> object:
        if (number := next(others, None)) is not None:
            weights = {**first_use.pins(), f"net.other{number}": held(number)}
            with beside(file) as stream:
                stream.write(lock.render(lock.Lock(version=1, weights=weights)).encode())
        return beside(file)

    first_use.add("net.first", held(0))
    monkeypatch.setattr(storage, "beside", interrupted)
    first_use.add("net.mine", held(3))
    assert first_use.pins().keys() == {"net.first", "net.mine", "net.other1", "net.other2"}
    assert [file.name for file in first_use.place().parent.iterdir() if ".part" in file.name] == []


def test_two_processes_that_got_other_bytes_are_not_both_believed() -> None:
    first_use.add("net.a", held(1))
    assert first_use.add("net.a", held(1)) is False
    with pytest.raises(LockError, match=f"sha256 {held(2).sha256} at https://example.org, but .* {held(1).sha256}"):
        first_use.add("net.a", held(2))


@pytest.mark.first(2)
@pytest.mark.parametrize("content", ["", "]", "version = 2", 'version = 1\n[weights."net.a"]\nsha256 = "x"'])
def test_a_damaged_lock_is_an_error_that_names_the_file_before_anything_is_fetched(
    served: HubServer, content: str
) -> None:
    first_use.place().parent.mkdir()
    first_use.place().write_text(content)
    for act in (zoo.fetch, zoo.create):
        with pytest.raises(LockError, match=re.escape(str(first_use.place()))) as caught:
            act(NAME)
        assert "move it away" in caught.value.hint
    assert served.requests == []
    assert first_use.place().read_text() == content


def test_where_no_lock_can_be_written_the_error_names_the_variable(
    served: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZOO_CONFIG", str(tmp_path / "file" / "zoo"))
    with pytest.raises(StorageError, match="cannot be written") as caught:
        zoo.fetch(NAME)
    assert "ZOO_CONFIG" in caught.value.hint


def test_a_lock_never_grows_beyond_what_is_read() -> None:
    first_use.add("net.a", held(1))
    before = first_use.place().read_bytes()
    with pytest.raises(LockError, match="at most 1,048,576 fit"):
        first_use.add("net.b", replace(held(2), source="x" * (1 << 20)))
    assert first_use.place().read_bytes() == before


def test_a_lock_that_is_a_link_stays_one(served: HubServer, tmp_path: Path) -> None:
    (tmp_path / "dotfiles").write_text("version = 1\n")
    first_use.place().parent.mkdir()
    first_use.place().symlink_to(tmp_path / "dotfiles")
    zoo.fetch(NAME)
    assert first_use.place().is_symlink()
    assert NAME in lock.read(tmp_path / "dotfiles").weights


# ---- the command ---------------------------------------------------------------------------------------------


def test_the_users_lock_is_listed_and_forgotten_by_name(served: HubServer) -> None:
    assert ask("lock", "--user").stdout == ""
    zoo.fetch(NAME)
    listed = ask("lock", "--user").stdout
    assert all(text in listed for text in (NAME, SHA256[:8], served.url))
    rows = json.loads(ask("lock", "--user", "--json").stdout)
    assert rows["weights"][NAME]["sha256"] == SHA256
    assert f"pinned on first use on {datetime.now(UTC).date()}" in ask("info", NAME).stdout
    unknown = ask("lock", "--user", "--forget", "pet/pet_net.owm")
    assert unknown.exit_code == UnknownNameError.exit_code
    assert f"Did you mean {NAME}?" in unknown.output
    assert first_use.pins().keys() == {NAME}
    assert ask("lock", "--user", "--forget", NAME).stdout == f"{NAME}: forgotten, was sha256 {SHA256[:8]}\n"
    assert first_use.pins() == {}


def test_a_name_whose_plugin_is_gone_can_be_forgotten() -> None:
    first_use.add("gone/net.a", held(1))
    assert ask("lock", "--user", "--forget", "gone/net.a").exit_code == 0
    assert first_use.pins() == {}


@pytest.mark.parametrize("words", [["--forget", NAME], ["--user", "--forget"], ["--user", NAME], ["--user", "--check"]])
def test_options_that_do_not_go_together_are_a_usage_error(words: list[str]) -> None:
    answer = ask("lock", *words)
    assert answer.exit_code == 2
    assert "zoo lock --user --forget NAME... removes names" in answer.output


# ---- offline -------------------------------------------------------------------------------------------------


def test_offline_what_is_cached_works_and_what_is_not_says_where_it_was_sought(
    served: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo.fetch(NAME)
    served.requests.clear()
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.setenv("ZOO_HUB", str(tmp_path / "empty"))
    assert zoo.fetch(NAME).read_bytes() == CONTENT
    empty_cache()
    for forget in (False, True):
        if forget:
            ask("lock", "--user", "--forget", NAME)
        with pytest.raises(OfflineError, match="network access is disabled") as caught:
            zoo.fetch(NAME)
        assert all(place in caught.value.message for place in (str(cache.root()), os.environ["ZOO_HUB"], served.url))
        assert "ZOO_CACHE=DIR zoo fetch pet_net.own" in caught.value.hint
    assert served.requests == []
    assert first_use.pins() == {}


def test_offline_a_directory_that_has_the_file_is_a_first_use(
    served: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_HUB", str(tmp_path / "stick"))
    file = tmp_path / "stick" / REPO / FILE
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    assert zoo.fetch(NAME).read_bytes() == CONTENT
    assert first_use.pins()[NAME].source == str(tmp_path / "stick")


def test_a_large_lock_is_parsed_once_however_many_names_are_resolved(
    served: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Locked(distribution="zoo-pet", version="1.0", sha256=SHA256, size=len(CONTENT))
    pins = {f"pet/net_{number}.own": held for number in range(500)} | {NAME: held}
    storage.replace(first_use.place(), lock.render(lock.Lock(version=1, weights=pins)).encode())
    found = registry.current().find(NAME)
    parsed = []
    monkeypatch.setattr(toml, "loads", lambda text, loads=toml.loads: parsed.append(len(text)) or loads(text))
    assert {resolve.weights_for(found).sha256 for _ in range(20)} == {SHA256}
    assert len([length for length in parsed if length > 50_000]) <= 1
    first_use.forget([NAME])
    assert resolve.weights_for(found).sha256 == "", "what is in the file now counts"

"""First use: weights whose sha256 nobody states are pinned to what the hub served, for good and for every process."""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
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
from zoo.errors import HubError, IntegrityError, LockError, OfflineError, StorageError, UnknownNameError, UnpinnedError
from zoo.hub import cache
from zoo.loading import resolve, safetensors_file
from zoo.system import toml
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
    (pin,) = first_use.place().iterdir()
    assert lock.read(pin).weights == {
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
def test_the_users_pins_lie_in_the_folder_of_the_configuration(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ({"HOME": "/home/me"} | variables).items():
        monkeypatch.setenv(name, value)
    assert first_use.place() == Path(expected) / "pins"


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
    wrong, right = "net-0badbeef.safetensors", f"net-{SHA256[:8]}.safetensors"
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


NO_LOCKS = """
import fcntl
fcntl.flock = lambda *_: None
"""

NO_LINKS = """
import os
def refuse(*_, **__): raise PermissionError(1, "no links here")
os.link = refuse
"""

PIN = """
import hashlib, sys, time
from zoo.errors import LockError
from zoo.trust import first_use
from zoo.trust.lock import Locked
number = int(sys.argv[1])
sha256 = hashlib.sha256(str(number).encode()).hexdigest()
mine = Locked("zoo-vision", "1", sha256, source="https://example.org")
print("ready", flush=True)
sys.stdin.readline()
for round in range(12):
    assert first_use.add(f"net.own{number}_{round}", mine)
    try:
        first_use.add(f"net.all_{round}", mine)
        print(round, sha256)
    except LockError:
        print(round, first_use.find(f"net.all_{round}").sha256)
"""


@pytest.mark.parametrize(
    ("before", "count"),
    [
        pytest.param(NO_LOCKS, 6, id="no locks"),
        pytest.param(NO_LOCKS, 24, id="24 processes", marks=pytest.mark.slow),
        pytest.param(NO_LOCKS + NO_LINKS, 6, id="no locks, no links", marks=pytest.mark.slow),
    ],
)
def test_of_pins_that_processes_write_at_once_none_is_lost_and_all_agree_on_the_bytes(before: str, count: int) -> None:
    """Twelve rounds: each process pins a name of its own, and all pin one name to other bytes."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    words = [sys.executable, "-c", before + PIN]
    processes = [subprocess.Popen([*words, str(number)], **pipes) for number in range(count)]  # type: ignore[call-overload]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate()[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0] * count
    pins = first_use.pins()
    for number in range(count):
        assert all(pins[f"net.own{number}_{turn}"].sha256 == held(number).sha256 for turn in range(12))
    for turn in range(12):
        agreed = {words[2 * turn + 1] for words in said}
        assert agreed == {pins[f"net.all_{turn}"].sha256}
    assert len(pins) == 12 * (count + 1)
    assert [file.name for file in first_use.place().iterdir() if not file.name.endswith(".toml")] == []


def test_two_processes_that_got_other_bytes_are_not_both_believed() -> None:
    first_use.add("net.a", held(1))
    assert first_use.add("net.a", held(1)) is False
    with pytest.raises(LockError, match=f"sha256 {held(2).sha256} at https://example.org, but .* {held(1).sha256}"):
        first_use.add("net.a", held(2))


@pytest.mark.first(3)
@pytest.mark.parametrize(
    "content", ["]", 'version = 1\n[weights."net.a"]\nsha256 = "x"', "version = 1\n", "version = 2", ""]
)
@pytest.mark.parametrize("is_older", [False, True], ids=["a pin", "the older file"])
def test_a_damaged_pin_is_an_error_that_names_the_file_before_anything_is_fetched(
    served: HubServer, content: str, is_older: bool
) -> None:
    if is_older and content == "version = 1\n":
        return  # the older file may be empty
    first_use.add(NAME, held(1))
    (file,) = first_use.place().iterdir()
    file = first_use.older_place() if is_older else file
    if is_older:
        shutil.rmtree(first_use.place())
    file.write_text(content)
    for act in (zoo.fetch, zoo.create):
        with pytest.raises(LockError, match=re.escape(str(file))) as caught:
            act(NAME)
        assert "move it away" in caught.value.hint
    assert served.requests == []
    assert file.read_text() == content


def test_a_damaged_pin_of_another_name_harms_nobody(served: HubServer) -> None:
    first_use.add("net.a", held(1))
    (file,) = first_use.place().iterdir()
    file.write_text("]")
    assert zoo.fetch(NAME).read_bytes() == CONTENT


def test_where_no_lock_can_be_written_the_error_names_the_variable(
    served: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZOO_CONFIG", str(tmp_path / "file" / "zoo"))
    with pytest.raises(StorageError, match="cannot be written") as caught:
        zoo.fetch(NAME)
    assert "ZOO_CONFIG" in caught.value.hint


def test_names_that_differ_in_case_or_signs_alone_have_pins_of_their_own() -> None:
    names = ["hf-hub:a/B", "hf-hub:a/b", "hf-hub:a-b/c", "hf-hub:a/b-c", f"hf-hub:a/{'b' * 300}"]
    about = lock.Repository("model.safetensors", "weights.toml", SHA256)
    for number, name in enumerate(names):
        assert first_use.add(name, replace(held(number), repository=about, revision="0" * 40))
    files = [file.name.lower() for file in first_use.place().iterdir()]
    assert len({*files}) == len(names)
    assert {name: pin.sha256 for name, pin in first_use.pins().items()} == {
        name: held(number).sha256 for number, name in enumerate(names)
    }


def test_pins_of_the_older_file_hold_and_can_be_forgotten(
    served: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file may be a link, as in a repository of configuration files; nothing is added to it."""
    pins = {NAME: replace(held(1), distribution="zoo-pet"), "net.b": held(2)}
    (tmp_path / "dotfiles").write_text(lock.render(lock.Lock(version=1, weights=pins)))
    first_use.older_place().parent.mkdir()
    first_use.older_place().symlink_to(tmp_path / "dotfiles")
    with pytest.raises(IntegrityError, match=f"expected {held(1).sha256}"):
        zoo.fetch(NAME)
    first_use.add("net.c", held(3))
    assert first_use.pins().keys() == {NAME, "net.b", "net.c"}
    first_use.forget([NAME])
    assert first_use.pins().keys() == {"net.b", "net.c"}
    assert first_use.older_place().is_symlink()
    assert zoo.fetch(NAME).read_bytes() == CONTENT


# ---- what is pinned is whole ---------------------------------------------------------------------------------


PAGE = b"<!DOCTYPE html><html><title>Log in to the network</title></html>" * 100


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((PAGE, {"Content-Type": "text/html; charset=utf-8"}), "sent a web page"),
        ((PAGE, {}), "is a web page"),
        ((CONTENT, {"Content-Type": "text/html"}), "sent a web page"),
        ((CONTENT[:50_000], {"Content-Length": ""}), r"50,000 bytes of 100,000"),
        ((b"not found\n", {}), "is no whole safetensors file"),
    ],
    ids=["login page", "page without a type", "type of a page", "cut", "other bytes"],
)
def test_what_is_no_whole_file_is_not_pinned_and_the_honest_hub_is_believed_later(
    answer: tuple[bytes, dict[str, str]], reason: str, served: HubServer, manifest: Callable[..., None]
) -> None:
    with answering(*answer) as address:
        manifest(hub=address)
        with pytest.raises(HubError, match=reason):
            zoo.fetch(NAME)
    assert first_use.pins() == {}
    manifest(hub=served.mirror_url)
    assert zoo.fetch(NAME).read_bytes() == CONTENT


def test_a_hub_that_states_the_sha256_of_a_web_page_is_not_believed_either(served: HubServer) -> None:
    served.commit(REPO, {FILE: PAGE * 10})
    with pytest.raises(IntegrityError, match=r"is not pinned: what .* states and serves is a web page"):
        zoo.fetch(NAME)
    assert first_use.pins() == {}


def test_a_pinned_file_that_cannot_be_used_says_since_when_and_how_to_forget_it(
    served: HubServer, manifest: Callable[..., None]
) -> None:
    """As an earlier version pinned it."""
    page = hashlib.sha256(PAGE).hexdigest()
    served.commit(REPO, {FILE: PAGE})
    manifest(hub=served.mirror_url)
    first_use.add(NAME, replace(held(1), distribution="zoo-pet", sha256=page, date=date(2026, 3, 1)))
    for act in (zoo.fetch, zoo.create):
        with pytest.raises(IntegrityError, match=r"cannot be used: .* is a web page") as caught:
            act(NAME)
        assert "pinned on first use on 2026-03-01 from https://example.org" in caught.value.hint
        assert f"zoo lock --user --forget {NAME}" in caught.value.hint


def test_a_pinned_checkpoint_that_cannot_be_converted_says_so_too(
    served: HubServer, manifest: Callable[..., None]
) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("nothing", b"")
    served.commit(REPO, {"net.pth": content.getvalue()})
    manifest(hub=served.mirror_url, file="net.pth")
    with pytest.raises(zoo.WeightsError) as caught:
        zoo.create(NAME)
    assert f"{NAME} was pinned on first use on {datetime.now(UTC).date()} from {served.mirror_url}" in caught.value.hint
    assert f"zoo lock --user --forget {NAME}" in caught.value.hint


@contextmanager
def answering(content: bytes, headers: dict[str, str]) -> Iterator[str]:
    """Yields the address of a server that answers with ``content``; an empty header is left out."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            for key, value in {"Content-Length": str(len(content)), **headers}.items():
                if value:
                    self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content)

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


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


def test_a_mirror_alone_is_no_first_use_unless_it_is_named(
    served: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline, or where the hub is down: nobody but the mirror says what the bytes are."""
    stick = tmp_path / "stick"
    monkeypatch.setenv("ZOO_HUB", str(stick))
    file = stick / REPO / FILE
    file.parent.mkdir(parents=True)
    file.write_bytes(OTHER)
    served.inject("503", times=100)
    monkeypatch.setenv("ZOO_TIMEOUT", "1")
    for switch in ("0", "1"):
        monkeypatch.setenv("ZOO_OFFLINE", switch)
        with pytest.raises(HubError, match=f"{stick}: not asked") as caught:
            zoo.fetch(NAME)
        assert "--source" in caught.value.hint
    assert first_use.pins() == {}
    assert zoo.fetch(NAME, source=str(stick)).read_bytes() == OTHER
    assert first_use.pins()[NAME].source == str(stick)


def test_a_mirror_serves_what_its_hub_states(
    served: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "stick" / REPO / FILE
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    monkeypatch.setenv("ZOO_HUB", str(tmp_path / "stick"))
    assert zoo.fetch(NAME).read_bytes() == CONTENT
    assert not served.bodies()
    assert first_use.pins()[NAME].source == served.url


def test_the_pins_of_other_names_are_not_read(served: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        first_use.add(f"pet/net_{number}.own", held(number))
    first_use.add(NAME, replace(held(0), distribution="zoo-pet", sha256=SHA256, size=len(CONTENT)))
    match = registry.current().find(NAME)
    parsed = []
    monkeypatch.setattr(toml, "loads", lambda text, loads=toml.loads: parsed.append(text) or loads(text))
    assert {resolve.weights_for(match).sha256 for _ in range(20)} == {SHA256}
    assert len(parsed) <= 1
    first_use.forget([NAME])
    assert resolve.weights_for(match).sha256 == "", "what is in the file now counts"

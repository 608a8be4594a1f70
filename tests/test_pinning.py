"""Pinning and locking: a real hub that moves, lies and loses files; locks that hold what they were given."""

import contextlib
import hashlib
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from distributions import install, plugin
from hub_server import Hub, HubServer
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_manifest import toml

import zoo
from zoo import lock, manifest, pinning, project, registry
from zoo.cli import cli
from zoo.errors import HubError, IntegrityError, LockError, OfflineError, UnpinnedError
from zoo.manifest import Weights

REPO = "alice/tiny"
FILE = "model.safetensors"
CONTENT = hashlib.shake_256(b"weights").digest(100_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()

MANIFEST = """\
# Our weights.

[resnet18.ours]   # the first
repo = "alice/tiny"
file = "model.safetensors"
pinned = false   # zoo pin does it
license = { code = "MIT", weights = "MIT" }

[resnet18.ours.scores."imagenet-1k/validation"]
n = 50000
top1 = 70.1   # as its author says
source = "alice"

[resnet34.other]
file = "missing.safetensors"
repo = "alice/tiny"
pinned = false

[resnet18.last]
file = "last.safetensors"
sha256 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
size = 3
hub = "https://example.org"
"""


def ask(*words: object) -> Result:
    registry.clear()
    return CliRunner().invoke(cli, [str(word) for word in words], prog_name="zoo")


def unpinned(**fields: Any) -> Weights:
    return Weights(**({"file": FILE, "repo": REPO, "arch": "tiny", "tag": "c10", "pinned": False} | fields))


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    file = tmp_path / "ours.toml"
    file.write_text(MANIFEST)
    return file


# ---- what a hub says ------------------------------------------------------------------------------------


def test_the_hub_tells_commit_size_and_sha256_without_a_download(hub_server: HubServer) -> None:
    commit = hub_server.commit(REPO, {FILE: CONTENT})
    found = pinning.resolve(unpinned())
    assert (found.revision, found.sha256, found.size, found.pinned) == (commit, SHA256, len(CONTENT), True)
    assert not hub_server.bodies()
    assert zoo.hub.fetch(found).read_bytes() == CONTENT


def test_a_branch_that_moves_between_the_two_questions_gives_one_commit(
    hub_server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hub_server.commit(REPO, {FILE: CONTENT})
    answer = Hub.describe

    def describe_and_move(self: Hub, name: str, revision: str) -> None:
        answer(self, name, revision)
        self.hub.commit(REPO, {FILE: b"other weights"})

    monkeypatch.setattr(Hub, "describe", describe_and_move)
    found = pinning.resolve(unpinned())
    assert (found.revision, found.sha256) == (first, SHA256)


def test_weights_that_were_pinned_stay_what_they_were_when_the_branch_moves(hub_server: HubServer, ours: Path) -> None:
    hub_server.commit(REPO, {FILE: CONTENT})
    assert ask("pin", "resnet18.ours", "--manifest", ours).exit_code == 0
    hub_server.commit(REPO, {FILE: b"other weights"})
    (entry,) = (entry for entry in manifest.read(ours) if entry.tag == "ours")
    assert zoo.hub.fetch(entry).read_bytes() == CONTENT
    again = ask("pin", "resnet18.ours", "--manifest", ours)
    assert "pinned already" in again.output


def test_the_revision_of_an_entry_is_the_one_that_is_asked(hub_server: HubServer) -> None:
    first = hub_server.commit(REPO, {FILE: CONTENT})
    hub_server.commit(REPO, {FILE: b"other weights"})
    assert pinning.resolve(unpinned(revision=first)).sha256 == SHA256
    with pytest.raises(HubError, match="no revision 0000"):
        pinning.resolve(unpinned(revision="0" * 40))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"size": 3}, "100,000 bytes, the manifest says 3"),
        ({"sha256_prefix": "0000"}, "the manifest says 0000..."),
        ({"sha256": "0" * 64, "pinned": True}, f"sha256 {SHA256}, the manifest says {'0' * 64}"),
    ],
)
def test_a_hub_that_holds_other_bytes_than_the_entry_says_is_refused_with_both_sides(
    hub_server: HubServer, fields: dict[str, Any], problem: str
) -> None:
    hub_server.commit(REPO, {FILE: CONTENT})
    with pytest.raises(IntegrityError, match=problem.replace(".", r"\.")):
        pinning.resolve(unpinned(**fields))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"file": "missing.safetensors"}, f"no file missing.safetensors in {REPO}"),
        ({"repo": "alice/missing"}, "no repository alice/missing"),
        ({"file": "folder"}, "no file folder"),
        ({"file": "README.md"}, "tells no sha256"),
    ],
)
def test_what_the_hub_cannot_tell_is_refused_with_the_reason(
    hub_server: HubServer, fields: dict[str, Any], problem: str
) -> None:
    hub_server.commit(REPO, {FILE: CONTENT, "README.md": b"small", "folder/x.bin": b"x"})
    with pytest.raises(HubError, match=problem):
        pinning.resolve(unpinned(**fields))


def test_an_expired_token_does_not_keep_a_public_repository_from_being_pinned(
    hub_server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_server.commit(REPO, {FILE: CONTENT})
    monkeypatch.setenv("HF_TOKEN", "expired")
    assert pinning.resolve(unpinned()).sha256 == SHA256


def test_a_private_repository_is_pinned_with_its_owners_token_alone(
    hub_server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_server.commit(REPO, {FILE: CONTENT}, private=True)
    monkeypatch.setenv("HF_TOKEN", "token-of-bob")
    with pytest.raises(HubError, match="gives no access"):
        pinning.resolve(unpinned())
    monkeypatch.setenv("HF_TOKEN", "token-of-alice")
    assert pinning.resolve(unpinned()).sha256 == SHA256


def test_a_small_file_is_hashed_on_demand(hub_server: HubServer) -> None:
    commit = hub_server.commit(REPO, {"small.json": b"small"})
    found = pinning.resolve(unpinned(file="small.json"), download=True)
    assert (found.sha256, found.size) == (hashlib.sha256(b"small").hexdigest(), 5)
    assert found.revision == commit


def test_with_the_network_off_nothing_is_asked(hub_server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    for entry in (unpinned(), unpinned(hub=hub_server.mirror_url)):
        with pytest.raises(OfflineError):
            pinning.resolve(entry)
    assert not hub_server.requests


def test_a_web_server_tells_the_size_and_the_name_the_beginning_of_the_hash(hub_server: HubServer) -> None:
    name = f"tiny-{SHA256[:8]}.pth"
    hub_server.commit(REPO, {name: CONTENT})
    entry = unpinned(file=name, hub=hub_server.mirror_url)
    found = pinning.resolve(entry)
    assert (found.sha256_prefix, found.size, found.sha256, found.pinned) == (SHA256[:8], len(CONTENT), "", False)
    whole = pinning.resolve(entry, download=True)
    assert (whole.sha256_prefix, whole.size, whole.sha256, whole.pinned) == ("", len(CONTENT), SHA256, True)


def test_pin_downloads_what_no_hub_states_only_when_told_to(hub_server: HubServer, tmp_path: Path) -> None:
    hub_server.commit(REPO, {FILE: CONTENT})
    file = tmp_path / "manifest.toml"
    hub = f'hub = "{hub_server.mirror_url}"'
    file.write_text(f'[resnet18.ours]\nrepo = "{REPO}"\nfile = "{FILE}"\n{hub}\npinned = false\n')
    ask("pin", "--manifest", file)
    assert SHA256 not in file.read_text()
    answer = ask("pin", "--manifest", file, "--download")
    assert answer.exit_code == 0, answer.output
    (entry,) = manifest.read(file)
    assert (entry.sha256, entry.pinned) == (SHA256, True)


def test_a_download_that_is_not_what_its_name_says_pins_nothing(hub_server: HubServer) -> None:
    name = "tiny-0badbeef.pth"
    hub_server.commit(REPO, {name: CONTENT})
    with pytest.raises(IntegrityError, match="begins with 0badbeef"):
        pinning.resolve(unpinned(file=name, hub=hub_server.mirror_url, sha256_prefix="0badbeef"), download=True)
    with pytest.raises(IntegrityError, match="is named for sha256 0badbeef"):
        pinning.resolve(unpinned(file=name, hub=hub_server.mirror_url, sha256_prefix="0000"))


def test_a_wrong_size_on_the_way_pins_nothing(hub_server: HubServer) -> None:
    hub_server.commit(REPO, {"tiny.pth": CONTENT})
    hub_server.inject("size", "tiny.pth")
    with pytest.raises(IntegrityError, match="100,004 bytes, the manifest says 100,000"):
        pinning.resolve(unpinned(file="tiny.pth", hub=hub_server.mirror_url, size=len(CONTENT)))


def test_a_hub_that_fails_is_told_and_not_blamed_on_the_repository(hub_server: HubServer) -> None:
    hub_server.commit(REPO, {FILE: CONTENT})
    hub_server.inject("500", "/api/models", times=20)
    with pytest.raises(HubError, match="cannot be asked about alice/tiny"):
        pinning.resolve(unpinned())


# ---- what is written -----------------------------------------------------------------------------------


def test_pinning_changes_the_lines_it_must_and_no_other(hub_server: HubServer, ours: Path) -> None:
    commit = hub_server.commit(REPO, {FILE: CONTENT})
    answer = ask("pin", "resnet18.ours", "--manifest", ours)
    assert answer.exit_code == 0, answer.output
    before, after = MANIFEST.splitlines(), ours.read_text().splitlines()
    assert [line for line in before if line not in after] == ["pinned = false   # zoo pin does it"]
    added = [f'revision = "{commit}"', f'sha256 = "{SHA256}"', f"size = {len(CONTENT)}"]
    assert [line for line in after if line not in before] == added
    assert [line for line in after if line in before and line] == [
        line for line in before if line and "pinned = false   #" not in line
    ]
    assert tomllib.loads(ours.read_text())["resnet18"]["ours"]["sha256"] == SHA256


def test_without_names_every_unpinned_entry_is_tried_and_one_failure_harms_no_other(
    hub_server: HubServer, ours: Path
) -> None:
    hub_server.commit(REPO, {FILE: CONTENT})
    answer = ask("pin", "--manifest", ours, "--json")
    assert answer.exit_code == 1
    rows = {row["name"]: row for row in json.loads(answer.stdout)}
    assert {name: row["ok"] for name, row in rows.items()} == {"resnet18.ours": True, "resnet34.other": False}
    assert [entry.name for entry in manifest.read(ours) if not entry.pinned] == ["resnet34.other"]


def test_line_ends_of_windows_stay(hub_server: HubServer, ours: Path) -> None:
    hub_server.commit(REPO, {FILE: CONTENT})
    ours.write_bytes(MANIFEST.replace("\n", "\r\n").encode())
    assert ask("pin", "resnet18.ours", "--manifest", ours).exit_code == 0
    assert ours.read_bytes().count(b"\r\n") == len(MANIFEST.splitlines()) + 2


def test_a_name_that_the_manifest_does_not_hold_is_added_at_its_end(hub_server: HubServer, ours: Path) -> None:
    hub_server.commit("timm/resnet101.a1_in1k", {FILE: CONTENT})
    for file in (ours, ours.with_name("new.toml")):
        answer = ask("pin", "resnet101.a1_in1k", "--manifest", file)
        assert answer.exit_code == 0, answer.output
        assert manifest.read(file)[-1].sha256 == SHA256
        assert manifest.read(file)[-1].name == "resnet101.a1_in1k"
    assert ours.read_text().startswith(MANIFEST)


def test_a_manifest_in_an_odd_form_is_pinned_or_left_as_it_was(hub_server: HubServer, tmp_path: Path) -> None:
    hub_server.commit(REPO, {FILE: CONTENT})
    file = tmp_path / "odd.toml"
    for text in (
        'resnet18 = { ours = { file = "model.safetensors", repo = "alice/tiny", pinned = false } }\n',
        'resnet18.ours.file = "model.safetensors"\nresnet18.ours.repo = "alice/tiny"\nresnet18.ours.pinned = false\n',
        '[resnet18]\nours = { file = "model.safetensors", repo = "alice/tiny", pinned = false }\n',
        '[resnet18.ours.license]\nweights="MIT"\n[resnet18.ours]\nfile = "model.safetensors"\nrepo = "alice/tiny"\n'
        "pinned = false\n",
    ):
        file.write_text(text)
        answer = ask("pin", "resnet18.ours", "--manifest", file)
        assert answer.exit_code == 0, (text, answer.output)
        (entry,) = manifest.read(file)
        assert (entry.sha256, entry.repo, entry.pinned) == (SHA256, REPO, True)


# ---- locks ----------------------------------------------------------------------------------------------


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, and the working directory in it."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def drifted(file: Path, name: str, **fields: Any) -> None:
    """Rewrites the lock as if ``name`` had been something else when it was written."""
    held = lock.read(file)
    weights = {**held.weights, name: msgspec.structs.replace(held.weights[name], **fields)}
    file.write_text(lock.render(msgspec.structs.replace(held, weights=weights)))


def test_a_lock_holds_names_versions_and_bytes(inside: Path) -> None:
    assert ask("lock", "resnet20.digits", "resnet20").exit_code == 0
    table = tomllib.loads((inside / "zoo.lock").read_text())
    entry = registry.load().find("resnet20.digits").weights
    assert entry
    assert table["weights"]["resnet20.digits"] == {
        "distribution": "zoo-vision",
        "version": zoo.__version__,
        "sha256": entry.sha256,
        "size": entry.size,
    }
    assert table["defaults"] == {"resnet20": "c10"}
    assert ask("lock", "--check").exit_code == 0
    assert ask("fetch", "resnet20.digits", "resnet20").exit_code == 0


@pytest.mark.parametrize("field", ["sha256", "size"])
def test_drift_stops_fetch_and_create_and_shows_both_sides(inside: Path, field: str) -> None:
    ask("lock", "resnet20.digits")
    entry = registry.load().find("resnet20.digits").weights
    assert entry
    other = {"sha256": "f" * 64, "size": 7}[field]
    drifted(inside / "zoo.lock", "resnet20.digits", **{field: other})
    answer = ask("fetch", "resnet20.digits")
    assert answer.exit_code == 1
    assert f"{field} locked {other}, now {getattr(entry, field)}" in answer.output
    for act in (lambda: zoo.fetch("resnet20.digits"), lambda: zoo.create("resnet20.digits")):
        with pytest.raises(LockError, match=f"{field} locked {other}"):
            act()
    assert zoo.create("resnet20").num_classes == 10  # an architecture alone has no bytes to lock
    accepted = ask("lock", "resnet20.digits")
    assert accepted.exit_code == 0
    assert ask("fetch", "resnet20.digits").exit_code == 0


def test_a_default_that_moved_does_not_move_a_locked_project(inside: Path) -> None:
    ask("lock", "resnet20.digits", "resnet20.c10")
    held = lock.read(inside / "zoo.lock")
    (inside / "zoo.lock").write_text(lock.render(msgspec.structs.replace(held, defaults={"resnet20": "digits"})))
    assert zoo.fetch("resnet20") == zoo.fetch("resnet20.digits")
    (inside / "zoo.lock").unlink()
    assert zoo.fetch("resnet20") == zoo.fetch("resnet20.c10")


def test_the_check_tells_every_difference_and_exits_1(inside: Path) -> None:
    ask("lock", "resnet20.digits", "resnet20.c10", "resnet20.fmnist")
    drifted(inside / "zoo.lock", "resnet20.digits", sha256="f" * 64, version="0.0.1")
    drifted(inside / "zoo.lock", "resnet20.c10", distribution="someone-else")
    text = (inside / "zoo.lock").read_text()
    (inside / "zoo.lock").write_text(text.replace("resnet20.fmnist", "resnet20.gone"))
    answer = ask("lock", "--check", "--json")
    assert answer.exit_code == 1
    found = {(line["name"], line["field"]) for line in json.loads(answer.stdout)["differences"]}
    assert found == {
        ("resnet20.digits", "sha256"),
        ("resnet20.digits", "version"),
        ("resnet20.c10", "distribution"),
        ("resnet20.gone", "name"),
    }
    assert "now 0.1.0" in ask("lock", "--check").output


def test_a_newer_plugin_with_the_same_bytes_is_told_by_the_check_alone(inside: Path) -> None:
    ask("lock", "resnet20.digits")
    drifted(inside / "zoo.lock", "resnet20.digits", version="0.0.1")
    assert ask("fetch", "resnet20.digits").exit_code == 0
    assert ask("lock", "--check").exit_code == 1
    assert ask("lock").exit_code == 0  # of the names that are already in it
    assert ask("lock", "--check").exit_code == 0


def test_a_name_that_is_not_locked_is_used_and_told(inside: Path, caplog: pytest.LogCaptureFixture) -> None:
    ask("lock", "resnet20.digits")
    zoo.fetch("resnet20.c10")
    assert "resnet20.c10 is not in" in caplog.text


def test_the_lock_pins_what_the_manifest_does_not(hub_server: HubServer, inside: Path) -> None:
    commit = hub_server.commit("timm/resnet101.a1_in1k", {FILE: CONTENT})
    assert ask("lock", "resnet101.a1_in1k").exit_code == 1
    with pytest.raises(UnpinnedError):
        zoo.fetch("resnet101.a1_in1k")
    assert ask("fetch", "resnet101.a1_in1k", "--allow-unpinned").exit_code == 0
    assert ask("lock", "resnet101.a1_in1k").exit_code == 0
    held = lock.read(inside / "zoo.lock").weights["resnet101.a1_in1k"]
    assert (held.sha256, held.revision, held.size) == (SHA256, commit, len(CONTENT))
    file = zoo.fetch("resnet101.a1_in1k")
    assert file.read_bytes() == CONTENT
    hub_server.commit("timm/resnet101.a1_in1k", {FILE: b"other weights"})
    file.unlink()
    assert zoo.fetch("resnet101.a1_in1k").read_bytes() == CONTENT
    assert ask("lock", "--check").exit_code == 0


def test_a_third_partys_weights_are_locked_by_their_full_name(
    inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"zoo_third.py": plugin("third", "net")}
    monkeypatch.syspath_prepend(install(tmp_path / "site", "zoo-third", {"third": "zoo_third:plugin"}, files))
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "w.safetensors").write_bytes(CONTENT)
    (tmp_path / "hub" / "manifest.toml").write_text(f'[net.tag]\nfile = "w.safetensors"\nsha256 = "{SHA256}"\n')
    monkeypatch.setenv("ZOO_HUB", str(tmp_path / "hub"))
    answer = ask("lock", "net.tag")
    assert answer.exit_code == 0, answer.output
    held = lock.read(inside / "zoo.lock").weights["third/net.tag"]
    assert held.distribution == "zoo-third"
    for name in ("net.tag", "third/net.tag"):
        assert zoo.fetch(name).read_bytes() == CONTENT


# ---- where a lock is looked for ---------------------------------------------------------------------------


def test_a_lock_above_is_found_within_the_repository_and_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "outside" / "repository" / "package" / "deep"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    (tmp_path / "outside" / "zoo.lock").write_text("version = 1\n")
    (inner.parent / "zoo.lock").write_text("version = 1\n")
    assert project.find("zoo.lock", "ZOO_LOCK") is None  # no repository: this folder alone
    (tmp_path / "outside" / "repository" / ".git").write_text("gitdir: elsewhere")  # as in a worktree
    assert project.find("zoo.lock", "ZOO_LOCK") == inner.parent / "zoo.lock"
    (inner.parent / "zoo.lock").unlink()
    assert project.find("zoo.lock", "ZOO_LOCK") is None
    (tmp_path / "outside" / "repository" / "zoo.lock").write_text("version = 1\n")
    assert project.find("zoo.lock", "ZOO_LOCK") == tmp_path / "outside" / "repository" / "zoo.lock"


def test_the_environment_names_a_lock_that_must_exist(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_LOCK", str(inside / "ci.lock"))
    with pytest.raises(LockError, match=r"ci\.lock cannot be read"):
        zoo.fetch("resnet20.digits")
    assert ask("lock", "--check").exit_code == 1
    assert ask("lock", "resnet20.digits").exit_code == 0
    assert (inside / "ci.lock").is_file()
    assert zoo.fetch("resnet20.digits").is_file()


def test_pinning_without_tomlkit_says_what_to_install(
    hub_server: HubServer, ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_server.commit(REPO, {FILE: CONTENT})
    monkeypatch.setitem(sys.modules, "tomlkit", None)
    answer = ask("pin", "resnet18.ours", "--manifest", ours)
    assert answer.exit_code == 1
    assert "zoo-vision[pin]" in answer.output
    assert ours.read_text() == MANIFEST


def test_a_plugin_that_can_no_longer_be_used_is_a_difference(
    inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask("lock", "resnet20.digits", "vgg16.tv_in1k")
    monkeypatch.setenv("ZOO_DISABLE_PLUGINS", "vgg")
    answer = ask("lock", "--check", "--json")
    assert answer.exit_code == 1
    assert [line["name"] for line in json.loads(answer.stdout)["differences"]] == ["vgg16.tv_in1k"]


# ---- hostile locks ------------------------------------------------------------------------------------------

LOCK = f"""\
version = 1

[weights."resnet20.c10"]
distribution = "zoo-vision"
version = "0.1.0"
sha256 = "{SHA256}"
size = 3

[defaults]
resnet20 = "c10"
"""

BROKEN = {
    "no version": LOCK.replace("version = 1\n", ""),
    "newer": LOCK.replace("version = 1\n", "version = 2\n"),
    "a hash too short": LOCK.replace(SHA256, "abc"),
    "no hash": LOCK.replace(SHA256, ""),
    "a name without tag": LOCK.replace('"resnet20.c10"', '"resnet20"'),
    "a path as name": LOCK.replace('"resnet20.c10"', '"../resnet20.c10"'),
    "a default that is not locked": LOCK.replace('resnet20 = "c10"', 'resnet20 = "c100"'),
    "an unknown key": LOCK + "[other]\n",
    "a negative size": LOCK.replace("size = 3", "size = -3"),
    "a control character": LOCK.replace('"0.1.0"', '"0.1\\u001b0"'),
    "not TOML": LOCK + "]",
    "two of one name": LOCK + LOCK,
    "nested": "version = 1\nx = " + "[" * 100_000,
    "dotted": "version = 1\n" + "a." * 100_000 + "b = 1\n",
    "large": "version = 1\n# " + "x" * (1 << 20),
    "digits": LOCK.replace("size = 3", "size = " + "9" * 5_000),
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_lock_is_refused_by_name_and_nothing_is_fetched(inside: Path, text: str) -> None:
    (inside / "zoo.lock").write_text(text)
    with pytest.raises(LockError, match=r"zoo\.lock"):
        zoo.fetch("resnet20.c10")
    assert ask("lock", "--check").exit_code == 1


def test_a_lock_that_is_no_file_is_refused(inside: Path) -> None:
    (inside / "zoo.lock").mkdir()
    with pytest.raises(LockError, match="not a regular file"):
        zoo.fetch("resnet20.c10")
    (inside / "zoo.lock").rmdir()
    (inside / "zoo.lock").write_bytes(b"\xff\xfe")
    with pytest.raises(LockError, match="not TOML"):
        zoo.fetch("resnet20.c10")


def test_a_valid_lock_reads_as_it_was_written() -> None:
    held = project.parse(LOCK.encode(), lock.Lock, LockError, "zoo.lock")
    assert project.parse(lock.render(held).encode(), lock.Lock, LockError, "zoo.lock") == held


SCALARS = (
    st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["f" * 64, "0" * 40, "../x", "c10", "resnet20", "resnet20.c10", "zoo-vision", "\x00", ""])
)
KEYS = st.sampled_from(
    ["version", "weights", "defaults", "resnet20.c10", "resnet20", "a/b.c", "sha256", "size", "revision", "x", "", "\n"]
)
TABLES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)
HOSTILE = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.dictionaries(KEYS, TABLES, max_size=4).map(
        lambda table: "\n".join(f"{toml(key)} = {toml(value)}" for key, value in table.items()).encode()
    ),
    st.dictionaries(st.sampled_from(["resnet20.c10", "a/b.c", "x.y", "bad"]), TABLES, max_size=3).map(
        lambda table: f"version = 1\nweights = {toml(table)}\n".encode()
    ),
    st.tuples(st.integers(0, len(LOCK)), st.integers(0, len(LOCK)), st.text(max_size=6)).map(
        lambda cut: (LOCK[: cut[0]] + cut[2] + LOCK[cut[1] :]).encode("utf-8", "replace")
    ),
)


def assert_a_lock_is_read_or_refused(content: bytes) -> None:
    held = None
    with contextlib.suppress(LockError):
        held = project.parse(content, lock.Lock, LockError, "zoo.lock")
    if held is None:
        return
    assert all(len(one.sha256) == 64 and one.size >= 0 for one in held.weights.values())
    assert project.parse(lock.render(held).encode(), lock.Lock, LockError, "zoo.lock") == held
    lock.differences(held)


QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


@settings(max_examples=200, deadline=None, suppress_health_check=QUIET)
@given(HOSTILE)
@example(LOCK.encode())
def test_any_lock_is_read_or_refused(content: bytes) -> None:
    assert_a_lock_is_read_or_refused(content)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=QUIET)
@given(HOSTILE)
def test_any_of_ten_thousand_locks_is_read_or_refused(content: bytes) -> None:
    assert_a_lock_is_read_or_refused(content)

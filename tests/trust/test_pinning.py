"""Pinning: a real hub that moves, lies and loses files."""

import hashlib
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from support.command import ask
from support.hub_handlers import Hub
from support.hub_server import HubServer
from support.pinned import CONTENT, FILE, REPO, SHA256

import zoo
from zoo import manifest
from zoo.errors import HubError, IntegrityError, OfflineError
from zoo.manifest import Weights
from zoo.trust import pinning

MANIFEST = """\
# Our weights.

[resnet18.ours]   # the first
repo = "alice/tiny"
file = "model.safetensors"
pinned = false   # zoo manifest pin does it
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
    assert ask("manifest", "pin", "resnet18.ours", "--manifest", ours).exit_code == 0
    hub_server.commit(REPO, {FILE: b"other weights"})
    (entry,) = (entry for entry in manifest.read(ours) if entry.tag == "ours")
    assert zoo.hub.fetch(entry).read_bytes() == CONTENT
    again = ask("manifest", "pin", "resnet18.ours", "--manifest", ours)
    assert "already pinned" in again.output


def test_the_revision_of_an_entry_is_the_one_that_is_asked(hub_server: HubServer) -> None:
    first = hub_server.commit(REPO, {FILE: CONTENT})
    hub_server.commit(REPO, {FILE: b"other weights"})
    assert pinning.resolve(unpinned(revision=first)).sha256 == SHA256
    with pytest.raises(HubError, match="no revision 0000"):
        pinning.resolve(unpinned(revision="0" * 40))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"size": 3}, "100,000 bytes, the manifest has 3"),
        ({"sha256_prefix": "0000"}, "the manifest has 0000..."),
        ({"sha256": "0" * 64, "pinned": True}, f"sha256 {SHA256}, the manifest has {'0' * 64}"),
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
        ({"file": "README.md"}, "provides no sha256"),
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
    with pytest.raises(HubError, match="denies access"):
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
    name = f"tiny-{SHA256[:8]}.safetensors"
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
    ask("manifest", "pin", "--manifest", file)
    assert SHA256 not in file.read_text()
    answer = ask("manifest", "pin", "--manifest", file, "--download")
    assert answer.exit_code == 0, answer.output
    (entry,) = manifest.read(file)
    assert (entry.sha256, entry.pinned) == (SHA256, True)


def test_a_download_that_is_not_what_its_name_says_pins_nothing(hub_server: HubServer) -> None:
    name = "tiny-0badbeef.safetensors"
    hub_server.commit(REPO, {name: CONTENT})
    with pytest.raises(IntegrityError, match="begins with 0badbeef"):
        pinning.resolve(unpinned(file=name, hub=hub_server.mirror_url, sha256_prefix="0badbeef"), download=True)
    with pytest.raises(IntegrityError, match="has sha256 0badbeef"):
        pinning.resolve(unpinned(file=name, hub=hub_server.mirror_url, sha256_prefix="0000"))


def test_a_wrong_size_on_the_way_pins_nothing(hub_server: HubServer) -> None:
    hub_server.commit(REPO, {"tiny.safetensors": CONTENT})
    hub_server.inject("size", "tiny.safetensors")
    with pytest.raises(IntegrityError, match="100,004 bytes, the manifest has 100,000"):
        pinning.resolve(unpinned(file="tiny.safetensors", hub=hub_server.mirror_url, size=len(CONTENT)))


def test_a_hub_that_fails_is_told_and_not_blamed_on_the_repository(hub_server: HubServer) -> None:
    hub_server.commit(REPO, {FILE: CONTENT})
    hub_server.inject("500", "/api/models", times=20)
    with pytest.raises(HubError, match="returned an error for alice/tiny"):
        pinning.resolve(unpinned())


# ---- what is written -----------------------------------------------------------------------------------


def test_pinning_changes_the_lines_it_must_and_no_other(hub_server: HubServer, ours: Path) -> None:
    commit = hub_server.commit(REPO, {FILE: CONTENT})
    answer = ask("manifest", "pin", "resnet18.ours", "--manifest", ours)
    assert answer.exit_code == 0, answer.output
    before, after = MANIFEST.splitlines(), ours.read_text().splitlines()
    assert [line for line in before if line not in after] == ["pinned = false   # zoo manifest pin does it"]
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
    answer = ask("manifest", "pin", "--manifest", ours, "--json")
    assert answer.exit_code == 1
    rows = {row["name"]: row for row in json.loads(answer.stdout)}
    assert {name: row["ok"] for name, row in rows.items()} == {"resnet18.ours": True, "resnet34.other": False}
    assert [entry.name for entry in manifest.read(ours) if not entry.pinned] == ["resnet34.other"]


def test_line_ends_of_windows_stay(hub_server: HubServer, ours: Path) -> None:
    hub_server.commit(REPO, {FILE: CONTENT})
    ours.write_bytes(MANIFEST.replace("\n", "\r\n").encode())
    assert ask("manifest", "pin", "resnet18.ours", "--manifest", ours).exit_code == 0
    assert ours.read_bytes().count(b"\r\n") == len(MANIFEST.splitlines()) + 2


def test_a_name_that_the_manifest_does_not_hold_is_added_at_its_end(hub_server: HubServer, ours: Path) -> None:
    hub_server.commit("timm/resnet101.a1_in1k", {FILE: CONTENT})
    for file in (ours, ours.with_name("new.toml")):
        answer = ask("manifest", "pin", "resnet101.a1_in1k", "--manifest", file)
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
        answer = ask("manifest", "pin", "resnet18.ours", "--manifest", file)
        assert answer.exit_code == 0, (text, answer.output)
        (entry,) = manifest.read(file)
        assert (entry.sha256, entry.repo, entry.pinned) == (SHA256, REPO, True)


def test_pinning_without_tomlkit_says_what_to_install(
    hub_server: HubServer, ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_server.commit(REPO, {FILE: CONTENT})
    monkeypatch.setitem(sys.modules, "tomlkit", None)
    answer = ask("manifest", "pin", "resnet18.ours", "--manifest", ours)
    assert answer.exit_code == 1
    assert "zoo-vision[pin]" in answer.output
    assert ours.read_text() == MANIFEST

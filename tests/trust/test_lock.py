"""Locking: what names mean in a project, whatever a plugin's later version or a hub says."""

import contextlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.command import ask
from support.distributions import install, plugin
from support.hub_server import HubServer
from support.pinned import CONTENT, FILE, SHA256
from support.toml_text import toml

import zoo
from zoo import registry
from zoo.errors import LockError
from zoo.loading import resolve
from zoo.registry import Found
from zoo.spec import Preprocess
from zoo.system import storage
from zoo.system.toml import parse
from zoo.trust import lock


def drifted(file: Path, name: str, **fields: Any) -> None:
    """Rewrites the lock as if ``name`` had been something else when it was written."""
    held = lock.read(file)
    weights = {**held.weights, name: msgspec.structs.replace(held.weights[name], **fields)}
    file.write_text(lock.render(msgspec.structs.replace(held, weights=weights)))


def test_a_lock_holds_names_versions_and_bytes(inside: Path) -> None:
    assert ask("lock", "resnet20.digits", "resnet20").exit_code == 0
    table = tomllib.loads((inside / "zoo.lock").read_text())
    entry = registry.current().find("resnet20.digits").weights
    assert entry
    assert table["weights"]["resnet20.digits"] == {
        "distribution": "zoo-vision",
        "version": zoo.__version__,
        "sha256": entry.sha256,
        "size": entry.size,
        "num_classes": 10,
        "preprocess": msgspec.json.decode(msgspec.json.encode(entry.preprocess)),
    }
    assert table["defaults"] == {"resnet20": "c10"}
    assert ask("lock", "--check").exit_code == 0
    assert ask("fetch", "resnet20.digits", "resnet20").exit_code == 0


@pytest.mark.first(1)
@pytest.mark.parametrize("field", ["sha256", "size"])
def test_drift_stops_fetch_and_create_and_shows_both_sides(inside: Path, field: str) -> None:
    ask("lock", "resnet20.digits")
    entry = registry.current().find("resnet20.digits").weights
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


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"num_classes": 7}, "num_classes locked 7, now 10"),
        (
            {"preprocess": Preprocess(input_size=(1, 8, 8), mean=(0.5,), std=(0.25,))},
            r"preprocess.std locked \(0.25,\)",
        ),
    ],
    ids=["classes", "input"],
)
def test_other_classes_and_another_input_of_the_same_bytes_are_drift(
    inside: Path, fields: dict[str, Any], said: str
) -> None:
    ask("lock", "resnet20.digits")
    drifted(inside / "zoo.lock", "resnet20.digits", **fields)
    with pytest.raises(LockError, match=said):
        zoo.create("resnet20.digits")
    checked = ask("lock", "--check")
    assert checked.exit_code == 1
    assert re.search(said, checked.output)


def test_a_lock_of_an_earlier_zoo_says_nothing_of_the_input(inside: Path) -> None:
    ask("lock", "resnet20.digits")
    drifted(inside / "zoo.lock", "resnet20.digits", num_classes=None, preprocess=None)
    assert "preprocess" not in (inside / "zoo.lock").read_text()
    zoo.fetch("resnet20.digits")
    assert ask("lock", "--check").exit_code == 0


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
    refused = ask("lock", "resnet101.a1_in1k")
    assert refused.exit_code == 1
    assert "neither in the manifest nor in your own pins" in refused.output
    assert ask("fetch", "resnet101.a1_in1k").exit_code == 0
    assert ask("lock", "resnet101.a1_in1k").exit_code == 0
    held = lock.read(inside / "zoo.lock").weights["resnet101.a1_in1k"]
    assert (held.sha256, held.revision, held.size) == (SHA256, commit, len(CONTENT))
    file = zoo.fetch("resnet101.a1_in1k")
    assert file.read_bytes() == CONTENT
    hub_server.commit("timm/resnet101.a1_in1k", {FILE: b"other weights"})
    file.unlink()
    assert ask("lock", "--user", "--forget", "resnet101.a1_in1k").exit_code == 0
    assert zoo.fetch("resnet101.a1_in1k").read_bytes() == CONTENT
    assert ask("lock").exit_code == 0  # its bytes are nowhere else: the lock keeps them
    assert lock.read(inside / "zoo.lock").weights["resnet101.a1_in1k"] == held
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


def test_a_collections_weights_are_locked_by_the_name_they_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
from zoo.manifest import Weights
from zoo.spec import Model

def read():
    return [Model("third/net", build="x:y")], [Weights(file="f", arch="third/net", tag="a", pinned=False)]
"""
    files = {"zoo_third.py": plugin("third", collection='"third_models:read"'), "third_models.py": code}
    monkeypatch.syspath_prepend(install(tmp_path / "site", "zoo-third", {"third": "zoo_third:plugin"}, files))
    registry.clear()
    found = registry.current().find("third/net.a")
    assert not found.row.is_builtin
    assert lock.full_name(found, "a") == "third/net.a"


def restated(found: Found, **fields: Any) -> Found:
    assert found.weights is not None
    return found._replace(weights=msgspec.structs.replace(found.weights, **fields))


def differences(held: lock.Locked, found: Found) -> list[str]:
    whole = lock.Lock(version=1, weights={"resnet20.digits": held})
    return [line.field for line in lock.differences(whole, lambda name: found)]


def test_what_a_manifest_states_anew_is_no_difference_and_what_it_states_otherwise_is(inside: Path) -> None:
    ask("lock", "resnet20.digits")
    held = lock.read(inside / "zoo.lock").weights["resnet20.digits"]
    found = registry.current().find("resnet20.digits")
    before = msgspec.structs.replace(held, size=0)
    assert differences(before, found) == []
    assert differences(held, restated(found, size=7, revision="a" * 40)) == ["size"]
    elsewhere = msgspec.structs.replace(held, revision="b" * 40)
    assert differences(elsewhere, restated(found, revision="a" * 40)) == ["revision"]


@pytest.mark.parametrize(("digits", "said"), [(4, []), (0, ["sha256"])], ids=["of the locked", "of others"])
def test_the_beginning_of_a_hash_that_a_manifest_states_is_that_of_the_locked_bytes(
    inside: Path, digits: int, said: list[str]
) -> None:
    ask("lock", "resnet20.digits")
    held = lock.read(inside / "zoo.lock").weights["resnet20.digits"]
    found = registry.current().find("resnet20.digits")
    prefix = held.sha256[:digits] or "0000"
    now = restated(found, sha256="", sha256_prefix=prefix, pinned=False)
    assert differences(held, now) == said
    with pytest.raises(LockError) if said else contextlib.nullcontext():
        followed = lock.follow(lock.Lock(version=1, weights={"resnet20.digits": held}), now, now.weights)
        assert followed.sha256 == held.sha256


# ---- where a lock is looked for ---------------------------------------------------------------------------


def test_a_lock_above_is_found_within_the_repository_and_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "outside" / "repository" / "package" / "deep"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    (tmp_path / "outside" / "zoo.lock").write_text("version = 1\n")
    (inner.parent / "zoo.lock").write_text("version = 1\n")
    assert storage.project_file("zoo.lock", "ZOO_LOCK") is None  # no repository: this folder alone
    (tmp_path / "outside" / "repository" / ".git").write_text("gitdir: elsewhere")  # as in a worktree
    assert storage.project_file("zoo.lock", "ZOO_LOCK") == inner.parent / "zoo.lock"
    (inner.parent / "zoo.lock").unlink()
    assert storage.project_file("zoo.lock", "ZOO_LOCK") is None
    (tmp_path / "outside" / "repository" / "zoo.lock").write_text("version = 1\n")
    assert storage.project_file("zoo.lock", "ZOO_LOCK") == tmp_path / "outside" / "repository" / "zoo.lock"


def test_the_environment_names_a_lock_that_must_exist(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_LOCK", str(inside / "ci.lock"))
    with pytest.raises(LockError, match=r"ci\.lock cannot be read"):
        zoo.fetch("resnet20.digits")
    assert ask("lock", "--check").exit_code == 1
    assert ask("lock", "resnet20.digits").exit_code == 0
    assert (inside / "ci.lock").is_file()
    assert zoo.fetch("resnet20.digits").is_file()


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


@pytest.mark.first(4)
@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_lock_is_refused_by_name_and_nothing_is_fetched(inside: Path, text: str) -> None:
    (inside / "zoo.lock").write_text(text)
    with pytest.raises(LockError, match=r"zoo\.lock"):
        zoo.fetch("resnet20.c10")
    assert ask("lock", "--check").exit_code == 1


def test_a_lock_that_is_no_file_is_refused(inside: Path) -> None:
    (inside / "zoo.lock").mkdir()
    with pytest.raises(LockError, match="Is a directory"):
        zoo.fetch("resnet20.c10")
    (inside / "zoo.lock").rmdir()
    (inside / "zoo.lock").write_bytes(b"\xff\xfe")
    with pytest.raises(LockError, match="not TOML"):
        zoo.fetch("resnet20.c10")


def test_a_valid_lock_reads_as_it_was_written() -> None:
    held = parse(LOCK.encode(), lock.Lock, LockError, "zoo.lock")
    assert parse(lock.render(held).encode(), lock.Lock, LockError, "zoo.lock") == held
    preprocess = Preprocess(mean=(0.1, 1 / 3, 1e-12), interpolation="bicubic")
    one = msgspec.structs.replace(next(iter(held.weights.values())), num_classes=0, preprocess=preprocess)
    held = lock.Lock(version=1, weights={"a/b.c": one, "net.x": one})
    assert parse(lock.render(held).encode(), lock.Lock, LockError, "zoo.lock") == held


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
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8
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
        held = parse(content, lock.Lock, LockError, "zoo.lock")
    if held is None:
        return
    assert all(len(one.sha256) == 64 and one.size >= 0 for one in held.weights.values())
    assert parse(lock.render(held).encode(), lock.Lock, LockError, "zoo.lock") == held
    lock.differences(held, resolve.find)


QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


@settings(max_examples=200, deadline=None, suppress_health_check=QUIET)
@given(HOSTILE)
@example(LOCK.encode())
def test_any_lock_is_read_or_refused(content: bytes) -> None:
    assert_a_lock_is_read_or_refused(content)

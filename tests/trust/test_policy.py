"""Policies: whose word a project accepts, for which names and from where."""

import contextlib
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Callable
from datetime import datetime, tzinfo
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.command import ask
from support.hub_server import HubServer
from support.pinned import CONTENT, FILE
from support.signed import write_key, write_policy
from support.toml_text import toml

import zoo
from zoo import registry
from zoo.errors import MissingExtraError, PolicyError, ZooError
from zoo.system.toml import parse
from zoo.trust import policy, signing

pytest.importorskip("model_signing", reason="needs zoo-vision[signing]")


@pytest.fixture
def hub(converted_hub: Path) -> Path:
    return converted_hub


ACTS: dict[str, Callable[[], object]] = {
    "fetch": lambda: zoo.fetch("resnet20.tiny"),
    "create": lambda: zoo.create("resnet20.tiny"),
}


def assert_refused(reason: str) -> None:
    registry.clear()
    for act in ACTS.values():
        with pytest.raises(PolicyError, match=reason):
            act()
    for words in ("resnet20.tiny", "resnet20.tin*"):  # a pattern is no way around
        answer = ask("fetch", words)
        assert answer.exit_code == 1
        assert "is rejected by" in answer.output


def assert_accepted() -> None:
    registry.clear()
    for act in ACTS.values():
        act()


def test_what_a_publisher_of_the_policy_signed_is_used_and_nothing_else(inside: Path, hub: Path, key: Path) -> None:
    assert_accepted()  # no policy
    write_policy(inside, key)
    assert_refused("is not signed, expected a signature by lab")
    signing.sign(hub / "manifest.toml", write_key(key.with_name("other.pem")))
    assert_refused("it is not signed by any accepted publisher:\n  lab: .*Key mismatch")
    signing.sign(hub / "manifest.toml", key)
    assert_accepted()
    zoo.fetch("resnet20.digits")  # of the plugin, by the first rule
    text = (hub / "manifest.toml").read_text()
    (hub / "manifest.toml").write_text(text.replace("resnet20.tiny.safetensors", "resnet20.other.safetensors"))
    assert_refused("the signature does not match the file")


def test_the_policy_of_an_outer_project_holds_in_a_repository_within_it(
    inside: Path, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = inside / "vendor" / "inner"
    (inner / "deep").mkdir(parents=True)
    (inside / ".git").mkdir()
    (inner / ".git").mkdir()
    accepting, refusing = ("version = 1\n[[rules]]\nunsigned = true\n", "version = 1\n")
    monkeypatch.chdir(inner / "deep")
    (inside / "zoo-policy.toml").write_text(refusing)
    assert_refused(f"rejected by {re.escape(str(inside))}/zoo-policy.toml: no rule matches")
    (inner / "zoo-policy.toml").write_text(accepting)
    assert_refused(f"rejected by {re.escape(str(inside))}/zoo-policy.toml: no rule matches")
    (inside / "zoo-policy.toml").write_text(accepting)
    assert_accepted()
    (inner / "zoo-policy.toml").write_text(refusing)
    assert_refused(f"rejected by {re.escape(str(inner))}/zoo-policy.toml: no rule matches")
    (inner / "zoo-policy.toml").write_text(accepting)
    (inside / "zoo-policy.toml").write_text(f'unpinned = "refuse"\n{accepting}')
    assert str(inside / "zoo-policy.toml") in policy.refuses_first_use()


def test_a_policy_without_a_rule_that_fits_refuses(inside: Path, hub: Path, key: Path) -> None:
    signing.sign(hub / "manifest.toml", key)
    write_policy(inside, key, names=('names = ["resnet20.*"]', 'names = ["vgg*"]'))
    assert_refused("no rule matches resnet20.tiny from")
    write_policy(inside, key, nobody=('publishers = ["lab"]', "publishers = []"))
    assert_refused("accepts no publisher")


def test_a_policy_accepts_on_the_day_itself_that_it_names(
    inside: Path, hub: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Evening(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Evening":
            return cls(2030, 1, 2, 23, 59, tzinfo=tz)

    monkeypatch.setattr(policy, "datetime", Evening)
    signing.sign(hub / "manifest.toml", key)
    for day, accepts in (("2030-01-02", True), ("2030-01-01", False)):
        write_policy(inside, key, day=("version = 1\n", f"version = 1\nexpires = {day}\n"))
        if accepts:
            assert_accepted()
        else:
            assert_refused("expired on 2030-01-01")


def test_relative_hubs_and_keys_lie_beside_the_policy(
    inside: Path, hub: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "policies" / "ours"
    elsewhere.mkdir(parents=True)
    file = write_policy(elsewhere, key, hubs=('names = ["resnet20.*"]', 'hubs = ["../../hub"]'))
    file.write_text(file.read_text().replace(str(key.with_suffix(".pub")), "../../lab.pub"))
    monkeypatch.setenv("ZOO_POLICY", str(file))
    signing.sign(hub / "manifest.toml", key)
    assert_accepted()
    identity = signing.Publisher(identity="me", issuer="https://example.org", trust_root="trust.json")
    assert identity.beside(elsewhere).trust_root == str(elsewhere / "trust.json")


def test_offline_an_identity_that_cannot_be_checked_leaves_the_word_to_a_key(
    inside: Path, hub: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signing.sign(hub / "manifest.toml", key)
    someone = '[publishers.someone]\nidentity = "me@example.org"\nissuer = "https://example.org"\n\n[[rules]]\nhubs'
    file = write_policy(inside, key, who=("[[rules]]\nhubs", someone))
    file.write_text(file.read_text().replace('publishers = ["lab"]', 'publishers = ["someone", "lab"]'))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    registry.clear()
    found = registry.current().find("resnet20.tiny")
    assert found.weights is not None
    assert policy.check(found, found.weights) == "signed by lab"


def test_a_policy_that_is_named_must_be_there(
    inside: Path, hub: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_POLICY", str(inside / "missing.toml"))
    for act in ACTS.values():
        with pytest.raises(PolicyError, match=r"missing\.toml cannot be read"):
            act()
    file = write_policy(inside, key).rename(inside / "elsewhere.toml")
    monkeypatch.setenv("ZOO_POLICY", str(file))
    assert_refused("is not signed")


def test_a_key_that_is_not_there_accepts_nothing(inside: Path, hub: Path, key: Path) -> None:
    signing.sign(hub / "manifest.toml", key)
    write_policy(inside, key)
    key.with_suffix(".pub").unlink()
    assert_refused(r"lab\.pub is not a file")
    key.with_suffix(".pub").write_bytes(key.read_bytes())
    assert_refused("is not signed by the key")


def test_a_policy_folders_own_name_is_no_pattern(
    hub: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "pol[1]"
    for place in (project / "models", tmp_path / "pol1" / "models"):
        shutil.copytree(hub, place)
    policy_file = write_policy(project, key, hubs=('names = ["resnet20.*"]', 'hubs = ["models"]'))
    policy_file.write_text(policy_file.read_text().replace('publishers = ["lab"]', "unsigned = true"))
    monkeypatch.chdir(project)
    for folder, accepts in (("models", True), ("../pol1/models", False)):
        monkeypatch.setenv("ZOO_HUB", folder)
        if accepts:
            assert_accepted()
        else:
            assert_refused("no rule matches")


def test_a_pattern_goes_through_links_and_a_home_folder(
    inside: Path, hub: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``hubs`` are compared where they lie: relative to the policy, through links, and from a home folder."""
    (tmp_path / "link").symlink_to(hub.parent)
    monkeypatch.setenv("HOME", str(tmp_path))
    for pattern in ("../link/hub", "../link/h*", "~/hub", "~/link/hub", str(hub)):
        for named in (str(hub), "../hub", "../link/hub", "~/hub"):
            write_policy(inside, key, hubs=('names = ["resnet20.*"]\npublishers', f'hubs = ["{pattern}"]\n#'))
            text = (inside / "zoo-policy.toml").read_text()
            (inside / "zoo-policy.toml").write_text(text.replace('# = ["lab"]', "unsigned = true"))
            monkeypatch.setenv("ZOO_HUB", named)
            registry.clear()
            zoo.fetch("resnet20.tiny")


def test_what_the_policy_refuses_is_not_locked(inside: Path, hub: Path, key: Path) -> None:
    write_policy(inside, key)
    answer = ask("lock", "resnet20.tiny")
    assert answer.exit_code == 1
    assert "is not signed, expected a signature by lab" in answer.output
    assert not (inside / "zoo.lock").exists()
    signing.sign(hub / "manifest.toml", key)
    assert ask("lock", "resnet20.tiny").exit_code == 0


@pytest.mark.parametrize("is_there", [True, False], ids=["with_the_file", "without_it"])
def test_a_directory_cannot_pass_for_a_plugin(inside: Path, hub: Path, key: Path, is_there: bool) -> None:
    text = (hub / "manifest.toml").read_text()
    line = 'file = "resnet20.tiny.safetensors"'
    (hub / "manifest.toml").write_text(text.replace(line, f'{line}\nhub = "plugin:zoo-vision"'))
    if not is_there:  # then the entry keeps the hub that its manifest names
        (hub / "resnet20.tiny.safetensors").unlink()
    write_policy(inside, key)
    assert_refused("is not signed")


def test_what_an_older_signature_names_is_not_what_a_changed_manifest_says(inside: Path, hub: Path, key: Path) -> None:
    """The manifest is read when the process starts, its signature checked when weights are asked for."""
    signed = (hub / "manifest.toml").read_text()
    signing.sign(hub / "manifest.toml", key)
    write_policy(inside, key)
    (hub / "manifest.toml").write_text(signed.replace('origin = "', 'origin = "not '))
    registry.clear()
    registry.current()
    (hub / "manifest.toml").write_text(signed)  # put back in time for the check
    with pytest.raises(PolicyError, match="has changed since it was read"):
        zoo.fetch("resnet20.tiny")


def test_unpinned_weights_are_refused_where_a_signature_is_asked_for(
    hub_server: HubServer, inside: Path, key: Path
) -> None:
    hub_server.commit("timm/resnet101.a1_in1k", {FILE: CONTENT})
    write_policy(inside, key, plugins=('hubs = ["plugin:zoo-vision"]\nunsigned = true', 'publishers = ["lab"]'))
    answer = ask("fetch", "resnet101.a1_in1k")
    assert answer.exit_code == 1
    assert "a signature does not cover its bytes" in answer.output


@pytest.mark.parametrize(("algorithm", "is_covered"), [("sha512", True), ("md5", False)])
def test_a_signature_covers_the_bytes_of_a_strong_digest(
    algorithm: str, is_covered: bool, inside: Path, hub: Path, key: Path
) -> None:
    listing = hub / "manifest.toml"
    content = (hub / "resnet20.tiny.safetensors").read_bytes()
    digest = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
    known = f'pinned = false\ndigest = "{algorithm}:{digest}"'
    listing.write_text(re.sub('sha256 = "[0-9a-f]{64}"', known, listing.read_text(), count=1))
    signing.sign(listing, key)
    write_policy(inside, key)
    if is_covered:
        assert_accepted()
    else:
        assert_refused("a signature does not cover its bytes")


def test_a_policy_without_the_library_that_checks_refuses_and_says_what_to_install(
    inside: Path, hub: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signing.sign(hub / "manifest.toml", key)
    write_policy(inside, key)
    monkeypatch.setitem(sys.modules, "model_signing", None)
    for act in ACTS.values():
        with pytest.raises(MissingExtraError, match=r"zoo-vision\[signing\]"):
            act()


def test_any_publisher_of_the_policy_will_do_where_no_key_is_given(inside: Path, hub: Path, key: Path) -> None:
    write_policy(inside, key)
    signing.sign(hub / "manifest.toml", key)
    answer = ask("manifest", "verify-signature", hub, "--json")
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["publisher"] == "lab"


def test_info_tells_what_lock_signature_and_policy_say(inside: Path, hub: Path, key: Path) -> None:
    assert "project" not in json.loads(ask("info", "resnet20.tiny", "--json").stdout)
    ask("lock", "resnet20.tiny")
    write_policy(inside, key)
    said = json.loads(ask("info", "resnet20.tiny", "--json").stdout)["project"]
    assert said["lock"].startswith("as locked")
    assert "is not signed" in said["policy"]
    signing.sign(hub / "manifest.toml", key)
    said = json.loads(ask("info", "resnet20.tiny", "--json").stdout)["project"]
    assert said["policy"] == "signed by lab"
    assert said["signature"].endswith("manifest.toml.sig")
    assert "signed by lab" in ask("info", "resnet20.tiny").output
    assert "not in it" in ask("info", "resnet20.digits").output


def test_the_policy_that_the_documentation_shows_is_one() -> None:
    text = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    shown = text.partition("```toml\n")[2].partition("```")[0]
    held = parse(shown.encode(), policy.Policy, PolicyError, "docs/security.md")
    assert held.publishers.keys() == {"lab", "release"}
    assert [rule.unsigned for rule in held.rules] == [True, False]


# ---- hostile policies -----------------------------------------------------------------------------------------

POLICY = """\
version = 1
expires = 2999-01-01

[publishers.lab]
key = "lab.pub"

[publishers.ci]
identity = "https://example.org/workflow"
issuer = "https://example.org"

[[rules]]
names = ["resnet20.*"]
hubs = ["plugin:zoo-vision", "/mnt/*"]
publishers = ["lab", "ci"]

[[rules]]
unsigned = true
"""

BROKEN = {
    "no version": POLICY.replace("version = 1\n", ""),
    "newer": POLICY.replace("version = 1\n", "version = 2\n"),
    "a publisher nobody describes": POLICY.replace("publishers.lab", "publishers.other"),
    "neither key nor identity": POLICY.replace('key = "lab.pub"', ""),
    "a key and an identity": POLICY.replace('key = "lab.pub"', 'key = "lab.pub"\nidentity = "me"\nissuer = "x"'),
    "an identity without issuer": POLICY.replace('issuer = "https://example.org"\n', ""),
    "signed and unsigned": POLICY.replace("unsigned = true", 'unsigned = true\npublishers = ["lab"]'),
    "no names": POLICY.replace('["resnet20.*"]', "[]"),
    "a misspelt key": POLICY.replace("unsigned = true", "unsinged = true"),
    "a word for a date": POLICY.replace("2999-01-01", '"never"'),
    "not TOML": POLICY + "]",
    "a control character": POLICY.replace("plugin:zoo-vision", "plugin:\\u0000"),
    "nobody's home": POLICY.replace("plugin:zoo-vision", "~nosuchuser/hub").replace('["resnet20.*"]', '["*"]'),
    "nested": "version = 1\nx = " + "[" * 100_000,
    "large": "version = 1\n# " + "x" * (1 << 20),
}


@pytest.mark.first(4)
@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_policy_is_refused_and_nothing_is_fetched(inside: Path, text: str) -> None:
    (inside / "zoo-policy.toml").write_text(text)
    with pytest.raises(PolicyError, match=r"zoo-policy\.toml"):
        zoo.fetch("resnet20.digits")


KEYS = st.sampled_from(
    [
        "version",
        "expires",
        "publishers",
        "rules",
        "names",
        "hubs",
        "unsigned",
        "key",
        "identity",
        "issuer",
        "lab",
        "",
        "x",
    ]
)
VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.text(max_size=8)
    | st.sampled_from(["lab", "*", "[", "[!", "~", "~nosuchuser/x", "plugin:zoo-vision", "\x00", "../x", "/"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)
RULES = st.fixed_dictionaries(
    {},
    optional={
        "names": st.lists(st.text(max_size=6) | st.sampled_from(["*", "[", "resnet20.*"]), max_size=3),
        "hubs": st.lists(
            st.text(max_size=6) | st.sampled_from(["*", "~nosuchuser/x", "\x00", "a/" * 3000, "plugin:*"]), max_size=3
        ),
        "unsigned": st.booleans(),
        "publishers": st.lists(st.sampled_from(["lab", "other"]), max_size=2),
    },
)
HOSTILE = st.one_of(
    st.binary(max_size=200),
    st.dictionaries(KEYS, VALUES, max_size=5).map(
        lambda table: "\n".join(f"{toml(key)} = {toml(value)}" for key, value in table.items()).encode()
    ),
    st.lists(RULES, max_size=3).map(
        lambda rules: f'version = 1\nrules = {toml(rules)}\n[publishers.lab]\nkey = "\\u0000"\n'.encode()
    ),
    st.tuples(st.integers(0, len(POLICY)), st.integers(0, len(POLICY)), st.text(max_size=6)).map(
        lambda cut: (POLICY[: cut[0]] + cut[2] + POLICY[cut[1] :]).encode("utf-8", "replace")
    ),
)
QUIET = list(HealthCheck)


def assert_a_policy_accepts_or_refuses(folder: Path, content: bytes) -> None:
    """Checks that whatever the policy says, the answer is yes, or a refusal of ours."""
    (folder / "zoo-policy.toml").write_bytes(content)
    found = registry.current().find("resnet20.digits")
    assert found.weights
    said = ""
    with contextlib.suppress(ZooError):
        said = policy.check(found, found.weights)
    if said:
        held = parse(content, policy.Policy, PolicyError, "zoo-policy.toml")
        assert any(rule.unsigned for rule in held.rules)  # nobody has signed that manifest


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=QUIET)
@given(content=HOSTILE)
@example(content=POLICY.encode())
def test_any_policy_accepts_or_refuses(inside: Path, content: bytes) -> None:
    assert_a_policy_accepts_or_refuses(inside, content)

"""Signatures, policies and packs: real keys, real tampering, and a machine without a network."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hub_server import HubServer
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_manifest import toml
from test_pinning import CONTENT, FILE, SHA256

import zoo
from zoo import manifest, packing, policy, project, registry, signing, tensorfile
from zoo.cli import cli
from zoo.errors import (
    IntegrityError,
    MissingExtraError,
    OfflineError,
    PolicyError,
    SignatureError,
    UnpinnedError,
    ZooError,
)
from zoo.signing import Publisher

pytest.importorskip("model_signing", reason="needs zoo-vision[signing]")


def ask(*words: object) -> Result:
    registry.clear()
    return CliRunner().invoke(cli, [str(word) for word in words], prog_name="zoo")


def write_key(file: Path, curve: ec.EllipticCurve | None = None, password: str = "") -> Path:
    """A new private key; its public key lies beside it as ``.pub``."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    locked = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    file.with_suffix(".pub").write_bytes(public)
    return file


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return write_key(tmp_path / "lab.pem")


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, and the working directory in it."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``resnet20.tiny``, probe included, as zoo convert makes it."""
    folder = tmp_path_factory.mktemp("converted")
    torch.manual_seed(0)
    tensorfile.write(
        zoo.create("resnet20").state_dict(), folder / "raw.safetensors", {"model": "resnet20", "num_classes": 10}
    )
    answer = ask("convert", folder / "raw.safetensors", "resnet20.tiny", "-o", folder / "hub/resnet20.tiny.safetensors")
    assert answer.exit_code == 0, answer.output
    return folder / "hub"


@pytest.fixture
def hub(converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that ZOO_HUB names."""
    folder = tmp_path / "hub"
    shutil.copytree(converted, folder)
    monkeypatch.setenv("ZOO_HUB", str(folder))
    return folder


# ---- signatures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_what_a_key_signed_its_public_key_verifies(tmp_path: Path, curve: ec.EllipticCurve) -> None:
    key, file = write_key(tmp_path / "key.pem", curve), tmp_path / "any.toml"
    file.write_text("x = 1\n")
    assert ask("sign", file, "--key", key).exit_code == 0
    answer = ask("verify-signature", file, "--key", key.with_suffix(".pub"))
    assert answer.exit_code == 0, answer.output
    assert "signed by" in answer.output


def test_the_signature_is_one_that_model_signing_itself_accepts(hub: Path, key: Path) -> None:
    ask("sign", hub, "--key", key)
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(hub / "manifest.toml")]
    command += ["--signature", str(hub / "manifest.toml.sig"), "--public_key", str(key.with_suffix(".pub"))]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    (hub / "manifest.toml").write_text("")
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 1


def test_an_encrypted_key_is_opened_by_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, file = write_key(tmp_path / "key.pem", password="secret"), tmp_path / "any.toml"
    file.write_text("x = 1\n")
    answer = ask("sign", file, "--key", key)
    assert answer.exit_code == 1
    assert "cannot be signed" in answer.output
    monkeypatch.setenv("ZOO_KEY_PASSWORD", "wrong")
    answer = ask("sign", file, "--key", key)
    assert answer.exit_code == 1
    assert "wrong" not in answer.output.replace("wrong password", "")
    assert not signing.signature_of(file).exists()
    monkeypatch.setenv("ZOO_KEY_PASSWORD", "secret")
    assert ask("sign", file, "--key", key).exit_code == 0


def test_a_changed_file_another_key_and_no_signature_are_refused_with_the_reason(hub: Path, key: Path) -> None:
    public, other = key.with_suffix(".pub"), write_key(key.with_name("other.pem")).with_suffix(".pub")
    assert "is not signed" in ask("verify-signature", hub, "--key", public).output
    ask("sign", hub, "--key", key)
    assert ask("verify-signature", hub, "--key", public).exit_code == 0
    answer = ask("verify-signature", hub, "--key", other)
    assert answer.exit_code == 1
    assert "Key mismatch" in answer.output
    with (hub / "manifest.toml").open("a") as stream:
        stream.write("# one more line\n")
    answer = ask("verify-signature", hub, "--key", public)
    assert answer.exit_code == 1
    assert "the signature is of other bytes" in answer.output


def test_a_key_that_is_not_of_an_elliptic_curve_is_refused(tmp_path: Path) -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    key, file = tmp_path / "rsa.pem", tmp_path / "any.toml"
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    file.write_text("")
    answer = ask("sign", file, "--key", key)
    assert answer.exit_code == 1
    assert "Traceback" not in answer.output


def test_a_signature_says_with_what(tmp_path: Path, key: Path) -> None:
    file = tmp_path / "any.toml"
    file.write_text("")
    for words in (["sign", file], ["sign", file, "--key", key, "--keyless"], ["verify-signature", file]):
        assert ask(*words).exit_code == 2
    answer = ask("verify-signature", file, "--identity", "someone@example.org")
    assert answer.exit_code == 2
    assert "identity and issuer go together" in answer.output


def test_an_identity_is_not_asked_about_with_the_network_off(
    hub: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask("sign", hub, "--key", key)
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    answer = ask("sign", hub, "--keyless")
    assert answer.exit_code == 1
    assert "ZOO_OFFLINE" in answer.output
    someone = Publisher(identity="someone@example.org", issuer="https://example.org")
    content, mark = (hub / "manifest.toml").read_bytes(), (hub / "manifest.toml.sig").read_bytes()
    with pytest.raises(OfflineError, match="trust_root"):
        signing.verify(content, mark, someone, "it")


def trust_of_sigstore(file: Path) -> Path:
    """The trust configuration that the sigstore package carries of the public instance."""
    from importlib.resources import files

    store = files("sigstore._store")
    found = [entry for entry in store.iterdir() if entry.is_dir() and "staging" not in entry.name]
    root = json.loads((found[0] / "trusted_root.json").read_text())
    config = json.loads((found[0] / "signing_config.v0.2.json").read_text())
    about = {"mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"}
    file.write_text(json.dumps({**about, "trustedRoot": root, "signingConfig": config}))
    return file


def test_a_key_is_no_identity(hub: Path, key: Path, tmp_path: Path) -> None:
    ask("sign", hub, "--key", key)
    trust = trust_of_sigstore(tmp_path / "trust.json")
    someone = Publisher(identity="someone@example.org", issuer="https://example.org", trust_root=str(trust))
    content, mark = (hub / "manifest.toml").read_bytes(), (hub / "manifest.toml.sig").read_bytes()
    with pytest.raises(SignatureError, match=r"not signed by someone@example.*: expected certificate in bundle"):
        signing.verify(content, mark, someone, "it")
    words = ("--identity", someone.identity, "--issuer", someone.issuer, "--trust-root", trust)
    answer = ask("verify-signature", hub, *words)
    assert answer.exit_code == 1
    assert "not signed by someone@example" in answer.output


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_signature_is_refused_but_the_right_one(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    folder = tmp_path_factory.mktemp("signature")
    key, file = write_key(folder / "key.pem"), folder / "any.toml"
    file.write_text("x = 1\n")
    right = signing.sign(file, key).read_bytes()
    cut = data.draw(st.tuples(st.integers(0, len(right)), st.integers(0, len(right)), st.binary(max_size=4)))
    other = data.draw(st.sampled_from([b"", b"{}", b"[]", b"null", right[: cut[0]] + cut[2] + right[cut[1] :]]))
    if other == right:
        return
    publisher = Publisher(key=str(key.with_suffix(".pub")))
    with contextlib.suppress(SignatureError):
        signing.verify(b"x = 1\n", other, publisher, "it")
    with pytest.raises(SignatureError):
        signing.verify(b"x = 2\n", other, publisher, "it")


# ---- policies -------------------------------------------------------------------------------------------------


def write_policy(folder: Path, key: Path, **changes: tuple[str, str]) -> Path:
    """A policy under which the lab signs what comes from directories, plugins need not be signed; with ``changes``."""
    text = f"""\
version = 1

[publishers.lab]
key = "{key.with_suffix(".pub")}"

[[rules]]
hubs = ["plugin:zoo-vision"]
unsigned = true

[[rules]]
names = ["resnet20.*"]
publishers = ["lab"]
"""
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    file = folder / "zoo-policy.toml"
    file.write_text(text)
    return file


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
        assert "is refused by" in answer.output


def assert_accepted() -> None:
    registry.clear()
    for act in ACTS.values():
        act()


def test_what_a_publisher_of_the_policy_signed_is_used_and_nothing_else(inside: Path, hub: Path, key: Path) -> None:
    assert_accepted()  # no policy
    write_policy(inside, key)
    assert_refused("is not signed, it must be by lab")
    signing.sign(hub / "manifest.toml", write_key(key.with_name("other.pem")))
    assert_refused("nobody whom its rule accepts has signed it:\n  lab: .*Key mismatch")
    signing.sign(hub / "manifest.toml", key)
    assert_accepted()
    zoo.fetch("resnet20.digits")  # of the plugin, by the first rule
    text = (hub / "manifest.toml").read_text()
    (hub / "manifest.toml").write_text(text.replace("resnet20.tiny.safetensors", "resnet20.other.safetensors"))
    assert_refused("the signature is of other bytes")


def test_weights_in_the_cache_are_refused_too(inside: Path, hub: Path, key: Path) -> None:
    assert zoo.fetch("resnet20.tiny").is_file()
    write_policy(inside, key)
    assert_refused("is not signed")


def test_a_policy_without_a_rule_that_fits_refuses(inside: Path, hub: Path, key: Path) -> None:
    signing.sign(hub / "manifest.toml", key)
    write_policy(inside, key, names=('names = ["resnet20.*"]', 'names = ["vgg*"]'))
    assert_refused("no rule is about resnet20.tiny from")
    write_policy(inside, key, nobody=('publishers = ["lab"]', "publishers = []"))
    assert_refused("accepts nobody")


def test_an_expired_policy_accepts_nothing(inside: Path, hub: Path, key: Path) -> None:
    signing.sign(hub / "manifest.toml", key)
    write_policy(inside, key, expires=("version = 1\n", "version = 1\nexpires = 2020-02-01\n"))
    assert_refused("expired on 2020-02-01")
    write_policy(inside, key, expires=("version = 1\n", "version = 1\nexpires = 2999-02-01\n"))
    assert_accepted()


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
    assert_refused(r"lab\.pub is no file")
    key.with_suffix(".pub").write_bytes(key.read_bytes())
    assert_refused("is not signed by the key")


def test_the_first_rule_that_fits_decides_by_name_and_by_hub(inside: Path, hub: Path, key: Path) -> None:
    relative = os.path.relpath(hub, inside)
    for pattern, accepts in (
        (str(hub), True),
        (relative, True),
        (str(hub.parent / "*"), True),
        ("/elsewhere/*", False),
    ):
        write_policy(inside, key, hubs=('names = ["resnet20.*"]\npublishers', f'hubs = ["{pattern}"]\n#'))
        text = (inside / "zoo-policy.toml").read_text()
        (inside / "zoo-policy.toml").write_text(text.replace('# = ["lab"]', "unsigned = true"))
        if accepts:
            assert_accepted()
        else:
            assert_refused("no rule is about")


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
    registry.load()
    (hub / "manifest.toml").write_text(signed)  # put back in time for the check
    with pytest.raises(PolicyError, match="has changed since it was read"):
        zoo.fetch("resnet20.tiny")


def test_unpinned_weights_are_refused_where_a_signature_is_asked_for(
    hub_server: HubServer, inside: Path, key: Path
) -> None:
    hub_server.commit("timm/resnet101.a1_in1k", {FILE: CONTENT})
    write_policy(inside, key, plugins=('hubs = ["plugin:zoo-vision"]\nunsigned = true', 'publishers = ["lab"]'))
    answer = ask("fetch", "resnet101.a1_in1k", "--allow-unpinned")
    assert answer.exit_code == 1
    assert "a signature says nothing of its bytes" in answer.output


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
    answer = ask("verify-signature", hub, "--json")
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


# ---- packs --------------------------------------------------------------------------------------------------


def test_a_pack_holds_files_and_a_manifest_with_all_that_is_known(hub: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    answer = ask("pack", "resnet20.tiny", "resnet20.digits", "-o", folder)
    assert answer.exit_code == 0, answer.output
    files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    assert files == ["embedded/resnet20.digits.safetensors", "manifest.toml", "resnet20.tiny.safetensors"]
    entries = {entry.name: entry for entry in manifest.read(folder / "manifest.toml")}
    assert entries["resnet20.digits"] == registry.load().find("resnet20.digits").weights
    assert entries["resnet20.tiny"].probe
    assert not packing.damage(folder)
    assert ask("pack", "resnet20.c10", "-o", folder).exit_code == 0
    assert len(manifest.read(folder / "manifest.toml")) == 3


def test_unpinned_weights_are_not_packed(hub_server: HubServer, tmp_path: Path) -> None:
    hub_server.commit("timm/resnet101.a1_in1k", {FILE: CONTENT})
    ask("fetch", "resnet101.a1_in1k", "--allow-unpinned")
    answer = ask("pack", "resnet101.a1_in1k", "-o", tmp_path / "pack")
    assert answer.exit_code == 1
    assert not (tmp_path / "pack").exists()
    with pytest.raises(UnpinnedError):
        packing.pack([(manifest.Weights(file="x", pinned=False), tmp_path)], tmp_path / "pack")


def test_a_copy_that_is_not_what_the_manifest_names_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(CONTENT[:-1] + b"x")
    entry = manifest.Weights(file=FILE, arch="a", tag="b", sha256=SHA256)
    with pytest.raises(IntegrityError):
        packing.pack([(entry, tmp_path / "source")], tmp_path / "pack")
    assert not [*(tmp_path / "pack").rglob("*.*")]


def test_a_changed_file_in_a_signed_pack_is_named_and_never_used(
    inside: Path, hub: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pack"
    assert ask("pack", "resnet20.tiny", "-o", folder, "--key", key).exit_code == 0
    file = folder / "resnet20.tiny.safetensors"
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    answer = ask("verify-signature", folder, "--key", key.with_suffix(".pub"))
    assert answer.exit_code == 1
    assert "resnet20.tiny.safetensors has sha256" in answer.output
    write_policy(inside, key)
    monkeypatch.setenv("ZOO_HUB", str(folder))
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "empty"))
    registry.clear()
    with pytest.raises(IntegrityError, match="has sha256"):
        zoo.fetch("resnet20.tiny")


def test_packing_again_without_the_key_says_that_the_signature_no_longer_holds(
    hub: Path, key: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pack"
    ask("pack", "resnet20.tiny", "-o", folder, "--key", key)
    answer = ask("pack", "resnet20.digits", "-o", folder)
    assert "that of an earlier manifest" in answer.output
    assert ask("verify-signature", folder, "--key", key.with_suffix(".pub")).exit_code == 1


NO_NETWORK = """
import sys

def refuse(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        raise RuntimeError(f"the network was asked: {event} {args}")

sys.addaudithook(refuse)
from zoo.cli import main
sys.argv = ["zoo", *sys.argv[1:]]
main()
"""


def test_a_signed_pack_serves_a_machine_without_a_network_under_a_policy(hub: Path, key: Path, tmp_path: Path) -> None:
    pack, there = tmp_path / "pack", tmp_path / "another machine"
    assert ask("pack", "resnet20.tiny", "-o", pack, "--key", key).exit_code == 0
    (there / "project").mkdir(parents=True)
    shutil.copytree(pack, there / "stick")
    shutil.copy(key.with_suffix(".pub"), there / "project" / "lab.pub")
    policy_file = write_policy(there / "project", key)
    policy_file.write_text(policy_file.read_text().replace(str(key.with_suffix(".pub")), "lab.pub"))
    shutil.rmtree(hub)
    shutil.rmtree(pack)
    environment = {**os.environ, "ZOO_HUB": str(there / "stick"), "ZOO_CACHE": str(there / "cache")}
    environment |= {"OMP_NUM_THREADS": "1", "HF_HOME": str(there / "hf")}

    def use(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", NO_NETWORK, *words]
        return subprocess.run(
            command, env=environment, cwd=there / "project", capture_output=True, text=True, timeout=120
        )

    for words in (["verify-signature", str(there / "stick")], ["fetch", "resnet20.tiny"]):
        done = use(*words)
        assert done.returncode == 0, (words, done.stderr)
    done = use("verify", "resnet20.tiny", "--deep")  # creates the network and runs its probe
    assert done.returncode == 0, done.stderr
    assert "of its probe" in done.stdout
    with (there / "stick" / "manifest.toml").open("a") as stream:
        stream.write("# by somebody else\n")
    done = use("fetch", "resnet20.tiny")
    assert done.returncode == 1
    assert "the signature is of other bytes" in done.stderr


def test_the_policy_that_the_documentation_shows_is_one() -> None:
    text = (Path(__file__).parents[1] / "docs" / "security.md").read_text()
    shown = text.partition("```toml\n")[2].partition("```")[0]
    held = project.parse(shown.encode(), policy.Policy, PolicyError, "docs/security.md")
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
    """Whatever the policy says, the answer is yes, or a refusal of ours."""
    (folder / "zoo-policy.toml").write_bytes(content)
    found = registry.load().find("resnet20.digits")
    assert found.weights
    said = ""
    with contextlib.suppress(ZooError):
        said = policy.check(found, found.weights)
    if said:
        held = project.parse(content, policy.Policy, PolicyError, "zoo-policy.toml")
        assert any(rule.unsigned for rule in held.rules)  # nobody has signed that manifest


@settings(max_examples=200, deadline=None, suppress_health_check=QUIET)
@given(content=HOSTILE)
@example(content=POLICY.encode())
def test_any_policy_accepts_or_refuses(inside: Path, content: bytes) -> None:
    assert_a_policy_accepts_or_refuses(inside, content)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=QUIET)
@given(content=HOSTILE)
def test_any_of_ten_thousand_policies_accepts_or_refuses(inside: Path, content: bytes) -> None:
    assert_a_policy_accepts_or_refuses(inside, content)

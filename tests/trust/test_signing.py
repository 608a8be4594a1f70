"""Signatures: real keys, real tampering, and a machine without a network."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.command import ask
from support.signed import write_key, write_policy

import zoo
from zoo import registry
from zoo.errors import IntegrityError, OfflineError, SignatureError
from zoo.trust import signing
from zoo.trust.signing import Publisher

pytest.importorskip("model_signing", reason="needs zoo-vision[signing]")


@pytest.fixture
def hub(converted_hub: Path) -> Path:
    return converted_hub


# ---- signatures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_what_a_key_signed_its_public_key_verifies(tmp_path: Path, curve: ec.EllipticCurve) -> None:
    key, file = write_key(tmp_path / "key.pem", curve), tmp_path / "any.toml"
    file.write_text("x = 1\n")
    assert ask("manifest", "sign", file, "--key", key).exit_code == 0
    answer = ask("manifest", "verify-signature", file, "--key", key.with_suffix(".pub"))
    assert answer.exit_code == 0, answer.output
    assert "signed by" in answer.output


@pytest.mark.slow
def test_the_signature_is_one_that_model_signing_itself_accepts(hub: Path, key: Path) -> None:
    ask("manifest", "sign", hub, "--key", key)
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(hub / "manifest.toml")]
    command += ["--signature", str(hub / "manifest.toml.sig"), "--public_key", str(key.with_suffix(".pub"))]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    (hub / "manifest.toml").write_text("")
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 1


def test_an_encrypted_key_is_opened_by_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, file = write_key(tmp_path / "key.pem", password="secret"), tmp_path / "any.toml"
    file.write_text("x = 1\n")
    answer = ask("manifest", "sign", file, "--key", key)
    assert answer.exit_code == 1
    assert "cannot be signed" in answer.output
    monkeypatch.setenv("ZOO_KEY_PASSWORD", "wrong")
    answer = ask("manifest", "sign", file, "--key", key)
    assert answer.exit_code == 1
    assert "wrong" not in answer.output.replace("wrong password", "")
    assert not signing.signature_of(file).exists()
    monkeypatch.setenv("ZOO_KEY_PASSWORD", "secret")
    assert ask("manifest", "sign", file, "--key", key).exit_code == 0


def test_a_changed_file_another_key_and_no_signature_are_refused_with_the_reason(hub: Path, key: Path) -> None:
    public, other = key.with_suffix(".pub"), write_key(key.with_name("other.pem")).with_suffix(".pub")
    assert "is not signed" in ask("manifest", "verify-signature", hub, "--key", public).output
    ask("manifest", "sign", hub, "--key", key)
    assert ask("manifest", "verify-signature", hub, "--key", public).exit_code == 0
    answer = ask("manifest", "verify-signature", hub, "--key", other)
    assert answer.exit_code == 1
    assert "Key mismatch" in answer.output
    with (hub / "manifest.toml").open("a") as stream:
        stream.write("# one more line\n")
    answer = ask("manifest", "verify-signature", hub, "--key", public)
    assert answer.exit_code == 1
    assert "the signature does not match the file" in answer.output


def test_a_key_that_is_not_of_an_elliptic_curve_is_refused(tmp_path: Path) -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    key, file = tmp_path / "rsa.pem", tmp_path / "any.toml"
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    file.write_text("")
    answer = ask("manifest", "sign", file, "--key", key)
    assert answer.exit_code == 1
    assert "Traceback" not in answer.output


def test_a_signature_says_with_what(tmp_path: Path, key: Path) -> None:
    file = tmp_path / "any.toml"
    file.write_text("")
    for words in (
        ["manifest", "sign", file],
        ["manifest", "sign", file, "--key", key, "--keyless"],
        ["manifest", "verify-signature", file],
    ):
        assert ask(*words).exit_code == 2
    answer = ask("manifest", "verify-signature", file, "--identity", "someone@example.org")
    assert answer.exit_code == 2
    assert "identity and issuer go together" in answer.output


def test_an_identity_is_not_asked_about_with_the_network_off(
    hub: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask("manifest", "sign", hub, "--key", key)
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    answer = ask("manifest", "sign", hub, "--keyless")
    assert answer.exit_code == 1
    assert "ZOO_OFFLINE" in answer.output
    someone = Publisher(identity="someone@example.org", issuer="https://example.org")
    content, mark = (hub / "manifest.toml").read_bytes(), (hub / "manifest.toml.sig").read_bytes()
    with pytest.raises(OfflineError, match="trust_root"):
        signing.verify(content, mark, someone, "it")


def trust_of_sigstore(file: Path) -> Path:
    """Returns the trust configuration that the sigstore package carries of the public instance."""
    from importlib.resources import files

    store = files("sigstore._store")
    found = [entry for entry in store.iterdir() if entry.is_dir() and "staging" not in entry.name]
    root = json.loads((found[0] / "trusted_root.json").read_text())
    config = json.loads((found[0] / "signing_config.v0.2.json").read_text())
    about = {"mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"}
    file.write_text(json.dumps({**about, "trustedRoot": root, "signingConfig": config}))
    return file


def test_a_key_is_no_identity(hub: Path, key: Path, tmp_path: Path) -> None:
    ask("manifest", "sign", hub, "--key", key)
    trust = trust_of_sigstore(tmp_path / "trust.json")
    someone = Publisher(identity="someone@example.org", issuer="https://example.org", trust_root=str(trust))
    content, mark = (hub / "manifest.toml").read_bytes(), (hub / "manifest.toml.sig").read_bytes()
    with pytest.raises(SignatureError, match=r"not signed by someone@example.*: expected certificate in bundle"):
        signing.verify(content, mark, someone, "it")
    words = ("--identity", someone.identity, "--issuer", someone.issuer, "--trust-root", trust)
    answer = ask("manifest", "verify-signature", hub, *words)
    assert answer.exit_code == 1
    assert "not signed by someone@example" in answer.output


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_signature_is_refused_but_the_right_one(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    folder = tmp_path_factory.mktemp("signature")
    key, file = write_key(folder / "key.pem"), folder / "any.toml"
    file.write_text("x = 1\n")
    right = signing.sign(file, key).read_bytes()
    place = st.integers(0, 1400)  # its length varies from key to key
    cut = data.draw(st.tuples(place, place, st.binary(max_size=4)))
    other = data.draw(st.sampled_from([b"", b"{}", b"[]", b"null", right[: cut[0]] + cut[2] + right[cut[1] :]]))
    if other == right:
        return
    publisher = Publisher(key=str(key.with_suffix(".pub")))
    with contextlib.suppress(SignatureError):
        signing.verify(b"x = 1\n", other, publisher, "it")
    with pytest.raises(SignatureError):
        signing.verify(b"x = 2\n", other, publisher, "it")


def test_what_is_larger_than_any_manifest_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "large"
    with file.open("wb") as opened:
        opened.truncate(signing.LARGEST)
    assert len(signing.read(file)) == signing.LARGEST
    with file.open("ab") as opened:
        opened.write(b"x")
    with pytest.raises(SignatureError, match="larger than 16,777,216 bytes"):
        signing.read(file)


# ---- hubs ---------------------------------------------------------------------------------------------------


def test_a_changed_file_in_a_signed_hub_is_named_and_never_used(
    inside: Path, hub: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask("manifest", "sign", hub, "--key", key).exit_code == 0
    file = hub / "resnet20.tiny.safetensors"
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    answer = ask("manifest", "verify-signature", hub, "--key", key.with_suffix(".pub"))
    assert answer.exit_code == 1
    assert "resnet20.tiny.safetensors has sha256" in answer.output
    write_policy(inside, key)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "empty"))
    registry.clear()
    with pytest.raises(IntegrityError, match="has sha256"):
        zoo.fetch("resnet20.tiny")


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


@pytest.mark.slow
def test_a_signed_hub_serves_a_machine_without_a_network_under_a_policy(hub: Path, key: Path, tmp_path: Path) -> None:
    there = tmp_path / "another machine"
    assert ask("manifest", "sign", hub, "--key", key).exit_code == 0
    (there / "project").mkdir(parents=True)
    shutil.copytree(hub, there / "stick")
    shutil.copy(key.with_suffix(".pub"), there / "project" / "lab.pub")
    policy_file = write_policy(there / "project", key)
    policy_file.write_text(policy_file.read_text().replace(str(key.with_suffix(".pub")), "lab.pub"))
    shutil.rmtree(hub)
    environment = {**os.environ, "ZOO_HUB": str(there / "stick"), "ZOO_CACHE": str(there / "cache")}
    environment |= {"OMP_NUM_THREADS": "1", "HF_HOME": str(there / "hf")}

    def use(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", NO_NETWORK, *words]
        return subprocess.run(
            command, env=environment, cwd=there / "project", capture_output=True, text=True, timeout=120
        )

    for words in (["manifest", "verify-signature", str(there / "stick")], ["fetch", "resnet20.tiny"]):
        done = use(*words)
        assert done.returncode == 0, (words, done.stderr)
    done = use("verify", "resnet20.tiny", "--deep")  # creates the network and runs its probe
    assert done.returncode == 0, done.stderr
    assert "of its probe" in done.stdout
    with (there / "stick" / "manifest.toml").open("a") as stream:
        stream.write("# by somebody else\n")
    done = use("fetch", "resnet20.tiny")
    assert done.returncode == 1
    assert "the signature does not match the file" in done.stderr

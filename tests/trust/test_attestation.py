"""Attestations: what other libraries accept is signed, what was forged is rejected, and what witnesses say counts."""

import json
import shutil
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_public_key
from hypothesis import given, settings
from hypothesis import strategies as st
from support.browser import served
from support.hub_server import HubServer
from support.pinned import ask
from support.signed import write_key

import zoo
from zoo import registry
from zoo.errors import HubError, PolicyError, SignatureError, SpecError
from zoo.manifest import Weights
from zoo.registry import Found
from zoo.spec import Preprocess
from zoo.trust import attestation, dsse, witnesses
from zoo.trust.attestation import KIND, SUFFIX, Measurement
from zoo.trust.dsse import Envelope, Signature
from zoo_publish import attestations

# the client's own, on upload
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

NAME = "resnet20.digits"
CLAIM_N, CLAIM_CORRECT = 360, 360


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("keys")
    return {name: write_key(folder / f"{name}.pem") for name in ("alice", "bob", "mallory")}


@pytest.fixture
def found() -> Found:
    return registry.current().find(NAME)


def entry(found: Found) -> Weights:
    assert found.weights is not None
    return found.weights


def measured(found: Found, **changes: Any) -> Measurement:
    """What an honest witness states about ``found``, with ``changes``."""
    weights = entry(found)
    claim = weights.scores["digits/test"]
    facts: dict[str, Any] = {
        "weights": NAME,
        "dataset": "digits",
        "split": "test",
        "fingerprint": claim.fingerprint,
        "n": CLAIM_N,
        "correct": CLAIM_CORRECT,
        "preprocess": weights.preprocess,
        "args": dict(weights.args),
        "command": f"zoo evaluate {NAME} --data digits",
        "versions": {"zoo": "0.1.0"},
        "cpu": "a processor",
        "device": "cpu",
        "dtype": "float32",
        "measured": datetime(2027, 1, 2, tzinfo=UTC),
    }
    return Measurement(**(facts | changes))


def hub_with(folder: Path, found: Found, *lines: bytes) -> Path:
    """A directory hub with these attestations beside the place of the weights."""
    file = folder / f"{entry(found).path}{SUFFIX}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"".join(lines))
    return folder


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Path], found: Found) -> Callable[..., Any]:
    """What is found out about attestations on a hub, if alice and bob are witnesses."""
    trusted = {name: keys[name].with_suffix(".pub") for name in ("alice", "bob")}

    def judged(*lines: bytes, of: Found = found) -> list[witnesses.Attested]:
        monkeypatch.setenv("ZOO_HUB", str(hub_with(tmp_path / "hub", of, *lines)))
        return witnesses.of(of, entry(of), trusted)

    return judged


# ---- what is signed ---------------------------------------------------------------------------------------


def test_the_statement_is_one_that_in_toto_and_its_envelope_one_that_securesystemslib_accept(
    found: Found, keys: dict[str, Path]
) -> None:
    from google.protobuf import json_format
    from in_toto_attestation.v1.statement import Statement
    from in_toto_attestation.v1.statement_pb2 import Statement as Message
    from securesystemslib.dsse import Envelope as Theirs
    from securesystemslib.signer import SSlibKey

    line = attestation.sign(measured(found), entry(found), keys["alice"])
    assert line.count(b"\n") == 1
    theirs = Theirs.from_dict(json.loads(line))
    public = load_pem_public_key(keys["alice"].with_suffix(".pub").read_bytes())
    (keyid,) = theirs.signatures
    key = SSlibKey.from_crypto(public, keyid=keyid)  # type: ignore[arg-type]  # of an elliptic curve
    assert theirs.verify([key], 1) == {keyid: key}
    assert theirs.payload_type == "application/vnd.in-toto+json"
    payload = json.loads(theirs.payload)
    Statement.copy_from_pb(json_format.Parse(theirs.payload, Message())).validate()
    assert payload["_type"] == "https://in-toto.io/Statement/v1"
    assert payload["subject"] == [{"name": f"{NAME}.safetensors", "digest": {"sha256": entry(found).sha256}}]
    assert (payload["predicate"]["correct"], payload["predicate"]["n"]) == (360, 360)


def test_the_example_of_the_specification_is_verified() -> None:
    """https://github.com/secure-systems-lab/dsse/blob/master/protocol.md, whose signature is r and s without DER."""
    numbers = ec.EllipticCurvePublicNumbers(
        46950820868899156662930047687818585632848591499744589407958293238635476079160,
        5640078356564379163099075877009565129882514886557779369047442380624545832820,
        ec.SECP256R1(),
    )
    raw = b64decode("A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==")
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    for text in (b64encode(der).decode(), b64encode(der, b"-_").decode()):  # readers accept both alphabets
        envelope = Envelope("aGVsbG8gd29ybGQ=", "http://example.com/HelloWorld", [Signature(text)])
        assert envelope.content == b"hello world"
        key = dsse.PublicKey("", numbers.public_key())
        assert dsse.is_signed(envelope, key)
        assert not dsse.is_signed(msgspec.structs.replace(envelope, payload="aGVsbG8gd29ybGE="), key)


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_keys_of_all_curves_and_with_passwords_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, curve: ec.EllipticCurve
) -> None:
    key = write_key(tmp_path / "key.pem", curve, password="secret")
    monkeypatch.setenv("ZOO_KEY_PASSWORD", "wrong")
    with pytest.raises(SignatureError, match="not a private key that can be opened"):
        dsse.sign(b"x", "kind", key)
    monkeypatch.setenv("ZOO_KEY_PASSWORD", "secret")
    assert dsse.is_signed(dsse.sign(b"x", "kind", key), dsse.public_key(key.with_suffix(".pub")))


def test_keys_of_other_kinds_are_refused(tmp_path: Path) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (tmp_path / "rsa.pem").write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    unusual = write_key(tmp_path / "unusual.pem", ec.SECP256K1())
    for file in (tmp_path / "rsa.pem", unusual):
        with pytest.raises(SignatureError, match="expected P-256, P-384 or P-521"):
            dsse.sign(b"x", "kind", file)
    with pytest.raises(SignatureError, match="not a public key"):
        dsse.public_key(unusual)


# ---- forgeries --------------------------------------------------------------------------------------------


def verdicts(judged: list[witnesses.Attested]) -> list[tuple[str, str, str]]:
    return [(one.witness, one.verdict, one.reason) for one in judged]


def test_an_honest_attestation_confirms(judge: Any, found: Found, keys: dict[str, Path]) -> None:
    line = attestation.sign(measured(found), entry(found), keys["alice"])
    assert verdicts(judge(line, line)) == [("alice", "confirms", "")], "a copy is not another attestation"


def changed_payload(line: bytes, **changes: Any) -> bytes:
    """``line`` with other values in its predicate, under the same signature."""
    envelope = json.loads(line)
    statement = json.loads(b64decode(envelope["payload"]))
    statement["predicate"] |= changes
    return json.dumps(envelope | {"payload": b64encode(json.dumps(statement).encode()).decode()}).encode() + b"\n"


def test_forged_by_a_changed_payload(judge: Any, found: Found, keys: dict[str, Path]) -> None:
    line = attestation.sign(measured(found, correct=1), entry(found), keys["alice"])
    [one] = judge(changed_payload(line, correct=360))
    assert (one.witness, one.verdict, one.measured) == ("alice", "rejected", None)
    assert "signature is not that of its content" in one.reason


def test_forged_with_another_key(judge: Any, found: Found, keys: dict[str, Path]) -> None:
    line = attestation.sign(measured(found), entry(found), keys["mallory"])
    [one] = judge(line)
    assert (one.witness, one.verdict, one.measured) == ("", "unknown key", None)
    envelope = json.loads(line)
    envelope["signatures"][0]["keyid"] = dsse.public_key(keys["alice"].with_suffix(".pub")).id
    [one] = judge(json.dumps(envelope).encode())
    assert (one.witness, one.verdict) == ("alice", "rejected"), "an id is a hint and no proof"


def test_forged_by_moving_it_to_weights_with_another_sha256(judge: Any, found: Found, keys: dict[str, Path]) -> None:
    line = attestation.sign(measured(found), entry(found), keys["alice"])
    other = found._replace(weights=msgspec.structs.replace(entry(found), sha256="0" * 64))
    [one] = judge(line, of=other)
    assert (one.verdict, one.reason) == ("rejected", f"it is about weights with sha256 {entry(found).sha256}")


def test_forged_with_the_fingerprint_of_other_images(judge: Any, found: Found, keys: dict[str, Path]) -> None:
    line = attestation.sign(measured(found, fingerprint=f"sha256:{'1' * 64}"), entry(found), keys["alice"])
    [one] = judge(line)
    assert one.verdict == "rejected"
    assert "it is about other images (sha256:1111" in one.reason
    [one] = judge(attestation.sign(measured(found, n=100, correct=100), entry(found), keys["alice"]))
    assert one.reason == "it is about 100 images, the score about 360"


def test_forged_by_a_signature_moved_from_another_statement(judge: Any, found: Found, keys: dict[str, Path]) -> None:
    good = json.loads(attestation.sign(measured(found), entry(found), keys["alice"]))
    other = json.loads(attestation.sign(measured(found, correct=1), entry(found), keys["alice"]))
    [one] = judge(json.dumps(good | {"signatures": other["signatures"]}).encode())
    assert one.verdict == "rejected"
    assert "signature is not that of its content" in one.reason


def test_forged_by_a_replay_under_another_name(judge: Any, found: Found, keys: dict[str, Path]) -> None:
    """The same bytes under the name of another network, which may compute something else with them."""
    line = attestation.sign(measured(found), entry(found), keys["alice"])
    renamed = found._replace(weights=msgspec.structs.replace(entry(found), tag="other"))
    [one] = judge(line, of=renamed)
    assert (one.verdict, one.reason) == ("rejected", f"it is about {NAME}")


def test_forged_by_another_input_or_other_arguments_of_the_same_name(
    judge: Any, found: Found, keys: dict[str, Path]
) -> None:
    weights = entry(found)
    assert weights.preprocess is not None
    line = attestation.sign(measured(found), weights, keys["alice"])
    dark = msgspec.structs.replace(weights.preprocess, mean=(0.9,))
    [one] = judge(line, of=found._replace(weights=msgspec.structs.replace(weights, preprocess=dark)))
    assert "prepared in another way" in one.reason
    [one] = judge(line, of=found._replace(weights=msgspec.structs.replace(weights, args={"depth": 56})))
    assert "other arguments" in one.reason


def test_forged_by_another_type_of_the_same_payload(judge: Any, found: Found, keys: dict[str, Path]) -> None:
    line = attestation.sign(measured(found), entry(found), keys["alice"])
    envelope = dsse.sign(msgspec.json.decode(line, type=Envelope).content, "text/plain", keys["alice"])
    [one] = judge(json.dumps(msgspec.to_builtins(envelope) | {"payloadType": KIND}).encode())
    assert one.verdict == "rejected"
    assert judge(msgspec.json.encode(envelope)) == [], "text that happens to be a statement states nothing"


def test_statements_of_other_kinds_are_left_out(judge: Any, found: Found, keys: dict[str, Path]) -> None:
    slsa = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [],
        "predicateType": "https://slsa.dev/provenance/v1",
    }
    envelope = dsse.sign(json.dumps(slsa | {"predicate": {}}).encode(), KIND, keys["alice"])
    assert judge(msgspec.json.encode(envelope)) == []


@pytest.mark.parametrize(
    "changes", [{"correct": 400}, {"n": 0, "correct": 0}, {"n": -1}, {"measured": "yesterday"}, {"correct": None}]
)
def test_impossible_measurements_are_rejected(
    judge: Any, found: Found, keys: dict[str, Path], changes: dict[str, Any]
) -> None:
    payload = msgspec.json.decode(attestation.sign(measured(found), entry(found), keys["alice"]), type=Envelope).content
    statement = json.loads(payload)
    statement["predicate"] |= changes
    envelope = dsse.sign(json.dumps(statement).encode(), KIND, keys["alice"])
    [one] = judge(msgspec.json.encode(envelope))
    assert one.verdict == "rejected"
    assert "not a statement about a score" in one.reason


@settings(max_examples=60)
@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_no_bytes_are_more_than_no_attestation(content: bytes) -> None:
    assert attestation.read_lines(content) == []


def test_envelopes_that_are_too_deep_or_not_base64_are_no_attestation() -> None:
    for text in ("[" * 5000, '{"payload":"%", "payloadType":"x", "signatures":[{"sig":"%"}]}'):
        for envelope in attestation.read_lines(text.encode()):
            with pytest.raises(SignatureError, match="Not base64"):
                _ = envelope.content


def test_a_file_of_attestations_is_read_up_to_its_limit(judge: Any, found: Found, keys: dict[str, Path]) -> None:
    line = attestation.sign(measured(found), entry(found), keys["alice"])
    assert verdicts(judge(b"x" * 1000 + b"\n", line)) == [("alice", "confirms", "")]
    assert judge(b"x" * attestation.LARGEST + b"\n", line) == []


# ---- witnesses --------------------------------------------------------------------------------------------


def test_the_latest_of_a_witness_counts(judge: Any, found: Found, keys: dict[str, Path]) -> None:
    early = measured(found, correct=1)
    late = measured(found, measured=early.measured + timedelta(days=1))
    lines = [attestation.sign(one, entry(found), keys["alice"]) for one in (late, early)]
    assert verdicts(judge(*lines)) == [("alice", "confirms", "")]


def test_witnesses_who_disagree_are_named(judge: Any, found: Found, keys: dict[str, Path]) -> None:
    lines = [attestation.sign(measured(found), entry(found), keys["alice"])]
    close = judge(*lines, attestation.sign(measured(found, correct=359), entry(found), keys["bob"]))
    assert witnesses.disagreements(close) == [
        "alice and bob disagree on digits/test: 360 and 359 of 360, within the interval"
    ]
    far = judge(*lines, attestation.sign(measured(found, correct=200), entry(found), keys["bob"]))
    assert [one.verdict for one in far] == ["confirms", "disagrees"]
    assert "intervals do not overlap" in witnesses.disagreements(far)[0]


def test_a_split_without_a_claim_confirms_nothing(judge: Any, found: Found, keys: dict[str, Path]) -> None:
    other = measured(found, dataset="mnist", correct=1, preprocess=entry(found).preprocess or Preprocess())
    assert [one.verdict for one in judge(attestation.sign(other, entry(found), keys["alice"]))] == ["no claim"]


def policy(folder: Path, keys: dict[str, Path], least: int = 2, **names: str) -> Path:
    named = names or {"alice": "alice", "bob": "bob"}
    lines = [f'[witnesses.{name}]\nkey = "{keys[key].with_suffix(".pub")}"' for name, key in named.items()]
    file = folder / "zoo-policy.toml"
    file.write_text("\n".join(["version = 1", *lines, f"[[rules]]\nunsigned = true\nwitnesses = {least}", ""]))
    return file


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Found) -> Callable[..., None]:
    """Puts attestations on a directory hub that ZOO_HUB names."""

    def put(*lines: bytes) -> None:
        monkeypatch.setenv("ZOO_HUB", str(hub_with(tmp_path / "hub", found, *lines)))

    return put


def test_a_policy_demands_two_witnesses(inside: Path, mirror: Any, found: Found, keys: dict[str, Path]) -> None:
    signed = {name: attestation.sign(measured(found), entry(found), key) for name, key in keys.items()}
    policy(inside, keys)
    for lines in ([], [signed["alice"]], [signed["alice"], signed["mallory"]], [signed["alice"]] * 2):
        mirror(*lines)
        with pytest.raises(PolicyError, match=r"2 witnesses must confirm a score, [01] do"):
            zoo.fetch(NAME)
    mirror(signed["alice"], signed["bob"])
    zoo.fetch(NAME)
    answer = ask("info", NAME)
    assert "accepted unsigned, from plugin:zoo-vision, confirmed by alice and bob" in answer.output
    assert "bob: digits/test: 100.000% (360 of 360), confirms the score, 2027-01-02 (" in answer.output
    told = json.loads(ask("info", NAME, "--json").stdout)["witnesses"]["attestations"]
    assert [(one["witness"], one["verdict"], one["measured"]["n"]) for one in told] == [
        ("alice", "confirms", 360), ("bob", "confirms", 360)
    ]  # fmt: skip


def test_the_gallery_shows_who_confirms(inside: Path, mirror: Any, found: Found, keys: dict[str, Path]) -> None:
    from zoo_gallery import facts

    policy(inside, keys)
    mirror(*(attestation.sign(measured(found), entry(found), keys[name]) for name in ("alice", "mallory")))
    registry.clear()
    [page] = facts.pages([one for one in registry.current().models() if one.name == "resnet20"])
    attested = {trained.name: trained.attested for trained in page.trained}
    known, unknown = attested[NAME]
    assert known == "alice: digits/test: 100.000% (360 of 360), confirms the score, 2027-01-02"
    assert unknown.endswith(": not a witness of the policy, not verified")
    assert attested["resnet20.c10"] == ()


def test_a_pack_takes_the_attestations_of_all_hubs_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Found, keys: dict[str, Path]
) -> None:
    alice, bob = (attestation.sign(measured(found), entry(found), keys[name]) for name in ("alice", "bob"))
    hubs = [hub_with(tmp_path / "one", found, alice), hub_with(tmp_path / "two", found, bob, alice.strip())]
    monkeypatch.setenv("ZOO_HUB", ",".join(map(str, hubs)))
    assert ask("manifest", "pack", NAME, "-o", tmp_path / "pack").exit_code == 0
    assert (tmp_path / "pack" / f"{entry(found).path}{SUFFIX}").read_bytes() == alice + bob


def test_two_names_of_one_key_are_one_witness(inside: Path, mirror: Any, found: Found, keys: dict[str, Path]) -> None:
    policy(inside, keys, alice="alice", ally="alice")
    mirror(attestation.sign(measured(found), entry(found), keys["alice"]))
    with pytest.raises(PolicyError, match="2 witnesses must confirm a score, 1 do"):
        zoo.fetch(NAME)


def test_one_witness_who_disagrees_is_enough_to_reject(
    inside: Path, mirror: Any, found: Found, keys: dict[str, Path]
) -> None:
    policy(inside, keys, least=1)
    mirror(attestation.sign(measured(found), entry(found), keys["alice"]))
    zoo.fetch(NAME)
    bad = attestation.sign(measured(found, correct=200), entry(found), keys["bob"])
    mirror(attestation.sign(measured(found), entry(found), keys["alice"]), bad)
    with pytest.raises(PolicyError, match=r"a witness disagrees with the manifest\n  bob: digits/test: 55.556%"):
        zoo.fetch(NAME)
    assert "alice and bob disagree" in ask("info", NAME).output


def test_a_policy_with_fewer_witnesses_than_it_demands_is_an_error(inside: Path, keys: dict[str, Path]) -> None:
    policy(inside, keys, least=3)
    with pytest.raises(PolicyError, match="a rule needs 3 witnesses, but there are 2"):
        zoo.fetch(NAME)


def test_an_unreadable_key_is_an_error_and_not_a_missing_witness(
    inside: Path, mirror: Any, found: Found, keys: dict[str, Path]
) -> None:
    text = policy(inside, keys).read_text().replace(str(keys["bob"].with_suffix(".pub")), "nowhere.pub")
    (inside / "zoo-policy.toml").write_text(text)
    mirror(attestation.sign(measured(found), entry(found), keys["alice"]))
    with pytest.raises(PolicyError, match=r"nowhere.pub is not a file"):
        zoo.fetch(NAME)
    assert "cannot be read" in ask("info", NAME).output


# ---- hubs -------------------------------------------------------------------------------------------------


def on_hugging_face(found: Found) -> Found:
    weights = msgspec.structs.replace(entry(found), hub="hf", repo="alice/tiny", file="model.safetensors")
    return found._replace(weights=weights)


def test_attestations_of_a_repository_are_commits_and_are_read_when_asked_for(
    hub_server: HubServer, monkeypatch: pytest.MonkeyPatch, found: Found, keys: dict[str, Path]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "token-of-alice")
    hub_server.commit("alice/tiny", {"model.safetensors": b"weights"})
    there = on_hugging_face(found)
    trusted = {"alice": keys["alice"].with_suffix(".pub"), "bob": keys["bob"].with_suffix(".pub")}
    for name in ("alice", "bob", "bob"):
        line = attestation.sign(measured(found), entry(there), keys[name])
        where = attestations.add(line, entry(there), "hf://alice/tiny")
        assert where.endswith("alice/tiny/model.safetensors.intoto.jsonl")
    assert witnesses.of(there, entry(there), trusted) == [], "a hub elsewhere is not asked for every question"
    assert [one.verdict for one in witnesses.of(there, entry(there), trusted, ask=True)][:2] == ["confirms"] * 2
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    assert {one.witness for one in witnesses.of(there, entry(there), trusted)} == {"alice", "bob"}, "kept in the cache"
    with pytest.raises(HubError, match="network access is disabled"):
        attestations.add(b"x", entry(there), "hf://alice/tiny")
    monkeypatch.delenv("ZOO_OFFLINE")
    hub_server.commit("alice/tiny", {"another": b"file"})
    read_from = attestations.companion.read_from

    def meanwhile(*given: Any, **options: Any) -> bytes:
        hub_server.commit("alice/tiny", {"model.safetensors.intoto.jsonl": b"by somebody else"})
        return read_from(*given, **options)

    with monkeypatch.context() as patch:
        patch.setattr(attestations.companion, "read_from", meanwhile)
        with pytest.raises(HubError, match="cannot be published to") as caught:
            attestations.add(b"x\n", entry(there), "hf://alice/tiny")
    assert "There is a newer commit" in caught.value.hint
    with pytest.raises(HubError, match="is in the repository alice/tiny, not in bob/tiny"):
        attestations.add(b"x", entry(there), "hf://bob/tiny")


def test_attestations_lie_beside_weights_on_any_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Found, keys: dict[str, Path]
) -> None:
    line = attestation.sign(measured(found), entry(found), keys["alice"])
    trusted = {"alice": keys["alice"].with_suffix(".pub")}
    weights = entry(found)
    (tmp_path / "site" / "weights_of_a_test" / weights.repo).mkdir(parents=True)
    (tmp_path / "site" / "weights_of_a_test" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "site")
    attestations.add(line, weights, "embedded:weights_of_a_test")
    assert (tmp_path / "site" / "weights_of_a_test" / f"{weights.path}{SUFFIX}").read_bytes() == line
    attestations.add(line, weights, "memory://attested")
    monkeypatch.setenv("ZOO_HUB", "memory://attested")
    assert witnesses.of(found, weights, trusted) == []
    assert "attestations" not in ask("info", NAME).output
    assert "(memory://attested)" in ask("info", NAME, "--online").output
    assert [one.hub for one in witnesses.of(found, weights, trusted)] == ["memory://attested"]
    with pytest.raises(HubError, match="the weights are not on this hub"):
        attestations.add(line, weights, str(tmp_path / "nowhere"))
    shutil.rmtree(tmp_path / "site")


def test_a_web_server_serves_the_attestations_of_a_copied_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Found, keys: dict[str, Path]
) -> None:
    folder = hub_with(tmp_path / "hub", found, attestation.sign(measured(found), entry(found), keys["alice"]))
    with served(folder) as address:
        monkeypatch.setenv("ZOO_HUB", address)
        trusted = {"alice": keys["alice"].with_suffix(".pub")}
        attested = witnesses.of(found, entry(found), trusted, ask=True)
    assert [(one.hub, one.verdict) for one in attested] == [(address, "confirms")]
    with pytest.raises(SpecError, match="is a web server, which is read-only"):
        attestations.add(b"x\n", entry(found), address)


def test_no_hub_takes_more_attestations_than_are_read(tmp_path: Path, found: Found) -> None:
    folder = hub_with(tmp_path, found, b"x" * attestation.LARGEST)
    with pytest.raises(HubError, match="would have more than 1,048,576 bytes"):
        attestations.add(b"one more\n", entry(found), str(folder))


def test_the_command_measures_signs_and_stores(tmp_path: Path, found: Found, keys: dict[str, Path]) -> None:
    hub, file = hub_with(tmp_path / "hub", found), tmp_path / "own.jsonl"
    words = ("attest", NAME, "--data", "digits", "--split", "test", "--key", keys["alice"])
    answer = ask(*words, "--to", hub, "-o", file)
    assert answer.exit_code == 0, answer.output
    assert "confirms the score" in answer.output
    assert f"The attestation is in {hub}/" in answer.output
    content = (hub / f"{entry(found).path}{SUFFIX}").read_bytes()
    assert content == file.read_bytes()
    [envelope] = attestation.read_lines(content)
    got = attestation.measurement_in(envelope, found, entry(found))
    assert got is not None
    claim = entry(found).scores["digits/test"]
    assert (got.correct, got.n, got.fingerprint, got.command) == (
        claim.correct,
        claim.n,
        claim.fingerprint,
        claim.command,
    )
    assert got.cpu
    assert datetime.now(UTC) - got.measured < timedelta(minutes=10)


def test_a_public_key_does_not_sign(keys: dict[str, Path]) -> None:
    answer = ask("attest", NAME, "--data", "digits", "--key", keys["alice"].with_suffix(".pub"))
    assert answer.exit_code == 1
    assert "is not a private key" in answer.output


@pytest.mark.slow
def test_a_repository_is_published_audited_witnessed_and_demanded_by_its_name(
    hub_server: HubServer, inside: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Path]
) -> None:
    """Its weights have a sha256 only from their first use on, by the user's lock."""
    from zoo_publish import publish

    monkeypatch.setenv("HF_TOKEN", "token-of-alice")
    publish(zoo.fetch(NAME), "resnet20.mine", "hf://alice/tiny", evaluate_on=(("digits", "test"),))
    name = "hf-hub:alice/tiny"
    policy(inside, keys, least=1)
    refused = ask("fetch", name)
    assert refused.exit_code == 1
    assert "it is not pinned, so no witness can confirm it" in refused.output
    (inside / "zoo-policy.toml").unlink()
    audited = ask("audit", name, "--data", "digits")
    assert audited.exit_code == 0, audited.output
    words = ("attest", name, "--data", "digits", "--key", keys["alice"], "--to", "hf://alice/tiny")
    assert "confirms the score" in ask(*words).output
    policy(inside, keys, least=1)
    answer = ask("fetch", name)
    assert answer.exit_code == 0, answer.output
    assert "confirmed by alice" in ask("info", name).output

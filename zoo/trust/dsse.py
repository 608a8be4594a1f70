"""Envelopes: bytes with signatures by elliptic-curve keys, as DSSE defines them.

https://github.com/secure-systems-lab/dsse. A key's id is the sha256 of its public key in PEM, as in the signatures of
:mod:`zoo.trust.signing`, which takes the same keys. An id is a hint: what counts is which key verifies a signature.
"""

import binascii
import hashlib
import os
from base64 import b64decode, b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec

from zoo.errors import MissingExtraError, SignatureError
from zoo.trust.signing import read

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey


class Signature(msgspec.Struct, frozen=True):
    sig: str
    keyid: str = ""


class Envelope(msgspec.Struct, frozen=True):
    """``payload`` is base64 of the signed bytes, ``payloadType`` says what they are."""

    payload: str
    payloadType: str  # noqa: N815 # the name in the format
    signatures: list[Signature]

    @property
    def content(self) -> bytes:
        """The bytes that are signed; raises :class:`SignatureError` if they are not base64."""
        return _decoded(self.payload)


class PublicKey(NamedTuple):
    id: str
    key: "EllipticCurvePublicKey"


def sign(payload: bytes, kind: str, key: Path) -> Envelope:
    """``payload``, which is of the type ``kind``, signed with the private ``key`` (PEM: P-256, P-384 or P-521).

    An encrypted key is opened with ``ZOO_KEY_PASSWORD``. Raises :class:`SignatureError` if the key cannot be used,
    :class:`MissingExtraError` without cryptography.
    """
    ec, _ = _library()
    private = private_key(key)
    made = private.sign(_encoded(kind, payload), ec.ECDSA(_hash_of(private.curve, key)))
    signature = Signature(b64encode(made).decode(), _id_of(private.public_key()))
    return Envelope(b64encode(payload).decode(), kind, [signature])


def private_key(file: Path) -> "EllipticCurvePrivateKey":
    """The private key in ``file``; raises as :func:`sign`."""
    ec, serialization = _library()
    password = os.environ.get("ZOO_KEY_PASSWORD")
    try:
        private = serialization.load_pem_private_key(read(file), password.encode() if password else None)
    except (ValueError, TypeError) as error:
        raise SignatureError(f"{file} is not a private key that can be opened: {error}") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise SignatureError(f"{file} is not an elliptic-curve key, expected P-256, P-384 or P-521.")
    _hash_of(private.curve, file)
    return cast("EllipticCurvePrivateKey", private)


def public_key(file: Path) -> PublicKey:
    """The public key in ``file`` (PEM); raises as :func:`sign`."""
    ec, serialization = _library()
    try:
        key = serialization.load_pem_public_key(read(file))
    except (ValueError, TypeError) as error:
        raise SignatureError(f"{file} is not a public key: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise SignatureError(f"{file} is not an elliptic-curve key, expected P-256, P-384 or P-521.")
    _hash_of(key.curve, file)
    return PublicKey(_id_of(key), key)


def is_signed(envelope: Envelope, by: PublicKey) -> bool:
    """Whether one of the signatures of ``envelope`` is that of its content and type by this key."""
    from cryptography.exceptions import InvalidSignature

    ec, _ = _library()
    content = _encoded(envelope.payloadType, envelope.content)
    for signature in envelope.signatures:
        try:
            by.key.verify(_decoded(signature.sig), content, ec.ECDSA(_hash_of(by.key.curve, by.id)))
        except InvalidSignature:
            continue
        return True
    return False


def _encoded(kind: str, payload: bytes) -> bytes:
    """What is signed: DSSE's pre-authentication encoding."""
    name = kind.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)


def _decoded(text: str) -> bytes:
    """Base64, standard or URL-safe, as DSSE has readers accept both."""
    try:
        return b64decode(text.translate(str.maketrans("-_", "+/")), validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureError(f"Not base64: {error}") from None


def _id_of(key: "EllipticCurvePublicKey") -> str:
    _, serialization = _library()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def _hash_of(curve: Any, what: object) -> Any:
    from cryptography.hazmat.primitives import hashes

    known: dict[str, type[Any]] = {"secp256r1": hashes.SHA256, "secp384r1": hashes.SHA384, "secp521r1": hashes.SHA512}
    if curve.name not in known:
        raise SignatureError(f"{what} is a key of the curve {curve.name}, expected P-256, P-384 or P-521.")
    return known[curve.name]()


def _library() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise MissingExtraError.of("A signature", "cryptography", "zoo-vision[signing]") from None
    return ec, serialization

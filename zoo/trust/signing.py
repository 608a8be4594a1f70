"""Signatures in OpenSSF's model-signing format: by a key, offline, or by an identity, with Sigstore.

What is signed is a manifest: it holds the sha256 of every file it names, so its signature covers
all of their bytes, and checking it costs reading one small file.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from zoo import hub
from zoo.errors import MissingExtraError, OfflineError, SignatureError
from zoo.manifest import Text
from zoo.system import storage

SUFFIX = ".sig"
LARGEST = 1 << 24
"""The limit in bytes of signed files, signatures and keys."""


class Publisher(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who signs: the owner of an elliptic-curve key, or an identity confirmed by an OpenID issuer.

    Args:
        key: File of the public key (PEM).
        identity: An e-mail address or a workflow.
        issuer: Address of the OpenID issuer.
        trust_root: File with Sigstore's trust configuration, with which identities are checked without a network.
    """

    key: Text = ""
    identity: Text = ""
    issuer: Text = ""
    trust_root: Text = ""

    def __post_init__(self) -> None:
        if bool(self.key) == bool(self.identity):
            raise ValueError("a publisher has either a key, or an identity with its issuer")
        if bool(self.identity) != bool(self.issuer) or (self.trust_root and self.key):
            raise ValueError("identity and issuer go together; trust_root belongs to them")

    def beside(self, folder: Path) -> "Publisher":
        """Returns the publisher with file names relative to ``folder``."""
        found = {name: str(folder / getattr(self, name)) for name in ("key", "trust_root") if getattr(self, name)}
        return msgspec.structs.replace(self, **found)


def signature_of(file: Path) -> Path:
    """Returns the path of the signature of ``file``."""
    return file.with_name(file.name + SUFFIX)


def sign(file: Path, key: Path | None) -> Path:
    """Signs ``file`` with the private ``key`` (PEM), or without one by the user's Sigstore identity.

    An encrypted key is opened with ``ZOO_KEY_PASSWORD``. Returns the signature's file. Raises
    :class:`SignatureError` if that fails, :class:`MissingExtraError` without model-signing.
    """
    signing, _ = _library()
    content = read(file)
    if key is None and (switch := hub.offline_switch()):
        raise OfflineError(f"Keyless signing needs Sigstore's servers, but network access is disabled ({switch}).")
    if key is not None:
        read(key)
    password = os.environ.get("ZOO_KEY_PASSWORD")
    with TemporaryDirectory() as folder, _told(f"{file} cannot be signed" + (f" with {key}" if key else "")):
        copy, signature = Path(folder, file.name), Path(folder, "signature")
        copy.write_bytes(content)
        config = signing.Config()
        if key is None:
            config.use_sigstore_signer(use_ambient_credentials=True)
        else:
            config.use_elliptic_key_signer(private_key=key, password=password.encode() if password else None)
        config.sign(copy, signature)
        made = signature.read_bytes()
    storage.replace(signature_of(file), made)
    return signature_of(file)


def verify(content: bytes, signature: bytes, publisher: Publisher, what: str) -> None:
    """Raises :class:`SignatureError` unless ``signature`` is that of ``content`` by ``publisher``.

    ``what`` is their name in errors. The function takes bytes and not a file, so that the caller uses exactly the bytes
    that were checked.
    """
    _, verifying = _library()
    if publisher.identity and not publisher.trust_root and (switch := hub.offline_switch()):
        raise OfflineError(
            f"{what}: checking an identity needs Sigstore's servers, but network access is disabled ({switch}).",
            hint="Add a trust_root (a file with Sigstore's trust configuration) or a key to the publisher.",
        )
    for needed in filter(None, (publisher.key, publisher.trust_root)):
        read(Path(needed))
    with TemporaryDirectory() as folder, _told(f"{what} is not signed by {_called(publisher)}"):
        copy, beside = Path(folder, "content"), Path(folder, "signature")
        copy.write_bytes(content)
        beside.write_bytes(signature)
        config = verifying.Config()
        if publisher.key:
            config.use_elliptic_key_verifier(public_key=Path(publisher.key))
        else:
            trust = Path(publisher.trust_root) if publisher.trust_root else None
            config.use_sigstore_verifier(identity=publisher.identity, oidc_issuer=publisher.issuer, trust_config=trust)
        config.verify(copy, beside)


def read(file: Path) -> bytes:
    """Reads a small regular file; raises :class:`SignatureError`."""
    try:
        if not file.is_file():
            raise SignatureError(f"{file} is not a file.")
        with storage.open_regular(file) as opened:
            content = opened.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        raise SignatureError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > LARGEST:
        raise SignatureError(
            f"{file} is larger than {LARGEST:,} bytes, which is too large for a manifest, signature or key."
        )
    return content


def _called(publisher: Publisher) -> str:
    return f"the key {publisher.key}" if publisher.key else f"{publisher.identity} ({publisher.issuer})"


@contextlib.contextmanager
def _told(problem: str) -> Iterator[None]:
    """Converts the library's errors to ours, and captures what it prints on standard error."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except Exception as error:  # it and what stands below it raise errors of five libraries, KeyError among them
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        if "Hash mismatch" in reason:
            reason = "the signature does not match the file"
        raise SignatureError(f"{problem}: {reason}") from None


def _library() -> tuple[Any, Any]:
    try:
        from model_signing import signing, verifying
    except ImportError as error:
        raise MissingExtraError.of("A signature", str(error.name or "model-signing"), "zoo-vision[signing]") from None
    return signing, verifying

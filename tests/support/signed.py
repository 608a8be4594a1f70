"""Keys and policies, as people make them: for tests of signatures and policies."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)


def write_key(file: Path, curve: ec.EllipticCurve | None = None, password: str = "") -> Path:
    """Returns a new private key; its public key lies beside it as ``.pub``."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    locked = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    file.with_suffix(".pub").write_bytes(public)
    return file


def write_policy(folder: Path, key: Path, **changes: tuple[str, str]) -> Path:
    """Returns a policy under which the lab signs what comes from directories, plugins need not be signed; with
    ``changes``.
    """
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

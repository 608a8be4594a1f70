"""``zoo manifest sign``, ``zoo manifest verify-signature``: who vouches for a manifest."""

from pathlib import Path

import click

from zoo import manifest
from zoo.cli import options
from zoo.cli.output import echo, print_json
from zoo.errors import IntegrityError, SignatureError
from zoo.system import storage
from zoo.trust import policy, signing
from zoo.trust.signing import Publisher

_path_argument = click.argument("path", type=click.Path(exists=True, path_type=Path))


@click.command(epilog="Example: zoo manifest sign manifest.toml --key lab.pem")
@_path_argument
@click.option("--key", type=options.FILE, help="Private key (PEM); ZOO_KEY_PASSWORD decrypts it.")
@click.option("--keyless", is_flag=True, help="Sign with your OpenID identity through Sigstore; needs the network.")
@options.json
def sign(path: Path, key: Path | None, keyless: bool, as_json: bool) -> None:
    """Sign a manifest and the hashes in it.

    PATH is the manifest or the folder of a hub. The signature is written beside it; model_signing verify also reads it.
    """
    if (key is None) != keyless:
        raise click.UsageError("Choose how to sign: --key FILE, or --keyless.")
    file = _manifest(path)
    signature = signing.sign(file, key)
    if as_json:
        return print_json({"file": file, "signature": signature})
    return echo(signature)


@click.command("verify-signature", epilog="Example: zoo manifest verify-signature hub --key lab.pub")
@_path_argument
@click.option("--key", type=options.FILE, help="Public key (PEM).")
@click.option("--identity", default="", help="Expected signer without a key: an e-mail address or a workflow.")
@click.option("--issuer", default="", help="OpenID issuer of the identity.")
@click.option("--trust-root", type=options.FILE, help="Trust configuration of Sigstore, to check an identity offline.")
@options.json
def verify_signature(
    path: Path, key: Path | None, identity: str, issuer: str, trust_root: Path | None, as_json: bool
) -> None:
    """Check a manifest's signature, and the files of a hub's folder.

    Without a key or an identity, any publisher of the project's policy is accepted.
    """
    given = {"key": str(key or ""), "identity": identity, "issuer": issuer, "trust_root": str(trust_root or "")}
    publishers = _publishers() if not any(given.values()) else {}
    if not publishers:
        try:
            publishers = {"": Publisher(**given)}
        except ValueError as error:
            raise click.UsageError(f"{error}: --key FILE, or --identity WHO --issuer URL.") from None
    file = _manifest(path)
    signature = signing.signature_of(file)
    if not signature.exists():
        raise SignatureError(
            f"{file} is not signed: there is no {signature}.", hint=f"zoo manifest sign {path} --key FILE"
        )
    by = _signer(file, signature, publishers)
    if damaged := _damage(path) if path.is_dir() else []:
        raise IntegrityError("\n  ".join([f"{path} differs from what was signed:", *damaged]))
    if as_json:
        return print_json({"file": file, "signature": signature, "publisher": by, "files_checked": path.is_dir()})
    files = ", and every file it names has its sha256" if path.is_dir() else ""
    return echo(f"{file}: signed by {by or identity or key}{files}")


def _publishers() -> dict[str, Publisher]:
    """Those of the project's policy."""
    file = storage.project_file(policy.NAME, policy.VARIABLE)
    held = policy.read(file).publishers if file else {}
    return {name: publisher.beside(file.parent) for name, publisher in held.items()} if file else {}


def _signer(file: Path, signature: Path, publishers: dict[str, Publisher]) -> str:
    content, mark = signing.read(file), signing.read(signature)
    failures: list[SignatureError] = []
    for name, publisher in publishers.items():
        try:
            signing.verify(content, mark, publisher, str(file))
        except SignatureError as error:
            failures.append(error)
            continue
        return name
    raise SignatureError("\n  ".join(error.message for error in failures))


def _damage(folder: Path) -> list[str]:
    """Returns a line for each file in the manifest of ``folder`` that is missing or differs; reads all files."""
    lines = []
    for entry in manifest.read(folder / "manifest.toml"):
        try:
            sha256 = storage.sha256_of(folder / entry.path)
        except OSError as error:
            lines.append(f"{entry.path} cannot be read: {error.strerror or error}")
            continue
        if entry.sha256 and sha256 != entry.sha256:
            lines.append(f"{entry.path} has sha256 {sha256}, expected {entry.sha256}")
    return lines


def _manifest(path: Path) -> Path:
    file = path / "manifest.toml" if path.is_dir() else path
    if not file.is_file():
        raise SignatureError(
            f"{path} holds no manifest.toml.", hint=f"zoo publish RUN --as NAME --to {path} writes one."
        )
    return file

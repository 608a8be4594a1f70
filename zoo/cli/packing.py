"""``zoo pack``, ``zoo sign``, ``zoo verify-signature``: weights for elsewhere, and whose word they are."""

from pathlib import Path

import click

from zoo import hub, registry
from zoo.cli.options import complete_name, json_option
from zoo.cli.output import echo, note, print_json, show_progress, size
from zoo.creation import chosen_weights
from zoo.errors import IntegrityError, SignatureError
from zoo.manifest import Weights
from zoo.trust import packing, policy, project, signing
from zoo.trust.signing import Publisher

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_name)
@click.option("-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="The folder.")
@click.option("--key", type=_FILE, help="Sign it with this private key (PEM).")
@json_option
def pack(names: tuple[str, ...], output: Path, key: Path | None, as_json: bool) -> None:
    """Make a folder that serves weights to a machine without a network.

    It holds their files and a manifest with sha256, scores and probes. There,
    ZOO_HUB=FOLDER zoo fetch NAME takes them from it. What the folder holds already stays.
    """
    found = [registry.load().find(name) for name in names]
    chosen = [_fetched(chosen_weights(one)) for one in found]
    file = packing.pack(chosen, output)
    signature = signing.sign(file, key) if key else None
    is_stale = signature is None and signing.signature_of(file).exists()
    if as_json:
        files = [{"weights": entry.name, "file": output / entry.path, "sha256": entry.sha256} for entry, _ in chosen]
        return print_json({"folder": output, "manifest": file, "signature": signature, "files": files})
    for entry, source in chosen:
        echo(f"{entry.name}: {output / entry.path}, {size(source.stat().st_size)}")
    if is_stale:
        note(f"The signature in {output} is that of an earlier manifest: zoo sign {output} --key FILE")
    note(f"ZOO_HUB={output} zoo fetch {names[0]}")
    return None


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--key", type=_FILE, help="The private key (PEM); ZOO_KEY_PASSWORD opens an encrypted one.")
@click.option("--keyless", is_flag=True, help="As who Sigstore's OpenID issuer says you are; needs the network.")
@json_option
def sign(path: Path, key: Path | None, keyless: bool, as_json: bool) -> None:
    """Sign a manifest, and with it the bytes of every file it names.

    PATH is the manifest or a folder that zoo pack made. The signature is written beside it, and
    model_signing verify reads it too.
    """
    if (key is None) != keyless:
        raise click.UsageError("Say with what to sign: --key FILE, or --keyless.")
    file = _manifest(path)
    signature = signing.sign(file, key)
    if as_json:
        return print_json({"file": file, "signature": signature})
    return echo(signature)


@click.command("verify-signature")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--key", type=_FILE, help="The public key (PEM).")
@click.option("--identity", default="", help="Who must have signed without a key: an e-mail address, a workflow.")
@click.option("--issuer", default="", help="The OpenID issuer that vouches for the identity.")
@click.option("--trust-root", type=_FILE, help="Sigstore's trust configuration, to check an identity offline.")
@json_option
def verify_signature(
    path: Path, key: Path | None, identity: str, issuer: str, trust_root: Path | None, as_json: bool
) -> None:
    """Check who signed a manifest, and of a packed folder every file.

    Without a key or an identity, any publisher of the project's policy will do.
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
        raise SignatureError(f"{file} is not signed: there is no {signature}.", hint=f"zoo sign {path} --key FILE")
    by = _signer(file, signature, publishers)
    broken = packing.damage(path) if path.is_dir() else []
    if broken:
        lines = [f"{one.path} {one.reason}" for one in broken]
        raise IntegrityError("\n  ".join([f"{path} is not what was signed:", *lines]))
    if as_json:
        return print_json({"file": file, "signature": signature, "publisher": by, "files_checked": path.is_dir()})
    files = ", and every file it names has its sha256" if path.is_dir() else ""
    return echo(f"{file}: signed by {by or identity or key}{files}")


def _publishers() -> dict[str, Publisher]:
    """Those of the project's policy."""
    file = project.find(policy.NAME, policy.VARIABLE)
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


def _manifest(path: Path) -> Path:
    file = packing.manifest_in(path) if path.is_dir() else path
    if not file.is_file():
        raise SignatureError(f"{path} holds no manifest.toml.", hint=f"zoo pack NAME... -o {path} makes one.")
    return file


def _fetched(entry: Weights) -> tuple[Weights, Path]:
    with show_progress(entry.name, bytes=True) as progress:
        return entry, hub.fetch(entry, progress=progress)

"""``zoo lock`` for those who use weights, ``zoo manifest`` for those who publish them: pins and signatures."""

from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from zoo import manifest, registry
from zoo.cli import options
from zoo.cli.group import Commands
from zoo.cli.output import do_each, echo, note, print_json, print_table, show_progress, size
from zoo.errors import IntegrityError, SignatureError, UnknownNameError
from zoo.loading import resolve
from zoo.manifest import Weights
from zoo.registry import Found
from zoo.system import storage
from zoo.trust import first_use, pinning, policy, releases, signing
from zoo.trust import lock as locks
from zoo.trust.signing import Publisher

_SECTIONS = {
    "Commands:": {
        "pin": "zoo.cli.trust:pin",
        "probe": "zoo.cli.verify:probe",
        "sign": "zoo.cli.trust:sign",
        "verify-signature": "zoo.cli.trust:verify_signature",
    }
}


@click.group(
    "manifest", cls=Commands, sections=_SECTIONS, epilog="Example: zoo manifest pin resnet20.mine --manifest mine.toml"
)
def manifest_commands() -> None:
    """Maintain a manifest: pin, probe and sign its weights."""


@click.command(epilog="Example: zoo lock resnet20.digits")
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=options.complete_name)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if the lock differs from what is installed.")
@click.option("--user", is_flag=True, help="List your own pins: the names that were pinned on first use.")
@click.option("--forget", is_flag=True, help="With --user: remove NAME, so that its next use pins it anew.")
@options.json
@click.pass_context
def lock(context: click.Context, names: tuple[str, ...], check: bool, user: bool, forget: bool, as_json: bool) -> None:
    """Lock names to their bytes in zoo.lock.

    NAME may be a pattern such as 'resnet20.*'; without NAME, updates the names in the lock. NAME without a tag also
    locks which weights are its default. In a folder with a lock, fetch and create follow it. Names that were pinned on
    first use are locked to those bytes.
    """
    if user or forget:
        if check or not user or bool(names) != forget:
            raise click.UsageError(
                "zoo lock --user lists your own pins; zoo lock --user --forget NAME... removes names."
            )
        return _forget(names, as_json) if forget else _list(as_json)
    file = locks.place()
    old = locks.read(file) if file.exists() or check else locks.EMPTY
    if check:
        if names:
            raise click.UsageError("--check compares the whole lock; leave the names out.")
        return _report(context, file, old, as_json)
    if not names and not old.weights:
        raise click.UsageError(f"{file} holds no names yet: zoo lock NAME...")
    new = locks.make(map(_chosen, options.expand(names) or locks.names_in(old)), old)
    storage.replace(file, locks.render(new).encode())
    changed = [name for name, entry in new.weights.items() if old.weights.get(name) != entry]
    if as_json:
        return print_json({"lock": file, "changed": changed, "weights": new.weights, "defaults": new.defaults})
    for name in changed:
        entry, before = new.weights[name], old.weights.get(name)
        was = f" (was {before.sha256[:8]} of {before.distribution} {before.version})" if before else ""
        echo(f"{name}: {entry.sha256[:8]} of {entry.distribution} {entry.version}{was}")
    note(f"{file}: names: {len(new.weights)}, changed: {len(changed)}")
    return None


def _report(context: click.Context, file: Path, locked: locks.Lock, as_json: bool) -> None:
    differences = locks.differences(locked, resolve.find)
    if as_json:
        print_json({"lock": file, "ok": not differences, "differences": [line._asdict() for line in differences]})
    else:
        for line in differences:
            echo(str(line))
        note(f"{file}: names: {len(locked.weights)}, differences: {len(differences)}")
    context.exit(1 if differences else 0)


def _list(as_json: bool) -> None:
    pins = first_use.pins()
    if as_json:
        return print_json({"lock": first_use.place(), "weights": pins})
    rows = [
        (name, pin.sha256[:8], pin.revision[:7], size(pin.size), str(pin.date or ""), pin.source)
        for name, pin in pins.items()
    ]
    if rows:
        print_table(("weights", "sha256", "commit", "size", "pinned", "source"), rows, right=("size",))
    return note(f"{first_use.place()}: names: {len(pins)}")


def _forget(names: tuple[str, ...], as_json: bool) -> None:
    pins = first_use.pins()
    forgotten: list[str] = []
    for name in names:
        matching = [pinned for pinned in pins if fnmatchcase(pinned, name)]
        if not matching and options.is_pattern(name):
            raise UnknownNameError(f"You pinned no name that matches {name!r}.", hint="zoo lock --user lists it.")
        forgotten += matching or [_full_name(name)]
    first_use.forget(forgotten)
    if as_json:
        return print_json({"lock": first_use.place(), "forgotten": forgotten})
    for name in forgotten:
        echo(f"{name}: forgotten, was sha256 {pins[name].sha256[:8]}")
    return None


def _full_name(name: str) -> str:
    """Returns the name that a lock has for ``name``; unchanged if no installed plugin has it any more."""
    try:
        found = resolve.find(name)
    except UnknownNameError:
        return name
    return locks.full_name(found, found.weights.tag if found.weights else "")


def _chosen(name: str) -> tuple[Found, Weights]:
    found = resolve.find(name)
    chosen = found.weights or resolve.default_weights(found)
    held = first_use.follow(found, chosen)
    policy.check(found, chosen)
    return found, held


@click.command(epilog="Example: zoo manifest pin resnet20.mine --manifest mine.toml")
@click.argument(
    "names", nargs=-1, metavar="[NAME]...", shell_complete=options.complete_name, callback=options.refuse_pattern
)
@click.option(
    "--manifest", "file", type=click.Path(dir_okay=False, path_type=Path), help="Pin the entries of this manifest."
)
@click.option("--download", is_flag=True, help="Download and hash files whose hub does not report a sha256.")
@options.json
@click.pass_context
def pin(context: click.Context, names: tuple[str, ...], file: Path | None, download: bool, as_json: bool) -> None:
    """Record the commit, size and sha256 of weights.

    Asks the hubs and writes into manifests. Without NAME, pins every unpinned entry of the given manifest, or of the
    installed plugins' manifests.
    """

    def work(name: str) -> dict[str, Any]:
        entry, place = _entry_and_manifest(name, file)
        if pinning.is_complete(entry):
            pinned = entry
        else:
            with show_progress(name, bytes=True) as progress:
                pinned = pinning.resolve(entry, download=download, progress=progress)
            if pinned != entry:
                pinning.write(pinned, place)
        if not as_json:
            echo(f"{name}: {_summary(entry, pinned)}")
        return {
            "weights": pinned.name,
            "manifest": place,
            "pinned": pinned.pinned,
            "changed": pinned != entry,
            "revision": pinned.revision,
            "sha256": pinned.sha256,
            "sha256_prefix": pinned.sha256_prefix,
            "size": pinned.size,
        }

    names = names or _unpinned(file)
    if not names:
        note("Every entry is pinned.")
    done, failed, code = do_each(names, work)
    registry.clear()
    if as_json:
        rows = [{"name": name, "ok": True, **row} for name, row in done.items()]
        print_json(rows + [{"name": name, "ok": False, "error": reason} for name, reason in failed.items()])
    elif failed:
        note(f"{len(failed)} of {len(done) + len(failed)} failed: {', '.join(failed)}")
    context.exit(code)


def _entry_and_manifest(name: str, file: Path | None) -> tuple[Weights, Path]:
    """Returns the entry that ``name`` means, and the manifest to write it into."""
    if file is not None and file.exists():
        for entry in manifest.read(file):
            if name == entry.name:
                return entry, file
    match = registry.current().find(name)
    if match.weights is None:
        tagged = [entry.name for entry in registry.current().weights_of(match.row, match.model)]
        raise UnknownNameError(f"{name} names no weights.", hint=f"Say which: {', '.join(tagged) or 'it has none'}.")
    return match.weights, file or pinning.manifest_of(match)


def _unpinned(file: Path | None) -> tuple[str, ...]:
    if file is not None:
        return tuple(entry.name for entry in manifest.read(file) if not entry.sha256)
    listed = registry.current().models()
    return tuple(f"{entry.name}.{one.tag}" for entry in listed for one in entry.weights if not one.sha256)


def _summary(before: Weights, after: Weights) -> str:
    if before == after and after.pinned:
        return f"already pinned, sha256 {after.sha256[:8]}"
    if after.pinned:
        at = f" at {after.revision[:8]}" if after.revision else ""
        return f"pinned, sha256 {after.sha256[:8]}, {size(after.size)}{at}"
    return f"not pinned: {size(after.size)}, sha256 {after.sha256_prefix or 'unknown'}...; --download hashes the file"


_path_argument = click.argument("path", type=click.Path(exists=True, path_type=Path))


@click.command(epilog="Example: zoo manifest sign manifest.toml --key lab.pem")
@_path_argument
@click.option("--key", type=options.FILE, help="Private key (PEM); ZOO_KEY_PASSWORD decrypts it.")
@click.option("--keyless", is_flag=True, help="Sign with your OpenID identity through Sigstore; needs the network.")
@click.option("--release", "number", type=click.IntRange(1), help="Write this number first: an older one is refused.")
@click.option("--expires", type=click.DateTime(["%Y-%m-%d"]), help="With --release: the last day that is accepted.")
@options.json
def sign(
    path: Path, key: Path | None, keyless: bool, number: int | None, expires: datetime | None, as_json: bool
) -> None:
    """Sign a manifest and the hashes in it.

    PATH is the manifest or the folder of a hub. The signature is written beside it; model_signing verify also reads it.
    """
    if (key is None) != keyless:
        raise click.UsageError("Choose how to sign: --key FILE, or --keyless.")
    if expires and number is None:
        raise click.UsageError("--expires belongs to a release: --release NUMBER.")
    file = _manifest_file(path)
    if number is not None:
        releases.write(file, number, expires.date() if expires else None)
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
    fields = {"key": str(key or ""), "identity": identity, "issuer": issuer, "trust_root": str(trust_root or "")}
    publishers = _publishers() if not any(fields.values()) else {}
    if not publishers:
        try:
            publishers = {"": Publisher(**fields)}
        except ValueError as error:
            raise click.UsageError(f"{error}: --key FILE, or --identity WHO --issuer URL.") from None
    file = _manifest_file(path)
    signature = signing.signature_of(file)
    if not signature.exists():
        raise SignatureError(
            f"{file} is not signed: there is no {signature}.", hint=f"zoo manifest sign {path} --key FILE"
        )
    by = _signer(file, signature, publishers)
    if reason := releases.refusal(publishers[by], signing.read(file).decode(), str(file), is_used=False):
        raise SignatureError(f"{reason}.")
    if damaged := _damage(path) if path.is_dir() else []:
        raise IntegrityError("\n  ".join([f"{path} differs from what was signed:", *damaged]))
    if as_json:
        return print_json({"file": file, "signature": signature, "publisher": by, "files_checked": path.is_dir()})
    files = ", and every file it names has its sha256" if path.is_dir() else ""
    return echo(f"{file}: signed by {by or identity or key}{files}")


def _publishers() -> dict[str, Publisher]:
    """Returns the publishers of the project's policy."""
    file = storage.project_file(policy.NAME, policy.VARIABLE)
    stated = policy.read(file).publishers if file else {}
    return {name: publisher.beside(file.parent) for name, publisher in stated.items()} if file else {}


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


def _manifest_file(path: Path) -> Path:
    file = path / "manifest.toml" if path.is_dir() else path
    if not file.is_file():
        raise SignatureError(
            f"{path} holds no manifest.toml.", hint=f"zoo publish RUN --as NAME --to {path} writes one."
        )
    return file

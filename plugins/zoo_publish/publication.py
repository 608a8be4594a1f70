"""Publishes a run or a weights file on a hub."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from zoo import manifest
from zoo.errors import HubError, IntegrityError, ManifestError, SpecError
from zoo.hub import require_network
from zoo.manifest import License, Weights, writing
from zoo.system import storage

if TYPE_CHECKING:
    from zoo_publish.destination import Destination
    from zoo_publish.release import Release

DTYPES = ("float16", "bfloat16")


class PublishedFile(msgspec.Struct, frozen=True):
    path: str
    size: int
    sha256: str


class Publication(msgspec.Struct, frozen=True):
    """A release, or with a dry run its preview; ``is_new`` is False if the same bytes were already there."""

    weights: str
    to: str
    revision: str
    is_new: bool
    is_dry_run: bool
    files: list[PublishedFile]
    entry: str
    card: str
    notes: list[str]


def publish(
    source: str | Path,
    name: str,
    to: str,
    *,
    evaluate_on: tuple[tuple[str, str], ...] = (),
    license: Mapping[str, str] | None = None,
    dtype: str | None = None,
    private: bool = False,
    manifest_file: Path | None = None,
    is_dry_run: bool = False,
    version: str | None = None,
    allow_uncommitted: bool = False,
    outputs: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Publication:
    """Publishes ``source``, a run's directory or a safetensors file that describes itself, as ``arch.tag``.

    Of a folder with trainings of several seeds, the median one is published: by its score on the images that it held
    out, or the first if none held out images. Its scores state the spread of all. ``outputs`` is a
    folder for what the networks compute: ``NAME.safetensors``, or ``NAME/seedN.safetensors`` of each training.

    ``to`` is a directory, ``s3://...`` or what else fsspec writes, ``hf://owner/repo``, ``embedded:package/folder``, or
    ``wheel`` (``wheel:folder``): the file of a distribution of the release ``version`` (1.0), for a package index.
    ``evaluate_on`` holds (data set, split) pairs to be scored on now; other scores are the run's own, on images it held
    out. ``license`` says what holds for ``code``, ``weights`` and ``data``. ``dtype`` stores tensors of more than one
    dimension in half precision. The entry goes into ``manifest_file``, with a directory relative to it, if it can be,
    and into the ``manifest.toml`` of a directory. ``is_dry_run`` does everything but write and ask.

    Raises :class:`HubError` if the name is in use for other bytes, because a tag always means the same file, and
    :class:`TrainingError` if the record of a run lacks its command or commit, or its code was not committed: with
    ``allow_uncommitted`` it is published all the same, and its card says so.
    """
    from zoo_publish import destination, release, wheel

    if unknown := set(license or {}) - set(License.__struct_fields__):
        raise SpecError(f"license has {', '.join(unknown)}, expected {', '.join(License.__struct_fields__)}.")
    if dtype not in (None, *DTYPES):
        raise SpecError(f"dtype is {dtype!r}, expected {' or '.join(DTYPES)}, or none.")
    place: Destination
    if wheel.is_wheel(to):
        place = wheel.at(to, name, wheel.VERSION if version is None else version)
        _require_for_wheel(license or {}, manifest_file)
    elif version is not None:
        raise SpecError("Only a wheel has a version.", hint="Use it with --to wheel.")
    else:
        place = destination.parse(to, name, private=private)
    if not (place.is_local or is_dry_run):
        require_network(f"Cannot publish to {place.name}")
    with tempfile.TemporaryDirectory(prefix="zoo-publish-") as folder:
        made = release.prepare(
            Path(source),
            name,
            Path(folder),
            place,
            license=license or {},
            evaluate_on=evaluate_on,
            dtype=dtype,
            allow_uncommitted=allow_uncommitted,
            outputs=outputs,
            progress=progress,
        )
        entry, present = made.entry, None if is_dry_run else place.held()
        if present is not None and present.sha256 != entry.sha256:
            raise HubError(
                f"{place.name} already holds other weights as {entry.path}: sha256 {present.sha256}, these have "
                f"{entry.sha256}. Nothing was changed, because a tag always means the same file.",
                hint="Publish them under another tag: --as ARCH.TAG, and in another repository on Hugging Face.",
            )
        notes = list(made.notes)
        manifests = {} if manifest_file is None else {manifest_file: entry.hub}
        if manifest_file is not None and isinstance(place, destination.Directory):
            manifests[manifest_file] = _seen_from(manifest_file, place.hub)
            if Path(manifests[manifest_file]).is_absolute():
                notes.append(
                    f"The entry's hub is a folder of this machine, {place.hub}: nobody else can fetch from it. Use "
                    f"--to with a folder below {manifest_file.absolute().parent}, or a hub that others reach."
                )
        written = manifests.get(manifest_file, entry.hub) if manifest_file is not None else entry.hub
        if isinstance(place, destination.Directory):
            beside = Path(place.hub, "manifest.toml")
            if manifest_file is None or beside.resolve() != manifest_file.resolve():
                # Found there as in any mirror: the address of the directory is nothing that its files need.
                manifests[beside] = "hf"
        for file in manifests:
            entry = _joined(entry, file)
        if not is_dry_run:
            is_there = present is not None and not wheel.is_wheel(to)  # whose other files are part of the same file
            revision = present.revision if present and is_there else _put(place, made.weights, made.files, entry)
            entry = msgspec.structs.replace(entry, revision=revision)
            for file, hub in manifests.items():
                with storage.alone(file):  # another process may have published since
                    _enter(file, msgspec.structs.replace(_joined(entry, file), hub=hub))
        return Publication(
            weights=entry.name,
            to=place.name,
            revision=entry.revision,
            is_new=present is None,
            is_dry_run=is_dry_run,
            files=_listed(place.file, made),
            entry=manifest.render(msgspec.structs.replace(entry, hub=written)),
            card=made.card,
            notes=notes,
        )


def _require_for_wheel(license: Mapping[str, str], manifest_file: Path | None) -> None:
    if manifest_file is not None:
        raise SpecError("A wheel holds its own manifest.", hint="Leave out --manifest; pip install makes it known.")
    if license.get("weights", "unknown") == "unknown":
        raise SpecError(
            "A distribution states the licence of its weights, and theirs is unknown.",
            hint="Add --license weights=Apache-2.0, or what holds for them.",
        )


def _seen_from(file: Path, folder: str) -> str:
    """Returns ``folder`` relative to the manifest ``file``, ``./hub``, if it is below it; else as it is."""
    try:
        below = Path(folder).resolve().relative_to(file.resolve().parent).as_posix()
    except ValueError:
        return folder
    return "." if below == "." else f"./{below}"


def _joined(entry: Weights, file: Path) -> Weights:
    """Returns ``entry``, completed by the fields of the manifest ``file`` for the same bytes."""
    old = next((other for other in manifest.read(file) if other.name == entry.name), None) if file.exists() else None
    if old is None:
        return entry
    if old.sha256 != entry.sha256:
        raise ManifestError(
            f"{file} has an entry {entry.name} of other bytes: sha256 {old.sha256 or 'not known'}, these have "
            f"{entry.sha256}. Nothing was published, because a tag always means the same file.",
            hint="Publish them under another tag: --as ARCH.TAG.",
        )
    stated = {key: value for key, value in msgspec.structs.asdict(entry.license).items() if value != "unknown"}
    changes: dict[str, Any] = {name: getattr(entry, name) for name in ("repo", "file", "hub", "size")}
    if old.probe is None or old.probe.image is None:
        changes["probe"] = entry.probe
    changes["license"] = msgspec.structs.replace(old.license, **stated)
    return msgspec.structs.replace(old, scores={**old.scores, **entry.scores}, **changes)


def _put(place: "Destination", weights: Path, files: dict[str, bytes], entry: Weights) -> str:
    """Returns the commit of the published file, after checking that it is there."""
    revision = place.put(weights, files, f"{entry.name}: sha256 {entry.sha256}")
    present = place.held()
    if present is None or present.sha256 != entry.sha256:
        got = present.sha256 if present else "nothing"
        raise IntegrityError(f"{place.name} holds {got} after {entry.sha256} was published there.")
    return revision


def _enter(file: Path, entry: Weights) -> None:
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    storage.replace(file, writing.with_entry(text, entry, str(file)).encode())


def _listed(file: str, made: "Release") -> list[PublishedFile]:
    from hashlib import sha256

    rows = [PublishedFile(path, len(content), sha256(content).hexdigest()) for path, content in made.files.items()]
    return [PublishedFile(file, made.entry.size, made.entry.sha256), *rows]


__all__ = ["DTYPES", "Publication", "PublishedFile", "publish"]

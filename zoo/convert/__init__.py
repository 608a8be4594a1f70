"""Another lineage's checkpoint to this family's safetensors: strict, with a report.

The only place that reads pickles, with torch's ``weights_only`` unpickler, and keeps nothing but
the tensors. Keras's and ONNX's files are read by their own libraries, of which no code is run either.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from torch import Tensor

from zoo import arguments, counting, load, manifest, manifest_text, names, probe, registry, storage, tensorfile
from zoo.convert import download, readers
from zoo.convert.download import Source
from zoo.convert.fitting import Fitted, fit
from zoo.errors import FileFormatError, IntegrityError, WeightsError
from zoo.manifest import Weights
from zoo.registry import Found
from zoo.spec import KeyMap, Preprocess

if TYPE_CHECKING:
    from zoo.hub.transfer import Progress


class ConversionReport(msgspec.Struct, frozen=True):
    """What became of every tensor, and the manifest entry (TOML) of the file that was written."""

    model: str
    weights: str
    file: str
    sha256: str
    size: int
    key_map: str
    renamed: list[tuple[str, str]]
    transposed: list[str]
    reshaped: list[str]
    folded: list[str]
    added: list[str]
    dropped: list[str]
    entry: str


_HEADER = "# Written by zoo convert: the weights that this folder, used as a hub, adds.\n"


def convert(
    source: str | Path,
    name: str,
    out: Path,
    *,
    key_map: str | None = None,
    sha256: str = "",
    progress: "Progress | None" = None,
) -> ConversionReport:
    """Writes the tensors of ``source`` as weights of the model ``name`` to ``out``.

    ``source`` is a file, or its ``https://`` address: torch's ``.pth``, ``.pt``, ``.th``, safetensors,
    Keras's ``.h5``, ``.onnx``. What lies at an address must have the ``sha256``, whole or its first digits,
    that is given or that its name ends in. The family's key maps are tried in turn unless ``key_map`` names
    one; every tensor must then fit. A tag in ``name``, or in the name of ``out``
    (``arch.tag.safetensors``), names the weights. ``manifest.toml`` beside ``out`` gets their entry, so that
    the folder is a hub: ``ZOO_HUB=FOLDER zoo evaluate arch.tag``.
    """
    if out.suffix != ".safetensors":
        raise WeightsError(f"{out}: converted weights are safetensors.", hint="Give -o NAME.safetensors.")
    parsed = names.parse(name)
    found = registry.load().find(str(parsed._replace(tag="")))
    if isinstance(source, str) and download.is_address(source):
        place = download.fetch(source, sha256=sha256, progress=progress)
    else:
        place = Source(Path(source), Path(source).name)
    checkpoint = readers.read(place.path, Path(place.name).suffix)
    about = checkpoint.about
    args = arguments.of_file(found.model, about.get("args", {}), place.name)
    fitted = fit(checkpoint.tensors, found, key_map, args, place.name)
    _check_finite(fitted.tensors, place.name)
    about = {**_describe(fitted, found), "origin": _origin(place, fitted.key_map, sha256), **about}
    digest = tensorfile.write(fitted.tensors, out, about)
    tag = parsed.tag or _tag_of(out, found.model.name) or names.as_part(fitted.key_map.name)
    entry = _enter(out, found, tag, digest, about)
    return ConversionReport(
        model=found.model.name,
        weights=entry.name,
        file=str(out),
        sha256=digest,
        size=out.stat().st_size,
        key_map=fitted.key_map.name,
        renamed=fitted.renamed,
        transposed=fitted.transposed,
        reshaped=fitted.reshaped,
        folded=fitted.folded,
        added=fitted.added,
        dropped=[*checkpoint.dropped, *fitted.dropped],
        entry=manifest.render(entry),
    )


def _check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    bad = [key for key, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if bad:
        raise FileFormatError(f"{source}: {len(bad)} tensors hold what is no number: {', '.join(bad[:5])}.")


def _describe(fitted: Fitted, found: Found) -> dict[str, Any]:
    model, key_map = found.model, fitted.key_map
    channels = load.channels_in(fitted.tensors, model.stem) or model.preprocess.input_size[0]
    preprocess: dict[str, Any] = msgspec.to_builtins(load.for_channels(model.preprocess, channels))
    return {
        "model": model.name,
        "args": dict(key_map.args),
        "preprocess": {**preprocess, **key_map.preprocess},
        "classes": key_map.classes,
        "num_classes": load.classes_in(fitted.tensors, model.head) or model.num_classes,
        "in_chans": channels,
    }


def _origin(place: Source, key_map: KeyMap, sha256: str) -> str:
    with place.path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if sha256 and not digest.startswith(sha256.lower()):
        raise IntegrityError(f"{place.name} has sha256 {digest}, expected {sha256}.")
    at = f" at {place.address}" if place.address else ""
    return f"converted from {place.name}{at} (sha256 {digest}), key map {key_map.name}. {key_map.origin}".strip()


def _tag_of(out: Path, arch: str) -> str:
    arch = arch.rpartition("/")[2]
    tag = out.name.removesuffix(".safetensors").removeprefix(f"{arch}.")
    return tag if out.name.startswith(f"{arch}.") and names.is_part(tag) else ""


def _enter(out: Path, found: Found, tag: str, sha256: str, about: Mapping[str, Any]) -> Weights:
    """Writes the entry of ``out`` into the manifest beside it, with a probe of the loaded network."""
    module, info = load.build_from(out, found.model)
    entry = Weights(
        file=out.name,
        arch=found.model.name,
        tag=tag,
        sha256=sha256,
        size=out.stat().st_size,
        origin=str(about["origin"]),
        classes=info.classes,
        num_classes=about["num_classes"],
        **counting.differing(module, found.model, info.preprocess.input_size),
        preprocess=msgspec.convert(about["preprocess"], Preprocess),
        args=about["args"],
        probe=probe.take(module, info.preprocess),
    )
    file = out.parent / "manifest.toml"
    text = file.read_text(encoding="utf-8") if file.exists() else _HEADER
    storage.replace(file, manifest_text.with_entry(text, entry, str(file)).encode())
    return entry

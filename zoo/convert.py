"""Another lineage's checkpoint to this family's safetensors: strict, with a report.

The only place that reads pickles, with torch's ``weights_only`` unpickler, and keeps nothing but
the tensors.
"""

import hashlib
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from zoo import load, manifest, names, probe, registry, tensorfile
from zoo.errors import FileFormatError, PluginError, TensorMismatchError, UnknownNameError, WeightsError
from zoo.manifest import Weights
from zoo.registry import Found
from zoo.spec import KeyMap, Preprocess

_AS_IS = KeyMap("as it is")


class ConversionReport(msgspec.Struct, frozen=True):
    """What became of every tensor, and the manifest entry (TOML) of the file that was written."""

    model: str
    weights: str
    file: str
    sha256: str
    size: int
    key_map: str
    renamed: list[tuple[str, str]]
    reshaped: list[str]
    added: list[str]
    dropped: list[str]
    entry: str


class _Fitted(msgspec.Struct):
    key_map: KeyMap
    tensors: dict[str, Tensor]
    renamed: list[tuple[str, str]]
    reshaped: list[str]
    added: list[str]
    dropped: list[str]
    problem: TensorMismatchError | None = None


def convert(file: Path, name: str, out: Path, *, key_map: str | None = None) -> ConversionReport:
    """Writes the tensors of ``file`` as weights of the model ``name`` to ``out``.

    ``file`` is a ``.pth``, ``.pt``, ``.th`` or safetensors file. The family's key maps are tried in
    turn unless ``key_map`` names one; every tensor must then fit. A tag in ``name``, or in the name
    of ``out`` (``arch.tag.safetensors``), names the weights. ``manifest.toml`` beside ``out`` gets
    their entry, so that the folder is a hub: ``ZOO_HUB=FOLDER zoo evaluate arch.tag``.
    """
    if out.suffix != ".safetensors":
        raise WeightsError(f"{out}: converted weights are safetensors.", hint="Give -o NAME.safetensors.")
    parsed = names.parse(name)
    found = registry.load().find(str(parsed._replace(tag="")))
    state, about = _read(file)
    fitted = _fit(state, found, key_map, about.get("args", {}), file)
    about = {**_describe(fitted, found), "origin": _origin(file, fitted.key_map), **about}
    sha256 = tensorfile.write(fitted.tensors, out, about)
    tag = parsed.tag or _tag_of(out, found.model.name) or names.as_part(fitted.key_map.name)
    entry = _enter(out, found, tag, sha256, about)
    return ConversionReport(
        model=found.model.name,
        weights=entry.name,
        file=str(out),
        sha256=sha256,
        size=out.stat().st_size,
        key_map=fitted.key_map.name,
        renamed=fitted.renamed,
        reshaped=fitted.reshaped,
        added=fitted.added,
        dropped=fitted.dropped,
        entry=manifest.render(entry),
    )


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a checkpoint, and what it says of itself."""
    if file.suffix == ".safetensors":
        return tensorfile.read(file), tensorfile.metadata(file)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # which it then reads, or refuses
            content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # on hostile bytes torch's unpickler raises whatever its stack runs into
        reason = str(error).partition("\n")[0]
        raise FileFormatError(f"{file}: not a checkpoint that can be read without running code: {reason}") from None
    for wrapper in ("state_dict", "model", "net"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise FileFormatError(f"{file}: expected a mapping of names to tensors (a state dict), whole or as state_dict.")
    return dict(content), {}


def _fit(state: dict[str, Tensor], found: Found, wanted: str | None, args: Mapping[str, Any], file: Path) -> _Fitted:
    """The state under the key map that accounts for every tensor."""
    maps = {known.name: known for known in (_AS_IS, *found.plugin.key_maps)}
    if wanted is not None and wanted not in maps:
        raise UnknownNameError.of("key map", wanted, maps, hint=f"{found.plugin.name} has {', '.join(maps)}.")
    tried = [_apply(key_map, state, found, args, file) for key_map in maps.values() if wanted in (None, key_map.name)]
    for fitted in tried:
        if fitted.problem is None:
            return fitted
    nearest = min(tried, key=lambda fitted: str(fitted.problem).count("\n"))
    assert nearest.problem is not None
    raise TensorMismatchError(
        f"No key map of {found.plugin.name} ({', '.join(maps)}) fits; the nearest is {nearest.key_map.name!r}.\n"
        + nearest.problem.message
    )


def _apply(key_map: KeyMap, state: dict[str, Tensor], found: Found, args: Mapping[str, Any], file: Path) -> _Fitted:
    fitted = _Fitted(key_map, {}, [], [], [], [])
    for old, tensor in state.items():
        if any(re.search(pattern, old) for pattern in key_map.drop):
            fitted.dropped.append(old)
            continue
        new = old
        for pattern, replacement in key_map.rename:
            new = re.sub(pattern, replacement, new)
        if new in fitted.tensors:
            fitted.problem = TensorMismatchError(f"{old} and another tensor both become {new}")
            return fitted
        if new != old:
            fitted.renamed.append((old, new))
        fitted.tensors[new] = tensor
    model = found.model
    classes = load.classes_in(fitted.tensors, model.head) or model.num_classes
    channels = load.channels_in(fitted.tensors, model.stem) or model.preprocess.input_size[0]
    try:
        with torch.device("meta"):
            module, _ = load.build(model, num_classes=classes, in_chans=channels, **{**key_map.args, **args})
        fitted.tensors = load.translate(model, module, fitted.tensors, file)
        for key, expected in module.state_dict().items():
            _complete(fitted, key, expected)
        load.check(module, fitted.tensors, file)
    except TensorMismatchError as error:
        fitted.problem = error
    except PluginError as error:  # another network of the family, which does not know the map's arguments
        fitted.problem = TensorMismatchError(f"{model.name} cannot be built as {key_map.name} needs it: {error}")
    return fitted


def _complete(fitted: _Fitted, key: str, expected: Tensor) -> None:
    """Supplies a counter that old files lack; gives a linear layer's weights the form of a convolution's."""
    tensor = fitted.tensors.get(key)
    if tensor is None and key.endswith(".num_batches_tracked"):
        fitted.tensors[key] = torch.zeros((), dtype=torch.int64)
        fitted.added.append(key)
    elif tensor is not None and _is_flattened(tensor.shape, expected.shape):
        fitted.tensors[key] = tensor.reshape(expected.shape)
        fitted.reshaped.append(f"{key} {tuple(tensor.shape)} -> {tuple(expected.shape)}")


def _is_flattened(got: torch.Size, expected: torch.Size) -> bool:
    """Whether one is O I and the other the same O I H W with the inputs unrolled."""
    return {len(got), len(expected)} == {2, 4} and got[0] == expected[0] and got.numel() == expected.numel()


def _describe(fitted: _Fitted, found: Found) -> dict[str, Any]:
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


def _origin(file: Path, key_map: KeyMap) -> str:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return f"converted from {file.name} (sha256 {digest}), key map {key_map.name}. {key_map.origin}".strip()


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
        preprocess=msgspec.convert(about["preprocess"], Preprocess),
        args=about["args"],
        probe=probe.take(module, info.preprocess),
    )
    file = out.parent / "manifest.toml"
    others = [other for other in manifest.read(file) if other.name != entry.name] if file.exists() else []
    text = "# Written by zoo convert: the weights that this folder, used as a hub, adds.\n\n"
    part = file.with_name(".manifest.toml.part")
    part.write_text(text + "\n".join(map(manifest.render, [*others, entry])), encoding="utf-8")
    os.replace(part, file)
    return entry

"""Reads the tensors of a checkpoint in any format, without running code; ONNX by :mod:`zoo_convert.onnx`.

torch: people save more than a state dict, under many names; of several the averaged weights are taken, as timm does,
whose scores are theirs.

Keras's weights in HDF5 have two formats, the legacy one (``layer_names``, ``weight_names``) and ``.weights.h5``. A
tensor is named ``<layer>.<variable>``: kernel, bias, gamma, beta, moving_mean, moving_variance, as Keras calls them.
Tensors are not changed; key maps declare what is transposed.

The memory of a checkpoint is limited, since a small file can describe tensors of any size.
"""

import argparse
import re
import tempfile
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import safetensors.torch
import torch
from torch import Tensor

from zoo.errors import FileFormatError, MissingExtraError, UnknownNameError, WeightsError
from zoo.loading import safetensors_file
from zoo.system import process, sandbox, storage
from zoo.system.switch import limit


class Checkpoint(msgspec.Struct):
    """``about`` is the file's own metadata; ``dropped`` names its tensors that are not part of a network.

    ``unwrapped`` says within what the tensors lay, and what else was there.
    """

    tensors: dict[str, Tensor]
    about: dict[str, Any] = {}
    dropped: list[str] = []
    unwrapped: list[str] = []
    graph: Any = None
    """The ``onnx.ModelProto`` of an ONNX file."""


_PREFIXES = ("module.", "_orig_mod.", "model.")
"""Prefixes that DataParallel and AveragedModel, torch.compile and Lightning put before every key."""


def prefix_of(keys: Iterable[str]) -> str:
    """Returns the prefix that wrappers have added to all of ``keys``."""
    found, keys = "", list(keys)
    while prefix := next((known for known in _PREFIXES if keys and all(key.startswith(known) for key in keys)), ""):
        found, keys = found + prefix, [key.removeprefix(prefix) for key in keys]
    return found


TIMEOUT = 3600.0
"""Seconds that reading a file may take."""


def read(file: Path, suffix: str = "", *, state: str = "") -> Checkpoint:
    """Reads as :func:`read_here`, in a sandbox."""
    if not file.is_file():
        raise WeightsError(f"{file}: no such file.")
    if sandbox.layers() is not None:
        return read_here(file, suffix, state=state)
    checkpoint = apart(f"{__name__}:write_here", file, {"suffix": suffix, "state": state})
    if (suffix or file.suffix).lower() == ".onnx":
        from zoo_convert import onnx

        checkpoint.graph = onnx.load(file)
    return checkpoint


def apart(function: str, file: Path, arguments: Mapping[str, Any]) -> Checkpoint:
    """Returns the checkpoint that ``function``, a ``module:name``, writes in a sandbox (:func:`write`).

    It is called with ``file``, ``folder`` and ``arguments``.
    """
    with tempfile.TemporaryDirectory(prefix="zoo-convert-") as folder:
        place = Path(folder)
        content = process.ask(
            function,
            {"file": str(file), "folder": folder, **arguments},
            sandbox=sandbox.around(file, writable=place),
            what=f"Reading {file.name}",
            timeout=TIMEOUT,
            hint="",
        )
        tensors = safetensors.torch.load(storage.read_bounded(place / "tensors", 1 << 62))
        names = content.pop("names")
        return Checkpoint({name: tensors[str(number)] for number, name in enumerate(names)}, **content)


def write_here(*, file: str, folder: str, suffix: str, state: str) -> dict[str, Any]:
    return write(read_here(Path(file), suffix, state=state), Path(folder))


def write(checkpoint: Checkpoint, folder: Path) -> dict[str, Any]:
    """Writes the tensors to ``folder``; returns their names, in order, and the rest without the graph."""
    numbered = {str(number): value.clone().contiguous() for number, value in enumerate(checkpoint.tensors.values())}
    safetensors.torch.save_file(numbered, folder / "tensors")
    about = {"about": checkpoint.about, "dropped": checkpoint.dropped, "unwrapped": checkpoint.unwrapped}
    return {"names": [*checkpoint.tensors], **about}


def read_here(file: Path, suffix: str = "", *, state: str = "") -> Checkpoint:
    """Reads the checkpoint ``file``, by its ``suffix`` unless given: safetensors, Keras's ``.h5``, ONNX, or torch's.

    ``state`` names the part of a torch checkpoint with the weights. Raises :class:`FileFormatError` for other, damaged
    or hostile files.
    """
    suffix = (suffix or file.suffix).lower()
    if suffix == ".safetensors":
        return Checkpoint(safetensors_file.read(file), safetensors_file.metadata(file))
    if suffix in (".h5", ".hdf5"):
        return Checkpoint(read_keras(file))
    if suffix == ".onnx":
        from zoo_convert import onnx

        tensors, dropped, graph = onnx.read(file)
        return Checkpoint(tensors, dropped=dropped, graph=graph)
    if suffix == ".keras":
        raise FileFormatError(
            f"{file}: a .keras file contains code as well as weights.",
            hint="In Keras, model.save_weights('NAME.weights.h5') saves only the weights.",
        )
    tensors, unwrapped, dropped = read_torch(file, state)
    return Checkpoint(tensors, dropped=dropped, unwrapped=unwrapped)


AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
WRAPPERS = (*AVERAGED, "state_dict", "model_state_dict", "model_state", "model", "net", "network", "module")
"""Under which names training scripts save a state dict, in the order in which they are looked for."""


def read_torch(file: Path, state: str = "") -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Reads the tensors, the wrapper in which they were, and the dropped ones; ``state`` selects a wrapper.

    Raises :class:`FileFormatError` for damaged or hostile files and those without a state dict.
    """
    content, unwrapped = _unwrap(_load(file), state)
    dropped = []
    if isinstance(content, Mapping):
        content = dict(content)
        if isinstance(content.get("n_averaged"), Tensor):  # torch's AveragedModel counts what it averaged
            del content["n_averaged"]
            dropped.append("n_averaged")
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise FileFormatError(
            f"{file}: expected a mapping of names to tensors (a state dict), at the top level or under one of "
            f"{', '.join(WRAPPERS)}.",
            hint="In the program that wrote it: torch.save(model.state_dict(), 'weights.pth').",
        )
    for key, tensor in content.items():
        kind = tensor.device if tensor.device.type != "cpu" else tensor.layout
        if kind != torch.strided:
            raise FileFormatError(f"{file}: {key} is {kind}: only ordinary tensors can be converted.")
    check_size(file, sum(tensor.numel() * tensor.element_size() for tensor in content.values()))
    return {str(key): tensor for key, tensor in content.items()}, unwrapped, dropped


def _load(file: Path) -> Any:
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                check_size(file, sum(part.file_size for part in archive.infolist()))
                if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                    raise FileFormatError(
                        f"{file}: a TorchScript archive, which contains code as well as weights.",
                        hint="If you trust it: torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth').",
                    )
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # which it then reads, or refuses
            return torch.load(file, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # on hostile bytes torch's unpickler raises whatever its stack runs into
        with file.open("rb") as opened:
            beginning = opened.read(2)
        if beginning[:1] != b"\x80" and beginning != b"PK":
            raise FileFormatError(
                f"{file}: not a checkpoint of torch, which is a zip archive or a pickle: it begins with {beginning!r}.",
                hint="A format is known by the end of the name: .safetensors, .h5, .onnx; others are read as torch's.",
            ) from None
        raise _not_loadable(file, str(error)) from None


def _not_loadable(file: Path, message: str) -> FileFormatError:
    """Returns torch's message, without its advice to run the file's code."""
    blocked = re.search(r"(?:GLOBAL|class|global:?) `?([A-Za-z_][\w.]*\.[\w.]+)`? (?:was not|is not|whose)", message)
    if blocked:
        return FileFormatError(
            f"{file}: holds a {blocked[1]}, which cannot be loaded without running code.",
            hint="In the program that wrote it: torch.save(model.state_dict(), 'weights.pth'), then convert that.",
        )
    reason = message.rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0]
    return FileFormatError(f"{file}: cannot be read without running code: {reason}")


def _unwrap(content: Any, wanted: str) -> tuple[Any, list[str]]:
    unwrapped = []
    while isinstance(content, Mapping):
        there = [name for name in WRAPPERS if isinstance(content.get(name), Mapping)]
        if wanted:
            inner = [name for name, value in content.items() if isinstance(value, Mapping)]
            if wanted not in inner:
                raise UnknownNameError.of("part of the checkpoint", wanted, map(str, inner))
            there, wanted = [wanted, *(name for name in there if name != wanted)], ""
        if not there:
            break
        others = "".join(f"; also found: {name}" for name in there[1:])
        unwrapped.append(f"{there[0]}{' (averaged weights)' if there[0] in AVERAGED else ''}{others}")
        content = content[there[0]]
    return content, unwrapped


_NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def read_keras(file: Path) -> dict[str, Tensor]:
    """Reads all tensors, float32 or in their own type. Raises :class:`FileFormatError`, :class:`MissingExtraError`."""
    try:
        import h5py
    except ImportError:
        raise MissingExtraError.of(f"Reading {file.name}", "h5py", "zoo-vision[convert]") from None
    try:
        with h5py.File(file, "r") as opened:
            root = opened if "model_weights" not in opened else _inner(opened, "model_weights", h5py)
            tensors = _read_older(root, h5py) if "layer_names" in root.attrs else _read_newer(root, h5py)
    except FileFormatError:
        raise
    except WeightsError as error:
        raise FileFormatError(f"{file}: {error.message}", hint=error.hint) from None
    except OSError as error:
        raise FileFormatError(f"{file}: not a usable HDF5 file: {error}") from None
    except Exception as error:  # h5py raises many kinds at damaged files
        raise FileFormatError(f"{file}: not a Keras weights file: {type(error).__name__}: {error}") from None
    if not tensors:
        raise FileFormatError(f"{file}: contains no weights in a Keras format.")
    return tensors


def _read_older(root: Any, h5py: Any) -> dict[str, Tensor]:
    """Reads one group per layer, which lists its tensors by name."""
    tensors: dict[str, Tensor] = {}
    for layer in map(_text, root.attrs["layer_names"]):
        group = _inner(root, layer, h5py)
        for name in map(_text, group.attrs.get("weight_names", ())):
            tensors[f"{layer}.{_variable(name)}"] = _tensor(_inner(group, name, h5py), tensors)
    return tensors


def _read_newer(root: Any, h5py: Any) -> dict[str, Tensor]:
    """Groups ``.../<kind of layer>/vars/<number>``; the layer's own name is an attribute of ``vars``."""
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()

    def walk(group: Any, layer: str) -> None:
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:  # by links to one group a small file has endless paths
            raise WeightsError(f"{group.name} is contained in itself or linked twice.")
        seen.add(address)
        for name in group:
            inner = _inner(group, name, h5py)
            if name == "vars":
                called = _text(inner.attrs["name"]) if "name" in inner.attrs else layer
                datasets = [_inner(inner, number, h5py) for number in sorted(inner, key=int)]
                for variable, dataset in zip(_variables(inner, called), datasets, strict=True):
                    key = f"{called}.{variable}"
                    if key in tensors:
                        raise WeightsError(f"{key} is defined twice.")
                    tensors[key] = _tensor(dataset, tensors)
            elif isinstance(inner, h5py.Group) and name not in ("optimizer", "metrics"):
                walk(inner, name)

    walk(root, "")
    return tensors


def _variables(group: Any, layer: str) -> tuple[str, ...]:
    """Returns the names of a layer's numbered variables, derived from their shapes."""
    ranks = [len(group[name].shape) for name in sorted(group, key=int)]
    if not ranks:
        return ()
    if ranks in ([2], [4], [2, 1], [4, 1]):
        return ("kernel", "bias")[: len(ranks)]
    if ranks == [1] * 4:
        return _NORM
    raise WeightsError(
        f"layer {layer!r} has variables of {ranks} dimensions, and the file does not name them.",
        hint="In Keras, model.save('NAME.h5') also saves their names.",
    )


def _variable(name: str) -> str:
    """Returns ``kernel`` for ``block1_conv1/kernel:0`` and for Keras 1's ``block1_conv1_W_1:0``."""
    last = name.rpartition("/")[2].partition(":")[0]
    old = re.search(r"_([Wb])(?:_\d+)?$", last)
    return {"W": "kernel", "b": "bias"}[old[1]] if old else last


def _inner(group: Any, path: str, h5py: Any) -> Any:
    """Returns the object at ``path`` within this file. Links to other files are not followed."""
    for word in path.split("/"):
        link = group.get(word, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise WeightsError(f"{path!r} is missing, or a link to another file.")
        group = group[word]
    return group


def _tensor(dataset: Any, before: dict[str, Tensor]) -> Tensor:
    if getattr(dataset, "external", None) or getattr(dataset, "is_virtual", False):
        raise WeightsError(f"{dataset.name} stores its data in another file.")
    if dataset.dtype.kind not in "fiu":
        raise WeightsError(f"{dataset.name} holds {dataset.dtype}, expected numbers.")
    total = sum(tensor.numel() * tensor.element_size() for tensor in before.values())
    check_size(Path(dataset.file.filename), total + dataset.nbytes)  # a header may claim any shape
    return torch.from_numpy(dataset[()]).clone()


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


FACTOR = 4
"""Bytes of tensors to a byte of file: trained weights hardly compress."""

SMALL = 64_000_000
"""Bytes of tensors that any file may hold."""


def max_bytes(file: Path) -> int:
    """Returns the limit on bytes of tensors in ``file``: ``ZOO_MAX_CHECKPOINT_BYTES``, or a limit based on its size."""
    return limit("ZOO_MAX_CHECKPOINT_BYTES") or SMALL + FACTOR * file.stat().st_size


def check_size(file: Path, claimed: int) -> None:
    """Raises :class:`FileFormatError` if ``claimed`` bytes of tensors exceed the limit for ``file``."""
    if claimed > (most := max_bytes(file)):
        raise FileFormatError(
            f"{file}: states {claimed:,} bytes of tensors; the limit for {file.stat().st_size:,} bytes is {most:,}.",
            hint=f"If you trust the file, set ZOO_MAX_CHECKPOINT_BYTES={claimed}.",
        )

"""Keras's weights in HDF5: the legacy format (``layer_names``, ``weight_names``) and ``.weights.h5``.

A tensor is named ``<layer>.<variable>``: kernel, bias, gamma, beta, moving_mean, moving_variance, as
Keras calls them. Tensors are not changed; key maps declare what is transposed.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.errors import FileFormatError, MissingExtraError, WeightsError
from zoo_convert import bounds

_NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def read(file: Path) -> dict[str, Tensor]:
    """All tensors, float32 or in their own type. Raises :class:`FileFormatError`, :class:`MissingExtraError`."""
    try:
        import h5py
    except ImportError:
        raise MissingExtraError.of(f"Reading {file.name}", "h5py", "zoo-vision[convert]") from None
    try:
        with h5py.File(file, "r") as opened:
            root = opened if "model_weights" not in opened else _inner(opened, "model_weights", h5py)
            found = _read_older(root, h5py) if "layer_names" in root.attrs else _read_newer(root, h5py)
    except FileFormatError:
        raise
    except WeightsError as error:
        raise FileFormatError(f"{file}: {error.message}", hint=error.hint) from None
    except OSError as error:
        raise FileFormatError(f"{file}: not a usable HDF5 file: {error}") from None
    except Exception as error:  # h5py raises many kinds at damaged files
        raise FileFormatError(f"{file}: not a Keras weights file: {type(error).__name__}: {error}") from None
    if not found:
        raise FileFormatError(f"{file}: contains no weights in a Keras format.")
    return found


def _read_older(root: Any, h5py: Any) -> dict[str, Tensor]:
    """One group per layer, which lists its tensors by name."""
    found: dict[str, Tensor] = {}
    for layer in map(_text, root.attrs["layer_names"]):
        group = _inner(root, layer, h5py)
        for name in map(_text, group.attrs.get("weight_names", ())):
            found[f"{layer}.{_variable(name)}"] = _tensor(_inner(group, name, h5py), found)
    return found


def _read_newer(root: Any, h5py: Any) -> dict[str, Tensor]:
    """Groups ``.../<kind of layer>/vars/<number>``; the layer's own name is an attribute of ``vars``."""
    found: dict[str, Tensor] = {}
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
                for variable, dataset in zip(_variables(inner, called), _numbered(inner, h5py), strict=True):
                    key = f"{called}.{variable}"
                    if key in found:
                        raise WeightsError(f"{key} is defined twice.")
                    found[key] = _tensor(dataset, found)
            elif isinstance(inner, h5py.Group) and name not in ("optimizer", "metrics"):
                walk(inner, name)

    walk(root, "")
    return found


def _variables(group: Any, layer: str) -> tuple[str, ...]:
    """The names of a layer's numbered variables, derived from their shapes."""
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


def _numbered(group: Any, h5py: Any) -> list[Any]:
    return [_inner(group, name, h5py) for name in sorted(group, key=int)]


def _variable(name: str) -> str:
    """``block1_conv1/kernel:0`` and Keras 1's ``block1_conv1_W_1:0`` are both ``kernel``."""
    last = name.rpartition("/")[2].partition(":")[0]
    old = re.search(r"_([Wb])(?:_\d+)?$", last)
    return {"W": "kernel", "b": "bias"}[old[1]] if old else last


def _inner(group: Any, path: str, h5py: Any) -> Any:
    """The object at ``path`` within this file. Links to other files are not followed."""
    for part in path.split("/"):
        link = group.get(part, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise WeightsError(f"{path!r} is missing, or a link to another file.")
        group = group[part]
    return group


def _tensor(dataset: Any, before: dict[str, Tensor]) -> Tensor:
    if getattr(dataset, "external", None) or getattr(dataset, "is_virtual", False):
        raise WeightsError(f"{dataset.name} stores its data in another file.")
    if dataset.dtype.kind not in "fiu":
        raise WeightsError(f"{dataset.name} holds {dataset.dtype}, expected numbers.")
    held = sum(tensor.numel() * tensor.element_size() for tensor in before.values())
    bounds.check(Path(dataset.file.filename), held + dataset.nbytes)  # a header may claim any shape
    return torch.from_numpy(dataset[()]).clone()


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)

"""Reads torch checkpoints without running code, and finds the state dict in them.

People save more than a state dict, under many names; of several the averaged weights are taken, as timm does,
whose scores are theirs.
"""

import argparse
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.errors import FileFormatError, UnknownNameError, WeightsError
from zoo_convert import bounds

AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
WRAPPERS = (*AVERAGED, "state_dict", "model_state_dict", "model_state", "model", "net", "network", "module")
"""Under which names training scripts save a state dict, in the order in which they are looked for."""


def read(file: Path, state: str = "") -> tuple[dict[str, Tensor], list[str], list[str]]:
    """The tensors, the wrapper in which they were, and the dropped ones; ``state`` selects a wrapper.

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
    bounds.check(file, sum(tensor.numel() * tensor.element_size() for tensor in content.values()))
    return {str(key): tensor for key, tensor in content.items()}, unwrapped, dropped


def _load(file: Path) -> Any:
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                bounds.check(file, sum(part.file_size for part in archive.infolist()))
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
        raise _not_loadable(file, str(error)) from None


def _not_loadable(file: Path, said: str) -> FileFormatError:
    """torch's message, without its advice to run the file's code."""
    blocked = re.search(r"(?:GLOBAL|class|global:?) `?([A-Za-z_][\w.]*\.[\w.]+)`? (?:was not|is not|whose)", said)
    if blocked:
        return FileFormatError(
            f"{file}: holds a {blocked[1]}, which cannot be loaded without running code.",
            hint="In the program that wrote it: torch.save(model.state_dict(), 'weights.pth'), then convert that.",
        )
    reason = said.rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0]
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

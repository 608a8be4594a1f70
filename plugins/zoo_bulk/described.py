"""What a list of jobs needs to know of data sets and versions, found in a process of its own: it loads torch."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from zoo.errors import DataError, UnknownNameError
from zoo.system import process

_DAY = 86400.0
_MOST_FILES, _MOST_BYTES = 1000, 4 << 30
"""Of a data set that is brought to another machine."""


class Data(msgspec.Struct, frozen=True):
    """A split of a data set. ``address`` is what loads it from any folder; ``error`` says why it cannot be loaded.

    ``files`` are those that it was read from, unless they are too large to be brought to another machine.
    """

    address: str
    split: str
    name: str = ""
    n: int = 0
    fingerprint: str = ""
    classes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    is_named: bool = False
    error: str = ""
    hint: str = ""


class Described(msgspec.Struct, frozen=True):
    """The data sets in the order asked for, the versions of what decides the results, and the GPUs of this machine."""

    data: tuple[Data, ...]
    versions: dict[str, str]
    gpus: tuple[str, ...] = ()


def describe(asked: Sequence[tuple[str, str]], limit: int | None) -> Described:
    """Loads the data sets ``asked``, each a name or path with a split."""
    arguments = {"asked": list(asked), "limit": limit}
    hint = "Choose smaller data sets."
    said = process.ask(
        f"{__name__}:describe_here", arguments, what="The fingerprints of the data", timeout=_DAY, hint=hint
    )
    return msgspec.convert(said, Described)


def describe_here(asked: Sequence[tuple[str, str]], limit: int | None) -> Described:
    """Like :func:`describe`, in this process."""
    from zoo.evaluation import versions

    return Described(tuple(_one(data, split, limit) for data, split in asked), versions(), _gpus())


def _gpus() -> tuple[str, ...]:
    """The GPUs that torch can use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    chosen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return tuple(chosen or map(str, range(torch.cuda.device_count()))) if torch.cuda.is_available() else ()


def _one(data: str, split: str, limit: int | None) -> Data:
    from zoo import data as datasets
    from zoo.data.image_set import thin
    from zoo.evaluation.score import fingerprint_of

    try:
        address = datasets.address(data)
        images = thin(datasets.load(data, split), limit)
    except (DataError, UnknownNameError) as error:
        return Data(data, split, error=error.message, hint=error.hint)
    except (OSError, ImportError) as error:
        return Data(data, split, error=str(error))
    is_named = address == data
    return Data(
        address,
        images.split,
        images.name,
        len(images),
        fingerprint_of(images),
        images.classes,
        _files(Path(images.origin)),
        is_named,
    )


def _files(origin: Path) -> tuple[str, ...]:
    """The files at ``origin``; within the folder ``ZOO_DATA``, all those of the file or folder directly in it."""
    folder = Path(os.environ.get("ZOO_DATA") or os.devnull).expanduser().absolute()
    if origin.is_relative_to(folder) and origin != folder:
        origin = folder / origin.relative_to(folder).parts[0]
    if not origin.is_absolute() or not origin.exists():
        return ()
    found = sorted(origin.rglob("*")) if origin.is_dir() else [origin]
    files = [file for file in found if file.is_file()]
    is_small = len(files) <= _MOST_FILES and sum(file.stat().st_size for file in files) <= _MOST_BYTES
    return tuple(map(str, files)) if is_small else ()

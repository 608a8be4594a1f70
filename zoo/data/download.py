"""Fetches public data sets with torchvision's downloader, into a cache folder."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo.data.readers import cifar10
from zoo.errors import DataError, MissingExtraError
from zoo.hub import cache, offline_switch


def folder() -> Path:
    """The folder ``data`` of Zoo's cache."""
    return cache.root() / "data"


def download_set(name: str) -> Path:
    """Downloads ``mnist``, ``fashion_mnist`` or ``cifar10`` and returns its folder.

    Each file is checked against the publisher's md5 and moved into place atomically. Raises :class:`DataError` if
    network access is disabled or fails.
    """
    if switch := offline_switch():
        raise DataError(f"network access is disabled ({switch}={os.environ[switch]})")
    try:
        from torchvision.datasets import MNIST, FashionMNIST
        from torchvision.datasets.utils import download_url
    except ImportError:
        raise MissingExtraError.of(f"Downloading {name}", "torchvision", "zoo-vision[data]") from None
    files: dict[str, tuple[str, list[str], list[tuple[str, str]]]] = {
        "mnist": ("mnist", MNIST.mirrors, MNIST.resources),
        "fashion_mnist": ("fashion_mnist", FashionMNIST.mirrors, FashionMNIST.resources),
        # The binary form: torchvision's own is a pickle.
        "cifar10": ("", ["https://www.cs.toronto.edu/~kriz/"], [(cifar10.ARCHIVE, "c32a1d4ab5d03f1284b67883e8d87530")]),
    }
    if name not in files:
        raise DataError("its publisher offers no direct download")
    below, mirrors, resources = files[name]
    target = folder() / below
    target.mkdir(parents=True, exist_ok=True)
    for file, md5 in resources:
        if not (target / file).is_file():
            _fetch(download_url, mirrors, file, md5, target)
    return folder()


def _fetch(download_url: Callable[..., Any], mirrors: list[str], file: str, md5: str, target: Path) -> None:
    failures = []
    for mirror in mirrors:
        with tempfile.TemporaryDirectory(dir=target) as beside:
            try:
                download_url(mirror + file, beside, filename=file, md5=md5)
                (Path(beside) / file).replace(target / file)
                return
            except (OSError, RuntimeError, ValueError) as error:  # urllib's and http's errors are OSErrors
                failures.append(f"{mirror + file}: {error}")
    raise DataError("; ".join(failures))

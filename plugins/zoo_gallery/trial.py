"""The networks that run in the page, with the runtime that runs them."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from zoo.errors import DataError, SpecError, UnknownNameError
from zoo.system import storage

RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
"""The files of onnxruntime-web that the page loads: its smallest build, and the WebAssembly it finds beside itself."""

_FOLDER = "dist of the npm package onnxruntime-web"


def check(names: Sequence[str], runtime: Path | None) -> None:
    """Raises :class:`SpecError` if only one of the two is given, :class:`DataError` for an incomplete runtime."""
    if bool(names) != (runtime is not None):
        raise SpecError(
            f"Got {'a runtime without networks' if runtime else 'networks to try without a runtime'}, expected both.",
            hint=f"--try NAME --runtime DIR; DIR is the folder {_FOLDER}.",
        )
    missing = [name for name in RUNTIME if runtime is not None and not (runtime / name).is_file()]
    if missing:
        raise DataError(f"{runtime} has no {missing[0]}.", hint=f"--runtime expects the folder {_FOLDER}.")


def write(folder: Path, names: Sequence[str], runtime: Path) -> list[dict[str, Any]]:
    """Exports the networks ``names`` into ``folder``/try, unless they are there, and copies the runtime.

    Returns what the page needs to know of each.
    """
    for name in RUNTIME:
        target, data = folder / "assets" / "runtime" / name, (runtime / name).read_bytes()
        if not target.is_file() or target.read_bytes() != data:
            storage.replace(target, data)
    return [_network(folder / "try", name) for name in dict.fromkeys(names)]


def remove(folder: Path) -> None:
    """Removes the page and its files from the site in ``folder``, if an earlier build wrote them."""
    (folder / "try.html").unlink(missing_ok=True)
    for part in ("try", "assets/runtime"):
        shutil.rmtree(folder / part, ignore_errors=True)


def _network(folder: Path, name: str) -> dict[str, Any]:
    from zoo import __version__, exporting
    from zoo.creation import info

    file = folder / f"{name.replace('/', '.')}.onnx"
    maps, layers = file.with_suffix(".maps.onnx"), file.with_suffix(".maps.json")
    weights = info(name)["weights"][:1]
    about = exporting.about_of(file)
    is_old = about is not None and (about.zoo != __version__ or not weights or about.sha256 != weights[0].get("sha256"))
    if about is None or is_old or not layers.is_file():
        about = exporting.export(name, file, format="onnx", input="uint8").about
        storage.replace(layers, msgspec.json.encode(exporting.export_maps(name, maps)))
    shown = msgspec.json.decode(layers.read_bytes(), type=list[str])
    return {
        "name": name,
        "file": file.name,
        "maps": {"file": maps.name, "layers": shown} if shown else None,
        "preprocess": about.preprocess,
        "classes": about.class_names or _class_names(about.classes),
    }


def _class_names(classes: str) -> tuple[str, ...]:
    from zoo.data.classes import class_names

    try:
        return tuple(class_names(classes))
    except UnknownNameError:
        return ()

"""Computes probes for the entries of a manifest and writes them into it."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from zoo import manifest, registry
from zoo.errors import IntegrityError, ProbeError
from zoo.loading import resolve
from zoo.manifest import Probe, Tolerance, Weights, editing
from zoo.system import storage


def reprobe(file: Path, *, callback: Callable[[str, bool], None] | None = None) -> list[str]:
    """Computes probes of the weights beside the manifest ``file``; returns their names.

    An entry's file is at ``repo/file`` from the manifest's folder; entries without a file there are not changed.
    Comments and order are preserved. ``callback`` is called with each entry's name and whether it was probed. Raises
    :class:`ManifestError` if the manifest cannot be edited in place, :class:`IntegrityError` if a file is not the one
    that its entry names, and :class:`ProbeError` if a network's outputs contain NaN or infinity.
    """
    entries = manifest.read(file)
    text, done = file.read_text(encoding="utf-8"), []
    for entry in entries:
        weights = file.parent / entry.path
        is_here = entry.pinned and weights.is_file()
        if is_here:
            text = editing.with_probe(text, entry, _take(weights, entry), str(file))
            done.append(entry.name)
        if callback is not None:
            callback(entry.name, is_here)
    if done:
        storage.replace(file, text.encode())
    return done


def _take(file: Path, entry: Weights) -> Probe:
    from zoo import loading
    from zoo.verify import probe

    got = storage.sha256_of(file)
    if got != entry.sha256:
        raise IntegrityError(f"{file} has sha256 {got}, expected {entry.sha256} for {entry.name}.")
    found = registry.current().find(entry.arch)
    if entry.needs_conversion:
        source = file
        entry, file = resolve.as_safetensors(found, entry, lambda: source)
    module, info = loading.build_from(file, found.model, entry)
    try:
        taken = probe.take(module, info.preprocess)
    except ValueError as error:
        raise ProbeError(f"{entry.name}: {error}: the network's outputs contain NaN or infinity.") from None
    # Older probes have plain numbers.
    stated = entry.probe.tolerance if entry.probe else {}
    kept = {key: value for key, value in stated.items() if isinstance(value, Tolerance)}
    return msgspec.structs.replace(taken, tolerance=kept)

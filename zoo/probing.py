"""Probes taken for the entries of a manifest, and written into it with nothing else changed."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from zoo import manifest, registry, storage
from zoo.errors import ManifestError
from zoo.manifest import Probe, Weights

if TYPE_CHECKING:
    from collections.abc import Callable


def reprobe(file: Path, *, told: "Callable[[str, bool], None] | None" = None) -> list[str]:
    """Takes new probes of the weights that lie beside the manifest ``file``; returns their names.

    An entry's file lies at ``repo/file`` from the manifest's folder; entries whose file does not are left
    alone, for a probe is of a network that was run. Comments, order and all other words stay as they are.
    ``told`` is called with each entry's name and whether it was probed.

    Raises :class:`ManifestError` where the manifest's form is one that cannot be edited so, and
    :class:`ProbeError` where a network's outputs are no numbers.
    """
    entries = manifest.read(file)
    text, done = file.read_text(encoding="utf-8"), []
    for entry in entries:
        weights = file.parent / entry.path
        is_here = entry.pinned and weights.is_file()
        if is_here:
            text = with_probe(text, entry, _take(weights, entry))
            done.append(entry.name)
        if told is not None:
            told(entry.name, is_here)
    _check_only_probes_differ(file, entries, manifest.parse(text, str(file)))
    if done:
        storage.replace(file, text.encode())
    return done


def with_probe(text: str, entry: Weights, probe: Probe) -> str:
    """The manifest ``text`` with ``probe`` as the table ``[arch.tag.probe]`` of ``entry``."""
    name = re.escape(manifest.table_name(entry))
    table = manifest.render_probe(entry, probe)
    lines = text.splitlines(keepends=True)
    # A table's header, and not the first row of an array's second line.
    headers = [number for number, line in enumerate(lines) if re.match(r"\[[^,=]*\]\s*(#.*)?$", line)]
    own = [number for number in headers if re.match(rf"\[{name}[.\]]", lines[number])]
    if not own:
        return text
    old = next((number for number in own if re.match(rf"\[{name}\.probe\]", lines[number])), None)
    last = own[-1] if old is None else old
    end = next((number for number in headers if number > last), len(lines))
    while not lines[end - 1].strip() or lines[end - 1].startswith("#"):  # what stands above the next table is its own
        end -= 1
    if old is None:
        before = "".join(lines[:end])
        return before + ("" if before.endswith("\n") else "\n") + "\n" + table + "".join(lines[end:])
    return "".join(lines[:old]) + table + "".join(lines[end:])


def _take(file: Path, entry: Weights) -> Probe:
    from zoo import load, probe
    from zoo.errors import IntegrityError, ProbeError
    from zoo.hub.cache import hash_of

    with file.open("rb") as stream:
        got = hash_of(stream).hexdigest()
    if got != entry.sha256:
        raise IntegrityError(f"{file} has sha256 {got}, its entry {entry.name} says {entry.sha256}.")
    found = registry.load().find(entry.arch)
    module, info = load.build_from(file, found.model, entry)
    try:
        taken = probe.take(module, info.preprocess)
    except ValueError as error:
        raise ProbeError(f"{entry.name}: {error}: the network's outputs are not all numbers.") from None
    # Plain numbers are what probes said of themselves before there were defaults.
    stated = entry.probe.tolerance if entry.probe else {}
    kept = {key: value for key, value in stated.items() if isinstance(value, manifest.Tolerance)}
    return msgspec.structs.replace(taken, tolerance=kept)


def _check_only_probes_differ(file: Path, before: tuple[Weights, ...], after: tuple[Weights, ...]) -> None:
    bare = [tuple(msgspec.structs.replace(entry, probe=None) for entry in entries) for entries in (before, after)]
    if bare[0] != bare[1]:
        raise ManifestError(
            f"{file}: its tables are written in a form that cannot be edited in place; nothing was changed.",
            hint="Give each entry its own [arch.tag] and [arch.tag.probe] headers.",
        )

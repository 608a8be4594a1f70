"""Verifies weights from their bytes to the network's outputs, each in its own process; writes probes into manifests.

:func:`verify` calls :func:`verify_here` there. A network that crashes, hangs or takes all memory then fails alone.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from zoo import hub, manifest, registry
from zoo.errors import IntegrityError, ProbeError, WeightsError
from zoo.hub import cache, converted
from zoo.hub.converted import Converted, Job
from zoo.loading.create import create, info_of
from zoo.loading.resolve import as_safetensors, find, job_of, weights_for
from zoo.manifest import Probe, Tolerance, Weights, writing
from zoo.system import process, storage
from zoo.trust import first_use, repository

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.verify.probe import Finding


TIMEOUT = 600.0
"""Seconds that the check of one network may take."""


class Conversion(msgspec.Struct, frozen=True):
    """The safetensors file that was made from a file of another format."""

    file: str
    sha256: str
    size: int
    key_map: str


class Verified(msgspec.Struct, frozen=True):
    """Verified weights. ``difference`` is the largest difference from the probe, None without a probe.

    ``file`` and ``size`` describe the published file, whose sha256 is ``sha256``: "" and 0 if the cache only has its
    ``conversion``.
    """

    weights: str
    file: str
    size: int
    pinned: bool
    tensors: int
    difference: float | None
    allowed: float | None
    sha256: str = ""
    conversion: Conversion | None = None


def verify(name: str, *, deep: bool = False, failures: Path | None = None, timeout: float = TIMEOUT) -> Verified:
    """Verifies the weights ``name`` in a separate process: bytes, header, tensors, probe.

    ``deep`` hashes the whole file again, and repeats a conversion. Wrong outputs are saved in ``failures/<name>``, by
    default within the cache. Raises the first :class:`ZooError` of the process, or one that describes how it ended.
    """
    answer = process.ask(
        "zoo.verify.worker:verify_here",
        {"name": name, "deep": deep, "failures": str(failures or cache.root() / "failures")},
        what=f"{name}: verification",
        timeout=timeout,
        hint="Allow more time with --timeout SECONDS.",
    )
    return msgspec.convert(answer, Verified)


def names_in_reach() -> tuple[str, ...]:
    """Returns all pinned weights that need no network: embedded and cached ones."""
    return _names(lambda weights: _ships(weights) or is_in_cache(weights))


def names_in_cache() -> tuple[str, ...]:
    return _names(is_in_cache)


def is_in_cache(weights: Weights) -> bool:
    """Returns whether its file, or a conversion of it, is in the cache, valid or not."""
    may_be_converted = bool(weights.sha256) and weights.needs_conversion
    return _has_source(weights) or (may_be_converted and bool(converted.of_source(weights.sha256)))


def verify_here(name: str, *, deep: bool, failures: str) -> Verified:
    """Verifies as :func:`verify` does, in this process."""
    match = find(name)
    entry = weights_for(match)
    if _ships(entry) and not is_in_cache(entry):
        hub.fetch(entry, source=entry.hub)
    job = job_of(match, entry) if entry.needs_conversion else None
    is_converted = job is not None and converted.place_of(job).exists()
    if deep or _has_source(entry) or not is_converted:
        cache.verify(entry, deep=deep)
    if job is not None and is_converted:
        _verify_conversion(job, entry, deep)
    module = create(name if match.weights else f"{name}.{entry.tag}")
    _require_finite(module, entry)
    findings = _probe(module, entry, Path(failures, entry.name)) if entry.probe else []
    file = cache.find(entry)
    made = converted.find(job) if job is not None else None
    worst = max(findings, key=lambda finding: finding.difference / (finding.allowed or 1.0), default=None)
    return Verified(
        weights=entry.name,
        file=str(file or ""),
        size=file.stat().st_size if file else 0,
        pinned=entry.pinned,
        tensors=len(module.state_dict()),
        difference=worst.difference if worst else None,
        allowed=worst.allowed if worst else None,
        sha256=entry.sha256,
        conversion=_described(made) if made else None,
    )


def _has_source(weights: Weights) -> bool:
    return bool(weights.sha256) and cache.file_of(weights, weights.sha256).exists()


def _described(made: Converted) -> Conversion:
    return Conversion(str(made.path), made.record.sha256, made.path.stat().st_size, made.record.key_map)


def _verify_conversion(job: Job, entry: Weights, deep: bool) -> None:
    """Raises :class:`IntegrityError` if the conversion has changed; with ``deep``, if another one has other tensors."""
    file = converted.place_of(job)
    record = converted.read_record(file)
    got = cache.sha256_of(file, deep=deep)
    hint = f"Remove {file}: the next use converts {entry.file} again."
    if record is None or got != record.sha256:
        expected = record.sha256 if record else "the one of a record, which is missing"
        raise IntegrityError(
            f"The conversion of {entry.name} is damaged: {file} has sha256 {got}, expected {expected}.", hint=hint
        )
    if not deep:
        return
    from zoo.loading import safetensors_file

    with tempfile.TemporaryDirectory(prefix="zoo-verify-") as folder:
        again = Path(folder, file.name)
        converted.make(job, entry, cache.file_of(entry, entry.sha256), again)
        ours, theirs = safetensors_file.read(file), safetensors_file.read(again)
        differing = [key for key in sorted({*ours, *theirs}) if not _is_equal(ours.get(key), theirs.get(key))]
    if differing:
        raise IntegrityError(
            f"The conversion of {entry.name} has other tensors than {entry.file}: {len(differing)} differ "
            f"({', '.join(differing[:5])}).",
            hint=hint,
        )


def _is_equal(left: "Tensor | None", right: "Tensor | None") -> bool:
    if left is None or right is None or left.dtype != right.dtype:
        return False
    return left.equal(right)


def _names(wanted: Callable[[Weights], bool]) -> tuple[str, ...]:
    registered = registry.current()
    listed = first_use.entries(registered.models(registered.collections))
    named = [(f"{entry.name}.{weights.tag}", weights) for entry, weights in listed]
    named += [(weights.name, weights) for _, weights in repository.entries()]
    return tuple(name for name, weights in named if wanted(weights))


def _ships(weights: Weights) -> bool:
    return weights.hub.startswith("embedded:") and weights.pinned


def _require_finite(module: "nn.Module", entry: Weights) -> None:
    state = module.state_dict()
    bad = [key for key, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if bad:
        raise WeightsError(f"{entry.name}: {len(bad)} tensors contain NaN or infinity: {', '.join(bad[:5])}.")


def _probe(module: "nn.Module", entry: Weights, kept: Path) -> "list[Finding]":
    """Returns the parts of the probe; if one fails, the outputs are saved with a report."""
    from zoo.verify import probe

    preprocess = info_of(module).preprocess
    assert entry.probe is not None
    findings, got = probe.measure(module, preprocess, entry.probe)
    try:
        probe.require(findings)
    except ProbeError as error:
        _keep(kept, entry, got, findings)
        raise ProbeError(f"{error.message}\nIts outputs are saved in {kept}.", hint=error.hint) from None
    return findings


def _keep(folder: Path, entry: Weights, got: "dict[str, Any]", findings: "list[Finding]") -> None:
    from zoo import evaluation
    from zoo.loading import safetensors_file
    from zoo.system import storage

    about = {"weights": entry.name, "sha256": entry.sha256, "versions": evaluation.versions()}
    safetensors_file.write(got, folder / "outputs.safetensors", about)
    lines = [f"{entry.name} does not compute the outputs in its manifest", f"sha256 {entry.sha256}", ""]
    lines += [f"{name} {version}" for name, version in evaluation.versions().items()]
    for finding in findings:
        verdict = "passes" if finding.passes else "FAILS"
        lines += ["", f"{finding.what}: {verdict}, off by {finding.difference:.6g}, allowed {finding.allowed:.6g}"]
        for what, values in (("expected", finding.expected), ("got", finding.got)):
            lines += [f"  {what:8s} {' '.join(f'{value:12.6g}' for value in row)}" for row in values.tolist()]
    lines += ["", "outputs.safetensors has all outputs."]
    storage.replace(folder / "report.txt", ("\n".join(lines) + "\n").encode())


def reprobe(file: Path, *, callback: Callable[[str, bool], None] | None = None) -> list[str]:
    """Computes probes of the weights beside the manifest ``file``; returns their names.

    An entry's file is at ``repo/file`` from the manifest's folder; entries without a file there are not changed.
    Comments and order are preserved. ``callback`` is called with each entry's name and whether it was probed. Raises
    :class:`ManifestError` if the manifest cannot be edited in place, :class:`IntegrityError` if a file is not the one
    that its entry names, and :class:`ProbeError` if a network's outputs contain NaN or infinity.
    """
    probes: dict[tuple[str, str], Probe] = {}
    for entry in manifest.read(file):
        weights = file.parent / entry.path
        is_here = entry.pinned and weights.is_file()
        if is_here:
            probes[entry.name, entry.sha256] = _probe_of(weights, entry)
        if callback is not None:
            callback(entry.name, is_here)
    if probes:
        with storage.alone(file):
            text = file.read_text(encoding="utf-8")
            for entry in manifest.parse(text, str(file)):  # as it is now
                if probe := probes.get((entry.name, entry.sha256)):
                    text = writing.with_probe(text, entry, probe, str(file))
            storage.replace(file, text.encode())
    return [name for name, _ in probes]


def _probe_of(file: Path, entry: Weights) -> Probe:
    from zoo import loading
    from zoo.verify import probe

    got = storage.sha256_of(file)
    if got != entry.sha256:
        raise IntegrityError(f"{file} has sha256 {got}, expected {entry.sha256} for {entry.name}.")
    match = registry.current().find(entry.arch)
    if entry.needs_conversion:
        source = file
        entry, file = as_safetensors(match, entry, lambda: source)
    module, info = loading.build_from(file, match.model, entry)
    try:
        new = probe.take(module, info.preprocess)
    except ValueError as error:
        raise ProbeError(f"{entry.name}: {error}: the network's outputs contain NaN or infinity.") from None
    # Older probes have plain numbers.
    stated = entry.probe.tolerance if entry.probe else {}
    kept = {key: value for key, value in stated.items() if isinstance(value, Tolerance)}
    return msgspec.structs.replace(new, tolerance=kept)

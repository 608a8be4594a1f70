"""Verifies weights from their bytes to the network's outputs, each in its own process.

A network that crashes, hangs or takes all memory then fails alone. ``python -P -m zoo.verify.worker`` is
that process; :func:`verify` starts it.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from zoo import hub, registry
from zoo.creation import create, info_of
from zoo.errors import ProbeError, WeightsError, ZooError
from zoo.hub import cache
from zoo.manifest import Weights
from zoo.resolve import find, weights_for
from zoo.trust import repository, user_lock

if TYPE_CHECKING:
    from torch import nn

    from zoo.verify.probe import Finding

TIMEOUT = 600.0
"""Seconds that the check of one network may take."""


class Verified(msgspec.Struct, frozen=True):
    """Verified weights. ``difference`` is the largest difference from the probe, None without a probe."""

    weights: str
    file: str
    size: int
    pinned: bool
    tensors: int
    difference: float | None
    allowed: float | None


def verify(name: str, *, deep: bool = False, failures: Path | None = None, timeout: float = TIMEOUT) -> Verified:
    """Verifies the weights ``name`` in a separate process: bytes, header, tensors, probe.

    ``deep`` hashes the whole file again. Wrong outputs are saved in ``failures/<name>``, by default within the cache.
    Raises the first :class:`ZooError` of the process, or one that describes how it ended.
    """
    with tempfile.TemporaryDirectory(prefix="zoo-verify-") as folder:
        answer = Path(folder, "answer.json")
        words = [name, str(answer), str(failures or cache.root() / "failures"), "deep" if deep else ""]
        # It finds the plugins that this process has found, and imports nothing from the working directory.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "zoo.verify.worker", *words],
                stdin=subprocess.DEVNULL,
                stdout=sys.__stderr__.fileno() if sys.__stderr__ is not None else subprocess.DEVNULL,
                env=environment,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise WeightsError(
                f"{name}: verification took more than {timeout:g} s and was stopped.",
                hint="Allow more time with --timeout SECONDS.",
            ) from None
        if not answer.exists():
            raise WeightsError(f"{name}: verification process crashed: {_ending(done.returncode)}.")
        said = json.loads(answer.read_text(encoding="utf-8"))
    if "error" in said:
        error = ZooError(said["error"], hint=said["hint"])
        error.exit_code = said["exit_code"]
        raise error
    return msgspec.convert(said, Verified)


def names_in_reach() -> tuple[str, ...]:
    """All pinned weights that need no network: embedded and cached ones."""
    return _names(lambda weights: _ships(weights) or is_in_cache(weights))


def names_in_cache() -> tuple[str, ...]:
    return _names(is_in_cache)


def is_in_cache(weights: Weights) -> bool:
    """Whether its file is in the cache, valid or not."""
    return bool(weights.sha256) and cache.file_of(weights, weights.sha256).exists()


def verify_here(name: str, *, deep: bool, failures: Path) -> Verified:
    """Like :func:`verify`, in this process."""
    found = find(name)
    entry = weights_for(found)
    if _ships(entry) and not is_in_cache(entry):
        hub.fetch(entry, source=entry.hub)
    cache.verify(entry, deep=deep)
    module = create(name if found.weights else f"{name}.{entry.tag}")
    _require_finite(module, entry)
    findings = _probe(module, entry, failures / entry.name) if entry.probe else []
    file = cache.find(entry)
    assert file is not None
    worst = max(findings, key=lambda finding: finding.difference / (finding.allowed or 1.0), default=None)
    return Verified(
        weights=entry.name,
        file=str(file),
        size=file.stat().st_size,
        pinned=entry.pinned,
        tensors=len(module.state_dict()),
        difference=worst.difference if worst else None,
        allowed=worst.allowed if worst else None,
    )


def _names(wanted: Callable[[Weights], bool]) -> tuple[str, ...]:
    registered = registry.current()
    listed = user_lock.entries(registered.models(registered.collections))
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
    """The parts of the probe; if one fails, the outputs are saved with a report."""
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
    for found in findings:
        verdict = "passes" if found.passes else "FAILS"
        lines += ["", f"{found.what}: {verdict}, off by {found.difference:.6g}, allowed {found.allowed:.6g}"]
        for what, values in (("expected", found.expected), ("got", found.got)):
            lines += [f"  {what:8s} {' '.join(f'{value:12.6g}' for value in row)}" for row in values.tolist()]
    lines += ["", "outputs.safetensors has all outputs."]
    storage.replace(folder / "report.txt", ("\n".join(lines) + "\n").encode())


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name if -code in {*signal.Signals} else str(-code)
    return f"signal {name}" + (", for example because memory ran out" if name == "SIGKILL" else "")


def _main(name: str, answer: str, failures: str, deep: str) -> None:
    said: dict[str, Any]
    try:
        said = msgspec.to_builtins(verify_here(name, deep=bool(deep), failures=Path(failures)))
    except (ZooError, OSError) as error:
        hint, code = (error.hint, error.exit_code) if isinstance(error, ZooError) else ("", 1)
        said = {"error": error.message if isinstance(error, ZooError) else str(error), "hint": hint, "exit_code": code}
    Path(answer).write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    _main(*sys.argv[1:])

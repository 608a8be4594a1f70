"""The work of a job on one of the weights: the functions that engines call, in a process of a node.

Each returns the measured fields of its rows, and of its speeds. Before it measures, it sees that this node has the
bytes, the images and the versions that the key of the job names.
"""

import re
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import DataError, IntegrityError, PluginError

if TYPE_CHECKING:
    from zoo.data import ImageSet
    from zoo.loading import Network

Result = dict[str, list[dict[str, Any]]]
"""``rows`` and ``speeds``, as far as they are measured."""

_DIGITS = 6
"""Decimals of a mean over images that are kept: the order of sums changes what comes after them."""


def evaluate(
    name: str, data: str, split: str, options: dict[str, Any], expected: dict[str, Any], folder: str
) -> Result:
    """Scores weights: ``zoo evaluate``."""
    from zoo.evaluation import by_name

    images, network = _inputs(name, data, split, options, expected)
    settings = _without(options, "limit", "device")
    if settings.get("dtype") == "float32":  # the default, which not every hook takes as an argument
        del settings["dtype"]
    report = by_name.evaluate(network, images, device=_device(options), **settings)
    low, high = report.interval
    mean_low, mean_high = report.mean_class_interval or (None, None)
    row = {
        "n": report.n,
        "correct": report.correct,
        "top1": report.top1,
        "low": low,
        "high": high,
        "mean_class": report.mean_class,
        "mean_low": mean_low,
        "mean_high": mean_high,
        "close": report.close,
        "top5": report.top5,
        "loss": None if report.loss is None else round(report.loss, _DIGITS),
        "fingerprint": report.fingerprint,
    }
    speed = {"images_per_s": round(report.images_per_s, 2), "precision": report.dtype}
    return {"rows": [row], "speeds": [speed | _here(options)]}


def attack_curve(
    name: str, data: str, split: str, options: dict[str, Any], expected: dict[str, Any], folder: str
) -> Result:
    """Measures the accuracy of weights under attack: ``zoo attack curve``."""
    from zoo import attack

    images, network = _inputs(name, data, split, options, expected)
    options = {"kinds": ["pgd"], "steps": 20, "step_size": 0.0, "no_random_start": False, "seed": 0, **options}
    rows = []
    for kind in options["kinds"]:
        method = attack.Method(
            kind, options["steps"], options["step_size"], not options["no_random_start"], options["seed"]
        )
        curve = attack.curve(
            network,
            images,
            method,
            options["epsilons"],
            batch_size=options.get("batch_size", 128),
            device=_device(options),
        )
        for point in curve.points:
            low, high = point.interval
            score = {"n": curve.n, "correct": point.correct, "top1": point.accuracy, "low": low, "high": high}
            rows.append({"attack": kind, "epsilon": point.epsilon, **score, "fingerprint": curve.fingerprint})
    return {"rows": rows, "speeds": [_here(options)]}


def features(
    name: str, data: str, split: str, options: dict[str, Any], expected: dict[str, Any], folder: str
) -> Result:
    """Writes the features of weights into ``folder``: ``zoo features``."""
    from zoo import features as features_of

    images, network = _inputs(name, data, split, options, expected)
    extracted = features_of(network, images, device=_device(options), **_without(options, "limit", "device"))
    file = Path("features", f"{_stem(name)}.{_stem(images.name)}.{_stem(images.split)}.safetensors")
    extracted.write(Path(folder, file))
    row = {"n": len(extracted), "file": str(file), "fingerprint": extracted.origin.fingerprint}
    return {"rows": [row], "speeds": [_here(options)]}


def benchmark(name: str, options: dict[str, Any], expected: dict[str, Any], folder: str) -> Result:
    """Times a network: ``zoo benchmark``."""
    from zoo.evaluation import speed

    _require_versions(expected)
    options = {"mode": "inference", "precisions": ["float32"], "sizes": [1, 32], **options}
    modes = ["inference", "training"] if options["mode"] == "both" else [options["mode"]]
    settings = _without(options, "mode", "precisions", "sizes", "device")
    measured = [
        speed.benchmark(name, mode=mode, precision=precision, batch_size=size, device=_device(options), **settings)
        for mode, precision, size in product(modes, options["precisions"], options["sizes"])
    ]
    fields = ("images_per_s", "latency_ms", "latency_p95_ms", "batch_size", "mode", "precision")
    return {
        "rows": [{}],
        "speeds": [{field: getattr(timing, field) for field in fields} | _here(options) for timing in measured],
    }


def verify(name: str, options: dict[str, Any], expected: dict[str, Any], folder: str) -> Result:
    """Checks weights from their bytes to their outputs: ``zoo verify``."""
    from zoo.verify import worker

    _require_versions(expected)
    found = worker.verify_here(name, deep=options.get("deep", False), failures=str(Path(folder, "failures")))
    return {"rows": [{"difference": found.difference}], "speeds": [{}]}


def export(name: str, options: dict[str, Any], expected: dict[str, Any], folder: str) -> Result:
    """Writes a network for another runtime into ``folder``: ``zoo export``."""
    from zoo import exporting

    _require_versions(expected)
    file = Path("exported", _stem(name) + exporting.SUFFIXES[options["format"]])
    made = exporting.export(_network(name, expected), Path(folder, file), **options)
    return {"rows": [{"difference": made.agreement.difference, "file": str(file)}], "speeds": [{}]}


def _inputs(
    name: str, data: str, split: str, options: dict[str, Any], expected: dict[str, Any]
) -> "tuple[ImageSet, Network]":
    from zoo.evaluation.score import fingerprint_of

    _require_versions(expected)
    images = _images(data, split, options.get("limit"))
    if (got := fingerprint_of(images)) != expected["fingerprint"]:
        raise DataError(f"The images of {data}/{split} here have the fingerprint {got}, not {expected['fingerprint']}.")
    return images, _network(name, expected)


@lru_cache(maxsize=1)
def _images(data: str, split: str, limit: int | None) -> "ImageSet":
    """Returns the images, which the next job of this process probably needs too."""
    from zoo import data as datasets
    from zoo.data.image_set import thin

    return thin(datasets.load(data, split), limit)


def _network(name: str, expected: dict[str, Any]) -> "Network":
    from zoo.loading.create import create_trained, info_of

    network = create_trained(name)
    weights = info_of(network).weights
    if weights is not None and weights.sha256 != expected["sha256"]:
        raise IntegrityError(f"{name} here has sha256 {weights.sha256}, not {expected['sha256']}.")
    return network


def _require_versions(expected: dict[str, Any]) -> None:
    from zoo.evaluation import versions

    others = [f"{name} {version}" for name, version in versions().items() if version != expected["versions"][name]]
    if others:
        needed = ", ".join(f"{name} {version}" for name, version in expected["versions"].items())
        raise PluginError(f"This node has {', '.join(others)}; the list of jobs needs {needed}.")


def _here(options: dict[str, Any]) -> dict[str, Any]:
    """Returns what the speed of this job depends on, beside its options."""
    import torch

    from zoo.system.machine import hardware

    device = _device(options)
    return {"device": device, "hardware": hardware(torch.device(device)), "threads": torch.get_num_threads()}


def _device(options: dict[str, Any]) -> str:
    from zoo.system.distributed import ALONE

    return str(ALONE.device(options.get("device")))


def _without(options: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in names}


def _stem(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)

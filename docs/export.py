"""Exports every embedded weight to ONNX and scores the file: ``python docs/export.py [PRECISION [NAME...]]``.

Writes docs/export.json after each; what is there already, for the same weights, is not measured again. Needs the data
sets (``ZOO_DATA``). ``python docs/tables.py`` makes the table of docs/export.md from it.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import zoo
from zoo import registry
from zoo.evaluation import claims
from zoo.manifest import Weights

FILE = Path(__file__).with_suffix(".json")


def embedded() -> list[Weights]:
    """Returns the weights that ship with Zoo."""
    models = registry.current().models()
    return [weights for model in models for weights in model.weights if weights.hub.startswith("embedded:")]


def measure(weights: Weights, precision: str, folder: Path) -> dict[str, Any]:
    """Returns how far the ONNX file of ``weights`` is from torch, and its score where the manifest has one."""
    found: dict[str, Any] = {"sha256": weights.sha256}
    try:
        made = zoo.export(weights.name, folder / "network.onnx", precision=precision)
    except zoo.ZooError as error:
        return {**found, "error": error.message}
    found |= {"difference": made.agreement.difference, "images": made.agreement.images, "size": made.size}
    found |= {"runtime": made.agreement.runtime, "notes": list(made.notes)}
    where, claim = next(iter(weights.scores.items()))
    data, _, split = where.rpartition("/")
    report = zoo.evaluate(str(made.file), data, split)
    comparison = claims.check(report, claim, is_another=precision != "float32")
    return found | {"data": where, "n": report.n, "correct": report.correct, "agrees": comparison.agrees}


def read() -> dict[str, dict[str, Any]]:
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def main(precision: str = "float32", *names: str) -> None:
    if precision not in ("float32", "float16", "int8"):
        raise SystemExit(__doc__)
    every = {weights.name: weights for weights in embedded()}
    for weights in [every[name] for name in names or every]:
        if read().get(precision, {}).get(weights.name, {}).get("sha256") == weights.sha256:
            continue
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            found = measure(weights, precision, Path(folder))
        done = read()  # again: another process may have written meanwhile
        rows = {**done.get(precision, {}), weights.name: found}
        done[precision] = dict(sorted(rows.items()))
        FILE.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
        print(f"{weights.name}: {found} in {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

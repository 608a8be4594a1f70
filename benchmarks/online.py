"""Fetches, verifies, creates and runs well-known networks from the public hubs, and writes a report.

::

    python benchmarks/online.py                                    # about a dozen names, 1.3 GB
    python benchmarks/online.py resnet18.a1_in1k timm/test_resnet --report report.md

It needs a network. Each name has its own process with an empty cache and an empty configuration folder, so nothing
is pinned before. The image is the photograph of the probes, a cat. The report is Markdown, to attach to an issue; a
name that fails is a row with the reason, and the exit status is then 1.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import table

NAMES = (
    "resnet18.a1_in1k",
    "resnet50.a1_in1k",
    "resnet50.tv2_in1k",
    "resnet101.a1h_in1k",
    "densenet121.tv_in1k",
    "vgg16.tv_in1k",
    "inception_v3.tv_in1k",
    "resnet18.tv_pth_in1k",  # a pickle of download.pytorch.org
    "timm/mobilenetv3_small_100.lamb_in1k",
    "timm/efficientnet_b0.ra_in1k",
    "timm/convnext_atto.d2_in1k",
    "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "hf-hub:timm/resnet10t.c3_in1k",
)
LIBRARIES = ("zoo-vision", "torch", "timm", "safetensors", "huggingface_hub", "hf-xet", "numpy")
PHOTOGRAPH = "probe.png"


def run_one(name: str) -> dict[str, Any]:
    """Returns what becomes of ``name`` in this process; raises Zoo's errors."""
    started = time.perf_counter()
    import zoo
    import zoo.verify
    from zoo.verify import worker

    imported = time.perf_counter()
    file = Path(zoo.fetch(name))
    fetched = time.perf_counter()
    model = zoo.create(name).eval()
    created = time.perf_counter()
    known = model.zoo_info.weights
    assert known is not None
    [likeliest] = zoo.predict(model, Path(zoo.verify.__file__).with_name(PHOTOGRAPH))
    predicted = time.perf_counter()
    with file.open("rb") as opened:
        got = hashlib.file_digest(opened, "sha256").hexdigest()
    if got != known.sha256:
        raise SystemExit(f"{file} has sha256 {got}, but {name} is pinned to {known.sha256}")
    verified = worker.verify(name, deep=True)
    return {
        "sha256": got,
        "commit": known.revision,
        "bytes": file.stat().st_size,
        "source": f"{known.hub}: {known.path}",
        "verified": f"{verified.tensors} tensors fit",
        "seconds": {
            "import": imported - started,
            "fetch": fetched - imported,
            "create": created - fetched,
            "predict": predicted - created,
        },
        "classes": [[row.class_name, row.probability] for row in likeliest],
    }


def start_one(name: str, timeout: float) -> dict[str, Any]:
    """Returns the result of :func:`run_one` in a new process with empty folders, or ``error``."""
    with tempfile.TemporaryDirectory() as folder:
        places = {"ZOO_CACHE": "cache", "ZOO_CONFIG": "config", "HF_HUB_CACHE": "hub"}
        environment = os.environ | {variable: f"{folder}/{place}" for variable, place in places.items()}
        command = [sys.executable, __file__, "--one", name]
        try:
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            return {"error": f"not finished after {timeout:g} s"}
        if done.returncode == 0:
            result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            return result
        return {"error": done.stderr.replace(folder, "...").strip()[-2000:] or f"exit status {done.returncode}"}


def report_of(results: dict[str, dict[str, Any]]) -> str:
    """Returns the report in Markdown."""
    from zoo.hub import huggingface

    rows, details = [], []
    for name, result in results.items():
        if "error" in result:
            rows.append((name, "**failed**", "", "", "", "", "", ""))
            details.append(f"### {name}\n\n```text\n{result['error'].replace('```', '` ` `')}\n```\n")
            continue
        took, (likeliest, share) = result["seconds"], result["classes"][0]
        rows.append(
            (
                name,
                "ok",
                f"{took['fetch']:.1f}",
                f"{took['create']:.2f}",
                f"{result['bytes'] / 1e6:.1f}",
                result["sha256"][:12],
                result["commit"][:7] or "none",
                f"{likeliest} ({share:.1%})",
            )
        )
        lines = [f"- {label}: {probability:.2%}" for label, probability in result["classes"]]
        facts = f"`{result['source']}`, {result['bytes']:,} bytes, {result['verified']}"
        hashes = f"sha256 `{result['sha256']}`, commit `{result['commit'] or 'none'}`"
        details.append(f"### {name}\n\n{facts}\n{hashes}\n\n" + "\n".join(lines) + "\n")
    head = ("name", "result", "fetch s", "create s", "MB", "sha256", "commit", "likeliest class")
    failed = sum("error" in result for result in results.values())
    versions = [f"- {library} {_version(library)}" for library in LIBRARIES]
    about = [f"- Python {platform.python_version()}, {platform.platform()}", f"- hub: {huggingface.host()}"]
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return "\n".join(
        [
            f"# Weights from the public hubs, {when}",
            "",
            f"{len(results) - failed} of {len(results)} names work.",
            "",
            table(head, rows),
            "",
            "## Versions",
            "",
            *versions,
            *about,
            "",
            "## Details",
            "",
            *details,
        ]
    )


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "is not installed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", default=NAMES, help="weights [default: a dozen]")
    parser.add_argument("--report", type=Path, metavar="FILE", help="where to write the report [default: print it]")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for each name [default: 1800]")
    parser.add_argument("--one", metavar="NAME", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        from zoo.errors import ZooError

        try:
            print(json.dumps(run_one(chosen.one)))
        except ZooError as error:
            sys.exit(f"{type(error).__name__}: {error}")
        return
    results = {}
    for name in chosen.names:
        print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
        results[name] = start_one(name, chosen.timeout)
        print("failed" if "error" in results[name] else "ok", file=sys.stderr, flush=True)
    report = report_of(results)
    if chosen.report:
        chosen.report.write_text(report, encoding="utf-8")
    else:
        print(report)
    sys.exit(any("error" in result for result in results.values()))


if __name__ == "__main__":
    main()

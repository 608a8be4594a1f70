"""Time and memory to create a network from a local file: ``zoo.create`` compared with ``timm.create_model``.

Both read the same safetensors file of timm's tensors. Zoo loads it by name, through the registry, a directory
hub and the verified cache; also from a ``.pth`` file with the same tensors, after its conversion. Measured in a
process that has imported everything, and in fresh processes. Run with
``make bench`` or ``python benchmarks/load.py [MODEL ...]``.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import Process, in_turns, table

MODELS = ("resnet152", "vgg16")
PYTHON = sys.executable

PREPARE = """
import hashlib, sys, timm, torch, safetensors.torch
from pathlib import Path
name, hub = sys.argv[1], Path(sys.argv[2])
state = timm.create_model(name).state_dict()
safetensors.torch.save_file(state, hub / f"{name}.safetensors")
torch.save(state, hub / f"{name}.pth")
with (hub / "manifest.toml").open("a") as manifest:
    for tag, suffix in (("benchmark", "safetensors"), ("pth", "pth")):
        file = hub / f"{name}.{suffix}"
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        manifest.write(f'[{name}.{tag}]\\nfile = "{file.name}"\\nsha256 = "{digest}"\\n')
import time, zoo
zoo.create(f"{name}.benchmark")
zoo.fetch(f"{name}.pth")
start = time.perf_counter()
zoo.create(f"{name}.pth")
print(f"{time.perf_counter() - start:.1f}")
"""

# Prints the median milliseconds of several calls, then the peak MB that the first call added.
WITHIN = """
import gc, resource, statistics, time, {imports}
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, taken = peak(), []
for call in range(7):
    start = time.perf_counter()
    model = {create}
    taken.append(time.perf_counter() - start)
    added = added if call else peak() - before
    del model
    gc.collect()
print(1e3 * statistics.median(taken), added)
"""

FRESH = """
import {imports}
model = {create}
"""


def main() -> None:
    names = sys.argv[1:] or MODELS
    with tempfile.TemporaryDirectory() as folder:
        hub = Path(folder, "hub")
        hub.mkdir()
        os.environ |= {"ZOO_HUB": str(hub), "ZOO_CACHE": str(Path(folder, "cache"))}
        for name in names:
            print(
                f"{name}: first use of the .pth file, conversion included: {_python(PREPARE, name, str(hub)).strip()} s"
            )
        head = ("in process", "zoo ms", "peak MB added", "from .pth ms", "peak MB added", "timm ms", "peak MB added")
        head += ("times faster",)
        print(table(head, [measure_within(name, hub) for name in names]))
        head = ("fresh process", "way", "s", "peak MB", "relative to torch alone (s, MB)", "times faster than timm")
        print(table(head, [row for name in names for row in measure_fresh(name, hub)]))


def calls(name: str, hub: Path) -> dict[str, str]:
    return {
        "zoo": f"zoo.create('{name}.benchmark')",
        "zoo from .pth": f"zoo.create('{name}.pth')",
        "timm": f"timm.create_model('{name}', checkpoint_path='{hub}/{name}.safetensors')",
    }


def measure_within(name: str, hub: Path) -> tuple[str, ...]:
    imports = dict.fromkeys(("zoo", "zoo from .pth"), "zoo, zoo.loading.create, zoo.loading") | {"timm": "timm"}
    results = {}
    for way, create in calls(name, hub).items():
        printed = _python(WITHIN.format(imports=imports[way], create=create))
        results[way] = [float(value) for value in printed.split()]
    ratio = results["timm"][0] / results["zoo"][0]
    return name, *(f"{value:.0f}" for way in results.values() for value in way), f"{ratio:.1f}"


def measure_fresh(name: str, hub: Path) -> list[tuple[str, ...]]:
    codes = {way: FRESH.format(imports=way.split()[0], create=create) for way, create in calls(name, hub).items()}
    codes["import torch alone"] = "import torch"
    results = in_turns({way: Process([PYTHON, "-c", code]) for way, code in codes.items()}, 5)
    floor, peer = results["import torch alone"], results["timm"]
    return [
        (
            name,
            way,
            f"{result.seconds:.2f}",
            f"{result.megabytes:.0f}",
            f"{result.seconds / floor.seconds:.2f}, {result.megabytes / floor.megabytes:.2f}",
            f"{peer.seconds / result.seconds:.1f}",
        )
        for way, result in results.items()
    ]


def _python(code: str, *arguments: str) -> str:
    return subprocess.run([PYTHON, "-c", code, *arguments], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()

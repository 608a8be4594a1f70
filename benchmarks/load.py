"""What creating a network from a local file costs: ``zoo.create`` against ``timm.create_model``.

Both read the same safetensors file, written here with timm's tensors; Zoo's comes by name, through the
registry, a directory hub and the verified cache. Once within a process that has imported everything, once
as fresh processes. Run with ``make bench`` or ``python benchmarks/load.py [MODEL ...]``.
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
import hashlib, sys, timm, safetensors.torch
from pathlib import Path
name, hub = sys.argv[1], Path(sys.argv[2])
file = hub / f"{name}.safetensors"
safetensors.torch.save_file(timm.create_model(name).state_dict(), file)
with (hub / "manifest.toml").open("a") as manifest:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    manifest.write(f'[{name}.benchmark]\\nfile = "{file.name}"\\nsha256 = "{digest}"\\n')
import zoo
zoo.fetch(f"{name}.benchmark")
"""

# Prints the median milliseconds of several calls, then the peak MB that the first added.
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
        environment = {"ZOO_HUB": str(hub), "ZOO_CACHE": str(Path(folder, "cache"))}
        os.environ |= environment
        within, fresh = [], []
        for name in names:
            _python(PREPARE, name, str(hub))
            ways = {
                "zoo": {"imports": "zoo, zoo.creation, zoo.load", "create": f"zoo.create('{name}.benchmark')"},
                "timm": {
                    "imports": "timm",
                    "create": f"timm.create_model('{name}', checkpoint_path='{hub}/{name}.safetensors')",
                },
            }
            inside = {way: tuple(map(float, _python(WITHIN.format(**code)).split())) for way, code in ways.items()}
            ratio = inside["timm"][0] / inside["zoo"][0]
            within.append((name, *(f"{value:.0f}" for way in inside.values() for value in way), f"{ratio:.1f}"))
            ways["zoo"]["imports"] = "zoo"
            processes = {way: Process([PYTHON, "-c", FRESH.format(**code)]) for way, code in ways.items()}
            processes["torch"] = Process([PYTHON, "-c", "import torch"])
            results = in_turns(processes, 5)
            for way, result in results.items():
                floor, peer = results["torch"], results["timm"]
                fresh.append(
                    (
                        name,
                        {"torch": "import torch alone"}.get(way, way),
                        f"{result.seconds:.2f}",
                        f"{result.megabytes:.0f}",
                        f"{result.seconds / floor.seconds:.2f}, {result.megabytes / floor.megabytes:.2f}",
                        f"{peer.seconds / result.seconds:.1f}",
                    )
                )
    print(table(("in process", "zoo ms", "peak MB added", "timm ms", "peak MB added", "times faster"), within))
    print(table(("fresh process", "way", "s", "peak MB", "of torch alone (s, MB)", "times faster than timm"), fresh))


def _python(code: str, *arguments: str) -> str:
    return subprocess.run([PYTHON, "-c", code, *arguments], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()

"""Start-up with many plugins: 1,000 distributions with 100 weights each, made in a temporary folder.

Run with ``python benchmarks/scale.py [PLUGINS [RUNS]]``. The first command makes the index; the others read it, in
turns. The table shows medians, minima and maxima in milliseconds, the least time of processors and the peak memory.
With 0 runs, the functions are printed in which the lists spend their time, in place of the table.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import Process, in_turns, run, table

WEIGHTS = 100
ROWS = """\
from zoo.spec import Model, Plugin

models = tuple(Model(f"{name}_{{i}}", build="{name}.model:build", params=1_000_000 + i) for i in range(10))
plugin = Plugin(name="{name}", api=1, models=models, weights=("{name}:weights.toml",))
"""
ENTRY = """\
[{name}_{model}.t{tag}]
repo = "someone/{name}_{model}.t{tag}"
file = "model.safetensors"
sha256 = "{digest:064x}"
size = 4000000
origin = "trained by someone"
classes = "imagenet-1k"
num_classes = 1000

[{name}_{model}.t{tag}.license]
weights = "Apache-2.0"

[{name}_{model}.t{tag}.scores."imagenet-1k/val"]
n = 50000
source = "someone"
top1 = 75.5
top5 = 92.5
"""


def install(site: Path, number: int) -> None:
    """Puts one distribution with ten models, each with ten weights, into the folder ``site``."""
    name = f"family{number:04}"
    info = site / f"zoo_{name}-1.0.dist-info"
    (site / name).mkdir(parents=True)
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: zoo-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[zoo.plugins]\n{name} = {name}:plugin\n")
    (site / name / "__init__.py").write_text(ROWS.format(name=name))
    entries = (
        ENTRY.format(name=name, model=i // 10, tag=i % 10, digest=number * WEIGHTS + i + 1) for i in range(WEIGHTS)
    )
    (site / name / "weights.toml").write_text("\n".join(entries))


def profile(words: list[str], environment: dict[str, str]) -> None:
    """Prints the functions of Zoo's command ``words`` that take the most time themselves."""
    command = [sys.executable, "-m", "cProfile", "-s", "tottime", "-m", "zoo", *words]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    _, head, functions = done.stdout.rpartition("   ncalls  tottime")
    print(head + "\n".join(functions.splitlines()[:15]), end="\n\n")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder, "site")
        for number in range(count):
            install(site, number)
        path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
        environment = {"PYTHONPATH": path, "ZOO_CACHE": f"{folder}/cache", "ZOO_HUB": "", "ZOO_OFFLINE": "1"}

        def zoo(*words: str, exit_code: int = 0) -> Process:
            return Process([sys.executable, "-m", "zoo", *words], environment, exit_code)

        made = run(zoo("list", "family0007*"))
        (index,) = Path(folder, "cache", "index").iterdir()
        print(f"{count:,} plugins, {count * WEIGHTS:,} weights, index of {index.stat().st_size / 1e6:.1f} MB")
        print(f"made in {made.seconds:.1f} s, {made.cpu:.1f} s of processors, {made.megabytes:.0f} MB\n")
        if not runs:
            for words in (["list", "family0007_3.*"], ["list"], ["list", "--pretrained"]):
                print("zoo", *words, flush=True)
                profile(words, environment)
            return
        results = in_turns(
            {
                "zoo list": zoo("list"),
                "zoo list --pretrained": zoo("list", "--pretrained"),
                "zoo list 'family0007*'": zoo("list", "family0007*"),
                "zoo list 'family0007_3.*'": zoo("list", "family0007_3.*"),
                "zoo info family0007_3": zoo("info", "family0007_3"),
                "zoo info family0007_3.t5": zoo("info", "family0007_3.t5"),
                "zoo info famly0007_3": zoo("info", "famly0007_3", exit_code=2),
                "zoo list famly0007_3": zoo("list", "famly0007_3"),
                "zoo plugins": zoo("plugins"),
            },
            runs,
        )
    rows = [
        (
            f"`{name}`",
            f"{1e3 * result.seconds:,.0f}",
            f"{1e3 * result.fastest:,.0f} to {1e3 * result.slowest:,.0f}",
            f"{1e3 * result.cpu:,.0f}",
            f"{result.megabytes:.0f}",
        )
        for name, result in results.items()
    ]
    print(table(("command", "ms", "range", "CPU ms", "peak MB"), rows))


if __name__ == "__main__":
    main()

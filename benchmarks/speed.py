"""``zoo benchmark`` beside a loop of timm's protocol: the same network, batch, precision and layout, in turns.

::

    python benchmarks/speed.py [MODEL ...] [--batch-size 8] [--runs 5] [--precision bfloat16]

timm does not install its ``benchmark.py``; ``THEIRS`` follows it: ``timm.create_model``, ``randn``, ten steps of
warm-up, forty timed ones, images over elapsed seconds. Both processes keep freed memory.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

from measure import table

THEIRS = """
import sys, time, json
import timm, torch

name, batch, precision, steps = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
dtype = getattr(torch, precision)
model = timm.create_model(name).eval().to(dtype=dtype, memory_format=torch.channels_last)
images = torch.randn(batch, *model.default_cfg["input_size"], dtype=dtype).contiguous(memory_format=torch.channels_last)
with torch.inference_mode():
    for _ in range(10):
        model(images)
    started = time.perf_counter()
    for _ in range(steps):
        model(images)
    taken = time.perf_counter() - started
print(json.dumps(batch * steps / taken))
"""

KEEPS_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}


def ours(name: str, batch: int, precision: str, steps: int) -> float:
    words = ["benchmark", name, "--batch-size", batch, "--precision", precision, "--steps", steps, "--seconds", 1e6]
    return float(json.loads(_run("-m", "zoo", *words, "--json"))[0]["images_per_s"])


def theirs(name: str, batch: int, precision: str, steps: int) -> float:
    return float(json.loads(_run("-c", THEIRS, name, batch, precision, steps)))


def _run(*words: object) -> str:
    command = [sys.executable, *map(str, words)]
    environment = {**os.environ, **KEEPS_MEMORY}
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["resnet50", "vgg16", "densenet121"])
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    rows = []
    for name in given.models:
        arguments = (name, given.batch_size, given.precision, given.steps)
        pairs = [(ours(*arguments), theirs(*arguments)) for _ in range(given.runs)]
        mine, other = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratios = [a / b for a, b in pairs]
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        rows.append((name, f"{mine:.2f}", f"{other:.2f}", f"{statistics.median(ratios):.3f}", spread))
    print(table(("model", "zoo images/s", "timm images/s", "zoo / timm", "range"), rows))


if __name__ == "__main__":
    main()

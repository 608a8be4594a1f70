"""Evaluation of photographs beside timm: decoding, preprocessing and the network, in turns.

::

    ZOO_DATA=... python benchmarks/evaluate.py [--model resnet50] [--runs 5] [--copies 4]

The photographs are those of ``imagenet_val_128.tar``, ``--copies`` times. ``THEIRS`` is the loop of timm's
``validate.py``: its data set, its loader with as many workers as cores, ``inference_mode``. timm runs as it comes, and
with ``--amp bfloat16 --channels-last``; Zoo runs as it comes, with ``--compile`` and with ``--precision bfloat16``.
``--int8 FILE.onnx`` adds a file that ``zoo export --precision int8`` wrote, which onnxruntime runs.
Weights are random: speed does not depend on them. A compiled run is timed from its fifth batch on, when compiling and
the photographs decoded meanwhile are over; the seconds to there are printed apart.

The second table has milliseconds of processors for each photograph, which other programs disturb less, and beside them
what bounds them: decoding the JPEG alone (Pillow), and the network alone in torch, as timm runs it, on a fixed batch.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from measure import table

OURS = """
import json, os, sys, time
import zoo

name, folder, (precision, *compiled), batch = sys.argv[1], sys.argv[2], sys.argv[3].split("+"), int(sys.argv[4])
used = lambda: sum(os.times()[:4])
moments, started, before = [], time.perf_counter(), used()
model = name if name.endswith(".onnx") else zoo.create(name)
report = zoo.evaluate(
    model, folder, "validation", batch_size=batch, dtype=precision, compile=bool(compiled),
    progress=lambda done, total: moments.append((done, time.perf_counter(), used())),
)
speed, cost = report.images_per_s, (used() - before) / report.n
if compiled:
    done, moment, then = moments[min(4, len(moments) - 2)]
    speed = (report.n - done) / (moments[-1][1] - moment)
    cost = (moments[-1][2] - then) / (report.n - done)
    print(f"{done} images after {moment - started:.0f} s", file=sys.stderr)
print(json.dumps([report.n, speed, cost]))
"""

THEIRS = """
import json, os, sys, time
import timm, torch
from timm.data import create_loader, resolve_data_config
from timm.data.dataset import ImageDataset

name, folder, precision, batch = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
model = timm.create_model(name).eval()
config = resolve_data_config({}, model=model)
data = ImageDataset(folder + "/validation")
loader = create_loader(data, input_size=config["input_size"], batch_size=batch, use_prefetcher=False,
    interpolation=config["interpolation"], mean=config["mean"], std=config["std"], crop_pct=config["crop_pct"],
    num_workers=os.cpu_count(), device=torch.device("cpu"))
used = lambda: sum(os.times()[:4])
is_fast = precision == "bfloat16"
if is_fast:
    model = model.to(memory_format=torch.channels_last)
done, right, started, before = 0, 0, time.perf_counter(), used()
with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=is_fast):
    for images, labels in loader:
        if is_fast:
            images = images.contiguous(memory_format=torch.channels_last)
        right += int((model(images).argmax(1) == labels).sum())
        done += len(images)
speed = done / (time.perf_counter() - started)  # its workers have ended, so that their time counts
print(json.dumps([done, speed, (used() - before) / done]))
"""

DECODE = """
import json, sys, time
from pathlib import Path
from PIL import Image

files = [*Path(sys.argv[2]).rglob("*.JPEG"), *Path(sys.argv[2]).rglob("*.jpg"), *Path(sys.argv[2]).rglob("*.jpeg")]
started, before = time.perf_counter(), time.process_time()
for file in files:
    Image.open(file).convert("RGB").load()
n = len(files)
print(json.dumps([n, n / (time.perf_counter() - started), (time.process_time() - before) / n]))
"""

NETWORK = """
import json, sys, time
import timm, torch

name, precision, batch = sys.argv[1], sys.argv[3], int(sys.argv[4])
is_fast = precision == "bfloat16"
layout = torch.channels_last if is_fast else torch.contiguous_format
model = timm.create_model(name).eval().to(memory_format=layout)
images = torch.randn(batch, 3, 224, 224).contiguous(memory_format=layout)
count = max(1, 128 // batch)
with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=is_fast):
    model(images)
    started, before = time.perf_counter(), time.process_time()
    for _ in range(count):
        model(images)
n = count * batch
print(json.dumps([n, n / (time.perf_counter() - started), (time.process_time() - before) / n]))
"""

RUNS = {
    "timm": (THEIRS, "float32"),
    "zoo": (OURS, "float32"),
    "zoo, compiled": (OURS, "float32+compiled"),
    "timm, bfloat16, channels_last": (THEIRS, "bfloat16"),
    "zoo, bfloat16": (OURS, "bfloat16"),
    "zoo, bfloat16, compiled": (OURS, "bfloat16+compiled"),
}
BOUNDS = {
    "JPEG alone": (DECODE, ""),
    "network alone": (NETWORK, "float32"),
    "network alone, bfloat16, channels_last": (NETWORK, "bfloat16"),
}


def unpack(archive: Path, folder: Path, copies: int) -> None:
    """Writes ``copies`` of each photograph to ``folder/validation/<class>``, classes in label order."""
    with tarfile.open(archive) as opened:
        opened.extractall(folder / "all", filter="data")
    [listing] = (folder / "all").rglob("labels.csv")
    for row in csv.reader(listing.read_text().splitlines()[1:]):
        [photograph] = (folder / "all").rglob(row[0])
        place = folder / "photographs" / "validation" / f"{int(row[1]):04d}"
        place.mkdir(parents=True, exist_ok=True)
        for copy in range(copies):
            os.link(photograph, place / f"{copy}_{photograph.name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--int8", help="the same network in int8, FILE.onnx")
    given = parser.parse_args()
    if given.int8:
        RUNS["zoo, int8"] = (OURS, "float32")
    speeds: dict[str, list[float]] = {name: [] for name in RUNS | BOUNDS}
    costs: dict[str, list[float]] = {name: [] for name in RUNS | BOUNDS}
    with tempfile.TemporaryDirectory() as folder:
        unpack(Path(os.environ["ZOO_DATA"], "imagenet_val_128.tar"), Path(folder), given.copies)
        for _ in range(given.runs):
            for name, (code, precision) in (RUNS | BOUNDS).items():
                model = given.int8 if "int8" in name else given.model
                words = [model, str(Path(folder, "photographs")), precision, str(given.batch_size)]
                command = [sys.executable, "-c", code, *words]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                count, speed, cost = json.loads(done.stdout)
                assert name in BOUNDS or count == 128 * given.copies, count
                speeds[name].append(speed)
                costs[name].append(1000 * cost)
    names = list(RUNS)
    rows = []
    for mine, other in ((1, 0), (2, 0), (4, 3), (5, 3), *([(6, 3)] if given.int8 else [])):
        mine, other = names[mine], names[other]
        ratios = [a / b for a, b in zip(speeds[mine], speeds[other], strict=True)]
        medians = [f"{statistics.median(speeds[name]):.1f}" for name in (mine, other)]
        rows.append((mine, *medians, f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}"))
    print(table(("run", "zoo images/s", "timm images/s", "times faster", "range"), rows))
    rows = [(name, f"{statistics.median(ms):.1f}", f"{min(ms):.1f} to {max(ms):.1f}") for name, ms in costs.items()]
    print(table(("run", "CPU ms a photograph", "range"), rows))


if __name__ == "__main__":
    main()

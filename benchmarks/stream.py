"""Images per second from shards to the network's input, for Zoo and for webdataset.

``python benchmarks/stream.py FOLDER`` writes the images of FOLDER (one folder per class) into shards,
resized to ``--height`` pixels if given, and reads them with random crops of 224 x 224 and flips: with Zoo, and with
webdataset, a DataLoader and torchvision, alternating, on one core and on two. CPU time per image is
meaningful even if other programs are running.
"""

import argparse
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from measure import table
from PIL import Image

import zoo.data as datasets
from zoo.spec import Preprocess
from zoo.system.machine import keep_freed_memory
from zoo.training import Recipe
from zoo.training.inputs import StreamedBatches

SIZE, BATCH, AHEAD = 224, 64, 8
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--height", type=int, help="Resize images to this height first, JPEG quality 92.")
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop", help=argparse.SUPPRESS)
    parser.add_argument("--cores", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.loop:
        print(json.dumps(measure(given.loop, given.folder, given.cores)))
        return
    with tempfile.TemporaryDirectory() as shards:
        size = write(given.folder, Path(shards), given.images, given.height)
        runs: dict[tuple[str, int], list[list[float]]] = {}
        for _ in range(given.rounds):
            for loop in LOOPS:
                for cores in (1, 2):
                    command = [sys.executable, __file__, shards, "--loop", loop, "--cores", str(cores)]
                    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                    runs.setdefault((loop, cores), []).append(json.loads(answer.splitlines()[-1]))
    rows = []
    for (loop, cores), results in runs.items():
        rates, costs = zip(*results, strict=True)
        spread = f"{statistics.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f})"
        rows.append((loop, str(cores), spread, f"{statistics.median(costs):.2f}"))
    print(f"Images of {size / 1e3:.0f} kB; median of {given.rounds}.\n")
    print(table(("loop", "cores", "images/s", "CPU ms an image"), rows))


def write(folder: Path, shards: Path, count: int, height: int | None) -> float:
    """Writes ``count`` of the images into shards of 250; returns the mean size of a file in bytes."""
    images = datasets.load(folder, "train")
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:count]
    few = images.subset(chosen, "train")
    if height is not None:
        few = datasets.ImageSet(
            few.name, "train", few.classes, few.labels, read=_Scaled(few, height), channels=few.channels
        )
    datasets.write_shards(few, shards, per_shard=250)
    return sum(file.stat().st_size for file in shards.glob("*.tar")) / len(few)


class _Scaled:
    """The images of ``images``, scaled to ``height`` and encoded again."""

    def __init__(self, images: datasets.ImageSet, height: int) -> None:
        self.images, self.height = images, height

    def __call__(self, index: int) -> Image.Image:
        image = self.images.image(index)
        return image.resize((round(image.width * self.height / image.height), self.height), Image.Resampling.BICUBIC)

    def encoded(self, index: int) -> bytes:
        file = io.BytesIO()
        self(index).convert("RGB").save(file, "JPEG", quality=92)
        return file.getvalue()


def measure(loop: str, shards: Path, cores: int) -> tuple[float, float]:
    """Returns images per second, and CPU milliseconds per image.

    The wall time is measured between two batches in the middle, because reading ahead of the first batch is not timed.
    The CPU time is that of all images.
    """
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    torch.set_num_threads(cores)
    used, moments, images = processor_seconds(), [], 0
    for pixels, _ in LOOPS[loop](shards, cores):
        moments.append(time.perf_counter())
        images += len(pixels)
    first, last = AHEAD, len(moments) - AHEAD
    rate = (last - first) * BATCH / (moments[last] - moments[first])
    return rate, 1e3 * (processor_seconds() - used) / images


def processor_seconds() -> float:
    """Returns the CPU time of this process and its ended children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def zoo(shards: Path, cores: int) -> Iterator[Any]:
    keep_freed_memory()  # as training does
    stream = datasets.open_stream(shards)
    assert stream is not None
    augment = datasets.Augmentation(resized_crop=datasets.ResizedCrop(), flip=True)
    preprocess = Preprocess(input_size=(3, SIZE, SIZE), mean=MEAN, std=STD)
    return StreamedBatches(stream, Recipe(batch_size=BATCH, augment=augment), preprocess, torch.device("cpu")).epoch(0)


def peers(shards: Path, cores: int) -> Iterator[Any]:
    import webdataset
    from torchvision import transforms

    varied = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    files = sorted(map(str, shards.glob("*.tar")))
    rows = webdataset.WebDataset(files, shardshuffle=100).shuffle(8192 // 16)
    decoded = rows.decode("pilrgb").to_tuple("jpg;png", "cls").map_tuple(varied, int).batched(BATCH)
    return iter(torch.utils.data.DataLoader(decoded, batch_size=None, num_workers=cores))


LOOPS = {"Zoo": zoo, "webdataset, DataLoader, torchvision": peers}


if __name__ == "__main__":
    main()

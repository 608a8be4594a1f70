"""Effect of single settings on training speed: ResNet-20 on CIFAR-10 with Zoo's other defaults.

Loops alternate as in ``train.py``. Run with ``make bench`` or ``python benchmarks/levers.py [ROUNDS]``.
"""

import io
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from loops import network, restore, store, train_zoo
from measure import table
from PIL import Image
from train import BATCHES, images_or_skip, rate, spread
from turns import Pace, take_turns

from zoo.data import ImageSet
from zoo.training import engine, optimization

WARM = 2
SECONDS = 1.5
DEFAULT = "Zoo's defaults"


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as folder:
        store(images_or_skip("train"), folder)
        for batch in BATCHES:
            compare(folder, batch, rounds)


def compare(folder: str, batch: int, rounds: int) -> None:
    loops = {name: [sys.executable, __file__, name, folder, str(batch)] for name in LEVERS}
    turns = take_turns(loops, rounds, WARM, SECONDS)
    default = rate(turns[DEFAULT], batch)
    rows = []
    for name, taken in turns.items():
        own = rate(taken, batch)
        first = taken[0].first - turns[DEFAULT][0].first
        rows.append((name, f"{own:.0f}", spread(taken, batch), f"{own / default:.2f}", f"{max(first, 0):.0f}"))
    print(table((f"batch {batch}", "images/s", "range", "fraction of default", "s more before the second step"), rows))


def return_freed_memory(pace: Pace, images: ImageSet, batch: int) -> None:
    with patch.object(engine, "keep_freed_memory"):
        train_zoo(pace, images, batch)


def read_each_image(pace: Pace, images: ImageSet, batch: int) -> None:
    """Decodes each image when it is needed, as for a folder of images that differ in size."""

    def encode(index: int) -> bytes:
        file = io.BytesIO()
        images.image(index).save(file, "PNG")
        return file.getvalue()

    def read(index: int) -> Image.Image:
        return Image.open(io.BytesIO(files[index])).convert("RGB")

    labels = images.labels[: 100 * batch]
    files = [encode(index) for index in range(len(labels))]
    train_zoo(pace, ImageSet("cifar10", "train", images.classes, labels, read=read, channels=3), batch)


def update_by(pace: Pace, images: ImageSet, batch: int, foreach: bool) -> None:
    """Makes the recipe's optimizer, but not fused."""
    chosen = optimization.create_optimizer

    def build(*arguments: Any) -> torch.optim.Optimizer:
        optimizer = chosen(*arguments)
        for group in optimizer.param_groups:
            group |= {"fused": False, "foreach": foreach}
        return optimizer

    with patch.object(engine, "create_optimizer", build):
        train_zoo(pace, images, batch)


def compile_network(pace: Pace, images: ImageSet, batch: int) -> None:
    model = network()
    model.compile()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder  # do not reuse compiled code of an earlier run
        train_zoo(pace, images, batch, model=model)


def flush_denormals(pace: Pace, images: ImageSet, batch: int) -> None:
    torch.set_flush_denormal(True)
    train_zoo(pace, images, batch)


def use_one_thread(pace: Pace, images: ImageSet, batch: int) -> None:
    torch.set_num_threads(1)
    train_zoo(pace, images, batch)


LEVERS: dict[str, Callable[[Pace, ImageSet, int], None]] = {
    DEFAULT: train_zoo,
    "freed memory returned to the system": return_freed_memory,
    "float32": partial(train_zoo, precision="float32"),
    "contiguous": partial(train_zoo, channels_last=False),
    "float32 and contiguous": partial(train_zoo, precision="float32", channels_last=False),
    "images decoded one by one": read_each_image,
    "foreach optimiser": partial(update_by, foreach=True),
    "for-loop optimiser": partial(update_by, foreach=False),
    "torch.compile": compile_network,
    "denormals flushed": flush_denormals,
    "one thread": use_one_thread,
}

if __name__ == "__main__":
    if len(sys.argv) == 4:
        name, folder, batch = sys.argv[1:]
        LEVERS[name](Pace(), restore(folder), int(batch))
    else:
        main()

"""Scores networks on the 128 photographs of ImageNet's validation set in ``imagenet_val_128.tar`` of ZOO_DATA.

``python benchmarks/photographs.py NAME...``: top-1 with Wilson's 95% interval, and the fingerprint; NAME may be an
exported file. ``--outputs FILE`` keeps the logits of one network, for ``zoo calibrate FILE``. The archive holds
``labels.csv`` (file, class index in torchvision's order) and the photographs as published; it is not in the repository,
as ImageNet's terms forbid to pass them on.
"""

import argparse
import csv
import io
import os
import tarfile
from pathlib import Path

import torch

import zoo
from zoo.data.image_file import read_image


def photographs(archive: Path) -> zoo.data.ImageSet:
    """Returns the photographs in the order of ``labels.csv``."""
    with tarfile.open(archive) as opened:
        files = {Path(member.name).name: opened.extractfile(member) for member in opened if member.isfile()}
        contents = {name: stream.read() for name, stream in files.items() if stream is not None}
    rows = [*csv.DictReader(io.StringIO(contents["labels.csv"].decode()))]
    return zoo.data.ImageSet(
        "imagenet_val_128",
        "validation",
        zoo.data.class_names("imagenet-1k"),
        torch.tensor([int(row["class_index"]) for row in rows]),
        read=lambda index: read_image(contents[rows[index]["file"]], rows[index]["file"], channels=3),
        channels=3,
    )


def main(names: list[str], outputs: Path | None) -> None:
    images = photographs(Path(os.environ["ZOO_DATA"], "imagenet_val_128.tar"))
    for name in names:
        report = zoo.evaluate(name, images, outputs=outputs)
        low, high = report.interval
        print(f"{name}: {report.top1:.2f}% ({report.correct} of {report.n}; 95% {low:.2f} to {high:.2f}, Wilson)")
        print(f"  top-5 {report.top5:.2f}%, loss {report.loss:.4f}, close {report.close}, {report.fingerprint}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="+")
    parser.add_argument("--outputs", type=Path)
    given = parser.parse_args()
    main(given.names, given.outputs)

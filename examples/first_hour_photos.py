"""Writes ``photos/train/CLASS/*`` and ``photos/test/CLASS/*``: of Caltech-101 in ``ZOO_DATA``, else digits."""

import os
import tarfile
from collections import Counter
from pathlib import Path, PurePosixPath

from PIL import Image

CLASSES = ("butterfly", "crab", "sunflower")
TRAIN, TEST = 20, 6


def write_photographs(archive: Path) -> None:
    counts: Counter[str] = Counter()
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            name = path.parent.name
            if not member.isfile() or name not in CLASSES or counts[name] == TRAIN + TEST:
                continue
            file = Path("photos", "train" if counts[name] < TRAIN else "test", name, path.name)
            counts[name] += 1
            file.parent.mkdir(parents=True, exist_ok=True)
            stream = tar.extractfile(member)
            assert stream is not None
            file.write_bytes(stream.read())


def write_digits() -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    counts: Counter[int] = Counter()
    for pixels, label in zip(digits.images, digits.target.tolist(), strict=True):
        if label > 2 or counts[label] == TRAIN + TEST:
            continue
        split = "train" if counts[label] < TRAIN else "test"
        folder = Path("photos", split, ("zero", "one", "two")[label])
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray((pixels * 15.9).astype("uint8")).resize((96, 96)).convert("RGB")
        image.save(folder / f"{counts[label]}.png")
        counts[label] += 1


if __name__ == "__main__":
    archive = Path(os.environ.get("ZOO_DATA", ""), "caltech101_h140.tar")
    if archive.is_file():
        write_photographs(archive)
    else:
        write_digits()

"""A few images of real data sets, in the layouts that ZOO_DATA has, for what runs on any amount of them."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from support.reference import real_data

TRAIN, TEST = 256, 64


def write_cifar10(folder: Path, split: str, count: int) -> None:
    """Returns the first ``count`` images of a split of CIFAR-10; skips where ZOO_DATA has them not."""
    name = f"{split}-00000-of-00001.parquet"
    (folder / "cifar10").mkdir(parents=True, exist_ok=True)
    rows = next(pq.ParquetFile(real_data(f"cifar10/{name}")).iter_batches(batch_size=count))
    pq.write_table(pa.Table.from_batches([rows]), folder / "cifar10" / name)


def write(folder: Path) -> Path:
    """Returns the first images of CIFAR-10, MNIST and Fashion-MNIST; skips where ZOO_DATA has them not."""
    for split, count in (("train", TRAIN), ("test", TEST)):
        write_cifar10(folder, split, count)
    with np.load(real_data("mnist.npz")) as arrays:
        cut = {key: value[: TRAIN if "train" in key else TEST] for key, value in arrays.items()}
    np.savez(folder / "mnist.npz", **cut)
    (folder / "fashion_mnist").mkdir()
    for file in real_data("fashion_mnist").glob("*.gz"):
        data, count = gzip.decompress(file.read_bytes()), TRAIN if "train" in file.name else TEST
        header = 16 if "images" in file.name else 8
        size = 28 * 28 if "images" in file.name else 1
        shape = data[:4] + count.to_bytes(4, "big") + data[8:header]
        (folder / "fashion_mnist" / file.name).write_bytes(gzip.compress(shape + data[header : header + count * size]))
    return folder

"""Measures exported files of one network: ``python benchmarks/exports.py FILE.onnx...``.

Top-1 on the 128 photographs of benchmarks/photographs.py, size, and milliseconds an image (the median of 30, one at a
time, one thread; files alternate). docs/export.md has its table for efficientnet_lite0.
"""

import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
from photographs import photographs

import zoo


def main(files: list[Path]) -> None:
    images = photographs(Path(os.environ["ZOO_DATA"], "imagenet_val_128.tar"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = {file: onnxruntime.InferenceSession(file, options) for file in files}
    spent: dict[Path, list[float]] = {file: [] for file in files}
    for turn in range(33):
        for file, session in sessions.items():
            [taken] = session.get_inputs()
            image = np.zeros((1, *taken.shape[1:]), np.uint8 if "uint8" in taken.type else np.float32)
            started = time.perf_counter()
            session.run(None, {taken.name: image})
            if turn >= 3:
                spent[file].append(1000 * (time.perf_counter() - started))
    for file in files:
        report = zoo.evaluate(str(file), images)
        size, speed = file.stat().st_size / 1e6, statistics.median(spent[file])
        print(f"{file.name}: {report.correct} of {report.n}, {size:.2f} MB, {speed:.1f} ms")


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])

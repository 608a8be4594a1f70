"""Which files of Zoo run a function in ``create``, ``fetch`` or one training batch: what their reader visits.

    python benchmarks/visited.py

Warm: everything was imported and the registry read once before, as in the second call of a program.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import zoo
from zoo import data

ROOTS = (Path(zoo.__file__).parent, Path(zoo.__file__).parents[1] / "plugins")


def visited(call: Callable[[], Any]) -> list[str]:
    """The files below ``ROOTS`` with a function that ``call`` runs in this thread, in order of the first one."""
    files: dict[str, None] = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_name != "<module>" and code.co_filename not in files:
            files[code.co_filename] = None

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(before)
    return [
        Path(file).relative_to(root.parent).as_posix()
        for file in files
        for root in ROOTS
        if Path(file).is_relative_to(root)
    ]


def train_one_batch() -> None:
    digits = data.load("digits", "train")
    with tempfile.TemporaryDirectory() as folder:
        zoo.train(
            "resnet20",
            digits.subset(range(16), "train"),
            settings={"epochs": 1, "batch_size": 16},
            output=Path(folder, "run"),
        )


CALLS: dict[str, Callable[[], Any]] = {
    'zoo.create("resnet20.digits")': lambda: zoo.create("resnet20.digits"),
    'zoo.fetch("resnet20.digits")': lambda: zoo.fetch("resnet20.digits"),
    "zoo.train, one batch": train_one_batch,
}


if __name__ == "__main__":
    for name, call in CALLS.items():
        call()
        files = visited(call)
        print(f"{name}: {len(files)} files", *files, sep="\n  ")

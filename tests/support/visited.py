"""Which files of Zoo run a function in ``create``, ``fetch``, ``predict``, one training batch and ``zoo list``.

    python tests/support/visited.py

Each call ran once before, so that everything is imported. The registry is read before, too, except for ``zoo list``:
there it is read from the index of plugins, or cold, from the plugins.
"""

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

from PIL import Image

import zoo
from zoo import data, registry
from zoo.cli import cli
from zoo.training.run import Silent

ROOTS = (Path(zoo.__file__).parent, Path(zoo.__file__).parents[1] / "plugins")


class Visits:
    """Notes files while it is on: those below ``ROOTS`` with a function that runs, in order of the first one."""

    def __init__(self) -> None:
        self._files: dict[str, None] = {}

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_name != "<module>":
            self._files[code.co_filename] = None

    def start(self) -> None:
        self._files.clear()
        sys.setprofile(self._note)

    def stop(self) -> list[str]:
        """Returns the files, relative to the repository, and as a module's name would have them:
        ``zoo/hub/cache.py``.
        """
        sys.setprofile(None)
        paths = [Path(file) for file in self._files]
        return [path.relative_to(root.parent).as_posix() for path in paths for root in ROOTS if root in path.parents]


def of_call(call: Callable[[], Any]) -> list[str]:
    call()
    visits = Visits()
    visits.start()
    try:
        call()
    finally:
        files = visits.stop()
    return files


def of_batch() -> list[str]:
    """Lists the files from the end of a training's second step to the end of its third."""
    visits, found = Visits(), []

    class Watch(Silent):
        def step(self, epoch: int, step: int, loss: float, lr: float) -> None:
            if step == 2:
                visits.start()
            elif step == 3:
                found[:] = visits.stop()

    with tempfile.TemporaryDirectory() as folder:
        zoo.train(
            "resnet20",
            data.load("digits", "train").subset(range(48), "train"),
            settings={"epochs": 1, "batch_size": 16, "warmup_epochs": 0},
            output=Path(folder, "run"),
            display=Watch(),
        )
    own = Path(__file__).name
    return [file for file in found if not file.endswith(own)]


def list_models(*, is_cold: bool = False) -> None:
    """Runs ``zoo list`` with a registry that is read from the index, or cold, from the plugins."""
    registry.clear()
    quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    with tempfile.TemporaryDirectory() as folder:
        cache = mock.patch.dict(os.environ, {"ZOO_CACHE": folder} if is_cold else {})
        with cache, quiet[0], quiet[1]:
            cli.main(["list"], standalone_mode=False)


def everything() -> dict[str, list[str]]:
    """Returns the files by what is done, in the order in which they are visited first."""
    picture = Image.new("L", (8, 8))
    return {
        'zoo.create("resnet20.digits")': of_call(lambda: zoo.create("resnet20.digits")),
        'zoo.fetch("resnet20.digits")': of_call(lambda: zoo.fetch("resnet20.digits")),
        "one training batch": of_batch(),
        'zoo.predict("resnet20.digits", picture)': of_call(lambda: zoo.predict("resnet20.digits", picture)),
        "zoo list": of_call(list_models),
        "zoo list, cold": of_call(lambda: list_models(is_cold=True)),
    }


if __name__ == "__main__":
    for name, files in everything().items():
        print(f"{name}: {len(files)} files", *files, sep="\n  ")

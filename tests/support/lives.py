"""Trainings in processes of their own, for tests that kill them."""

import itertools
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal, NamedTuple

Stage = Literal["half written", "written", "replaced"]
"""How far a checkpoint has come when its process is killed."""

ENVIRONMENT = {"OMP_NUM_THREADS": "1"}
"""Bits depend on the number of threads."""

_HEAVY = (
    "sklearn.datasets",
    "timm.optim",
    "timm.scheduler",
    "torch.utils.tensorboard",
    "zoo.cli.train",
    "zoo.training.by_name",
)


def begin(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Returns ``zoo WORDS`` in ``folder``, as a person starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "zoo", *words],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **ENVIRONMENT},
    )


def begin_quickly(folder: Path, *words: str, death: tuple[Stage, int] | None = None) -> BaseProcess:
    """Returns the same without the seconds that imports take: forked from a process that has done them.

    ``death`` names the write of a file, counted from 1, and its stage at which the process kills itself.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*_HEAVY, __name__])
    process = context.Process(target=_live, args=(folder, words, death))
    process.start()
    return process


def _live(folder: Path, words: tuple[str, ...], death: tuple[Stage, int] | None) -> None:
    import torch

    from zoo.cli import main

    torch.set_num_threads(1)
    os.chdir(folder)
    sys.stdout = sys.stderr = (folder / "said.txt").open("a")
    sys.argv = ["zoo", *words]
    if death is not None:
        _arm(*death)
    main()


def _arm(stage: Stage, number: int) -> None:
    """Kills this process at ``stage`` of its write of a file number ``number``."""
    fsync, replace, writes = os.fsync, os.replace, itertools.count(1)

    def fsync_or_die(descriptor: int) -> None:
        if stage == "half written" and next(writes) == number:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    def replace_or_die(source: str, target: Path) -> None:
        is_last = stage != "half written" and next(writes) == number
        if not is_last or stage == "replaced":
            replace(source, target)
        if is_last:
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync, os.replace = fsync_or_die, replace_or_die  # type: ignore[assignment]  # fewer arguments than they take


class Death(NamedTuple):
    """What a killed process left: was it killed in time, and the files of its unfinished writes."""

    was_killed: bool
    parts: list[str]


def kill_at_random(
    start: Callable[[], "subprocess.Popen[str] | BaseProcess"],
    run: Path,
    chance: random.Random,
    *,
    most: int,
    while_it_writes: bool = False,
) -> Death:
    """Starts a training in ``run``, lets it write some checkpoints, ``most`` at most, and kills it.

    The moment lies anywhere in the two steps after, or just where the next write is seen to have begun.
    """
    process = start()
    is_over = process.poll if isinstance(process, subprocess.Popen) else lambda: process.exitcode
    step = _wait_for_checkpoints(run / "checkpoint.safetensors", chance.randint(2, most), is_over)
    if while_it_writes:
        while not any(run.glob(".checkpoint*")) and is_over() is None:
            pass
    else:
        time.sleep(chance.uniform(0, 2 * step))
    process.kill()
    if isinstance(process, subprocess.Popen):
        process.communicate()
    else:
        process.join()
    return Death(is_over() == -signal.SIGKILL, [file.name for file in run.glob(".*")])


def _wait_for_checkpoints(checkpoint: Path, count: int, is_over: Callable[[], int | None]) -> float:
    """Returns once ``checkpoint`` has been written ``count`` times: the seconds from one to the next."""
    seen, moments = _stamp(checkpoint), []
    for _ in range(count):
        while (now := _stamp(checkpoint)) == seen and is_over() is None:
            time.sleep(0.001)
        seen = now
        moments.append(time.monotonic())
    return (moments[-1] - moments[0]) / (count - 1)


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns

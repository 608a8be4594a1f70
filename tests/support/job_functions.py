"""Functions that tests run as jobs."""

import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Any

from zoo.errors import DataError


def square(number: int) -> dict[str, int]:
    print(f"squaring {number}")
    return {"square": number * number, "process": os.getpid(), "threads": int(os.environ["OMP_NUM_THREADS"])}


def place() -> dict[str, int]:
    return {"session": os.getsid(0), "group": os.getpgid(0), "process": os.getpid(), "nice": os.nice(0)}


def read(file: str) -> str:
    return Path(file).read_text()


def gpu() -> str:
    return os.environ["CUDA_VISIBLE_DEVICES"]


def fail(how: str) -> None:
    if how == "crash":
        ctypes.string_at(0)
    if how == "exit":
        os._exit(3)
    if how == "killed":  # as the system does if memory runs out
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "memory":
        bytearray(1 << 60)
    if how == "error":
        raise DataError("no such images")
    raise RuntimeError("a mistake")


def keep_going(folder: str) -> Any:
    """Counts in a file until it is interrupted, then says so in another."""
    place, count = Path(folder), 0
    try:
        while True:
            count += 1
            (place / "count").write_text(str(count))
            time.sleep(0.02)
    except KeyboardInterrupt:
        (place / "kept").write_text(str(count))
        raise


def never_stop(folder: str) -> None:
    Path(folder, "count").write_text("0")
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            continue


def allocate(megabytes: int) -> int:
    return len(bytearray(b"x" * (megabytes << 20)))


def note(folder: str, name: str, seconds: float) -> str:
    """Takes a while, and leaves a line for each time that it was called."""
    with Path(folder, name).open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(seconds)
    return name


def refuse_signals(folder: str, name: str) -> str:
    """Raises KeyboardInterrupt the first time, and ends the second time."""
    place = Path(folder, name)
    if place.exists():
        return name
    place.write_text("begun")
    time.sleep(60)
    return ""

"""Other processes, as tests watch them."""

import time
from collections.abc import Callable
from pathlib import Path


def wait_for(claim: Callable[[], object], seconds: float = 120) -> None:
    """Returns as soon as ``claim`` holds; fails after some time."""
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def is_running(process: int) -> bool:
    """Returns whether there is a process of this number that is more than an entry in the system's table."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"

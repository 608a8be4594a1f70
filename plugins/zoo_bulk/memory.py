"""Memory of this machine and of processes, in bytes, as Linux states it. Elsewhere nothing is known."""

from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

USUAL = 1 << 30
"""The expected memory of a job, until the first has ended."""

RESERVE = 256 << 20
"""Memory left free: below it, one job is ended before the system ends one."""

PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def available() -> int | None:
    """Returns free memory of the machine, or of this process's control group if that has less."""
    machine = _field(PROC / "meminfo", "MemAvailable")
    left = [size for size in (machine, *_left_in_groups()) if size is not None]
    return min(left, default=None)


def fits(expected: int, running: Collection[int]) -> bool:
    """Returns whether a job that takes ``expected`` fits beside the processes ``running``, each of which may grow as
    large.
    """
    free = available()
    if free is None:
        return True
    growth = sum(max(0, expected - held(process)) for process in running)
    return free - growth - expected > RESERVE


def is_short() -> bool:
    """Returns whether less is left than the reserve."""
    free = available()
    return free is not None and free < RESERVE


def held(process: int) -> int:
    """Returns the resident memory of a process."""
    return _field(PROC / f"{process}/status", "VmRSS") or 0


def peak(process: int) -> int:
    """Returns the largest resident memory of a process since :func:`forget_peak`."""
    return _field(PROC / f"{process}/status", "VmHWM") or 0


def forget_peak(process: int) -> None:
    with suppress(OSError):
        (PROC / f"{process}/clear_refs").write_text("5")


def _field(file: Path, name: str) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        for line in file.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return None


def _left_in_groups() -> Iterable[int]:
    """Returns the free part of the limits of this process's control group and of its parents (version 2)."""
    with suppress(OSError):
        for line in (PROC / "self/cgroup").read_text(encoding="utf-8").splitlines():
            if line.startswith("0::/"):
                group = GROUPS / line.removeprefix("0::/")
                for folder in (group, *group.parents):
                    if folder.is_relative_to(GROUPS) and (left := _left_in(folder)) is not None:
                        yield left


def _left_in(group: Path) -> int | None:
    with suppress(OSError, ValueError):  # "max" means unlimited
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        pages = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return limit - used + int(pages.get("inactive_file", 0))
    return None

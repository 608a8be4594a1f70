"""Time and memory of whole processes, measured from outside."""

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Process(NamedTuple):
    """A command, additional environment variables, and the expected exit code."""

    command: Sequence[str]
    environment: Mapping[str, str] = {}
    exit_code: int = 0


class Run(NamedTuple):
    """One run: wall seconds, seconds of all processors, and the peak resident size."""

    seconds: float
    cpu: float
    megabytes: float


class Result(NamedTuple):
    """Medians of several runs; ``cpu`` is the least, which other programs disturb least."""

    seconds: float
    fastest: float
    slowest: float
    cpu: float
    megabytes: float


def run(process: Process) -> Run:
    """Runs ``process``. Raises for an unexpected exit code."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        # As installed: modules are compiled once.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", **process.environment}
        child = subprocess.Popen(process.command, env=environment, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != process.exit_code:
            errors.seek(0)
            raise SystemExit(f"{' '.join(process.command)} failed:\n{errors.read().decode()}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def in_turns(processes: Mapping[str, Process], runs: int) -> dict[str, Result]:
    """Runs each process ``runs`` times, alternating, after one warm-up run."""
    taken: dict[str, list[Run]] = {name: [] for name in processes}
    for round_ in range(runs + 1):
        for name, process in processes.items():
            result = run(process)
            if round_:
                taken[name].append(result)
    return {name: summarize(results) for name, results in taken.items()}


def summarize(results: Sequence[Run]) -> Result:
    seconds = [result.seconds for result in results]
    cpu, megabytes = min(result.cpu for result in results), statistics.median(result.megabytes for result in results)
    return Result(statistics.median(seconds), min(seconds), max(seconds), cpu, megabytes)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table with aligned columns."""
    lines = [head, ["-" * len(name) for name in head], *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines) + "\n"

"""Start-up time of ``zoo list`` and ``zoo info`` compared with listing by timm, in cold processes.

Run with ``make bench`` or ``python benchmarks/start.py [RUNS]``. Commands alternate, so that changes in
machine load affect all; the table shows medians, minima and maxima in milliseconds, and the least time of processors,
which other programs disturb least.
"""

import sys

from measure import Process, in_turns, table

PYTHON = sys.executable
LEAST = "import click, msgspec, importlib.metadata as m; m.entry_points()"
OFFLINE = {"ZOO_OFFLINE": "1", "ZOO_HUB": ""}
PROCESSES = {
    "python -c pass": Process([PYTHON, "-c", "pass"]),
    "click, msgspec, entry points": Process([PYTHON, "-c", LEAST]),
    "zoo list": Process([PYTHON, "-m", "zoo", "list"]),
    "zoo info": Process([PYTHON, "-m", "zoo", "info", "resnet152"]),
    "zoo plugins": Process([PYTHON, "-m", "zoo", "plugins"]),
    "zoo fetch, network off": Process([PYTHON, "-m", "zoo", "fetch", "resnet152.tv_in1k"], OFFLINE, exit_code=1),
    "timm.list_models": Process([PYTHON, "-c", "import timm; print(timm.list_models('*resnet*'))"]),
}


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    results = in_turns(PROCESSES, runs)
    peer = results["timm.list_models"].seconds
    rows = [
        (
            name,
            f"{1e3 * result.seconds:.0f}",
            f"{1e3 * result.fastest:.0f} to {1e3 * result.slowest:.0f}",
            f"{1e3 * result.cpu:.0f}",
            f"{result.megabytes:.0f}",
            f"{peer / result.seconds:.1f}",
        )
        for name, result in results.items()
    ]
    print(table(("cold process", "ms", "range", "CPU ms", "peak MB", "times faster than timm"), rows))


if __name__ == "__main__":
    main()

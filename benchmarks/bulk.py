"""Lists of jobs by the three engines: what a job costs beside a plain loop, and whether all find the same.

``python benchmarks/bulk.py overhead`` runs 1,000 jobs that do nothing, and 30 that sleep for a second, one at a time,
by each engine. ``python benchmarks/bulk.py weights --limit 200`` scores all embedded weights on the data sets of their
manifests by each engine, Ray's with two nodes; each is killed with SIGKILL in the middle and goes on. Without --limit
all images are used. Ray's cluster is on this machine.
"""

import argparse
import contextlib
import hashlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from measure import table

from zoo.registry import listing
from zoo_bulk.jobs import NAMES, Job, Store, run

TINY, SLEEPING = 1000, 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["overhead", "weights"])
    parser.add_argument("--limit", type=int, help="images of each data set")
    parser.add_argument("--engine", choices=NAMES, action="append", help="repeatable; all by default")
    asked = parser.parse_args()
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    chosen = asked.engine or NAMES
    print(f"load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")
    rows = [overhead(name) for name in chosen] if asked.what == "overhead" else weights(chosen, asked.limit)
    titles = {
        "overhead": ("engine", "start, s", "a tiny job, ms", "a job of 1 s, ms more", "per cent"),
        "weights": ("engine", "whole, s", "CPU, s", "killed after", "then, s", "results.csv"),
    }
    print(table(titles[asked.what], rows))


def overhead(engine: str) -> tuple[str, ...]:
    """Returns what the engine adds to a job, after its own start: the seconds until the first job has ended."""
    settings = {"cluster": "local"} if engine == "submitit" else {}
    found = []
    with tempfile.TemporaryDirectory() as name:
        for seconds, count in ((0.0, TINY), (1.0, SLEEPING)):
            folder = Path(name, str(count), "jobs")
            folder.mkdir(parents=True)
            log = folder / "log"
            arguments = {"seconds": seconds}
            jobs = [Job(str(n), f"{Path(__file__).stem}:sleep", arguments, log, str(n)) for n in range(count)]
            began = time.time()
            run(jobs, Store(folder), engine=engine, settings=settings, at_once=1, threads=1)
            times = [file.stat().st_mtime for file in folder.glob("*.json")]
            first, last = min(times), max(times)
            found.append((first - seconds - began, (last - first) / (count - 1) - seconds))
    (start, tiny), (_, more) = found
    return engine, f"{start:.1f}", f"{1000 * tiny:.1f}", f"{1000 * more:.1f}", f"{100 * more:.1f}"


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def weights(chosen: "list[str] | tuple[str, ...]", limit: int | None) -> list[tuple[str, ...]]:
    """Scores all embedded weights by each engine: as a whole, and killed in the middle."""
    lines = listing.select("*", family=None, dataset=None, license=None, max_params=None, pretrained=True)
    names = [line.name for line in lines if line.weights is not None and line.weights.hub.startswith("embedded:")]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for engine in chosen:
            folder, killed = Path(name, engine), Path(name, f"{engine}-killed")
            with settings_of(engine) as settings:
                words = [*names, *settings, *(["--limit", str(limit)] if limit else [])]
                whole, cpu = evaluate(words, folder)
                done = evaluate_and_kill(words, killed, len(names) // 3)
                again, _ = evaluate(words, killed)
            same = hashes(folder) | hashes(killed)
            found = ", ".join(digest[:12] for digest in same)
            rows.append((engine, f"{whole:.0f}", f"{cpu:.0f}", f"{done} jobs", f"{again:.0f}", found))
            print(*rows[-1], flush=True)
    return rows


def command(words: list[str], folder: Path) -> list[str]:
    return [sys.executable, "-m", "zoo", "bulk", "evaluate", *words, "-o", str(folder)]


def evaluate(words: list[str], folder: Path) -> tuple[float, float]:
    """Seconds, and those of processors where they are of this process's children."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    code = subprocess.run(command(words, folder), stdout=subprocess.DEVNULL).returncode
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert code == 0, f"exit code {code}"
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - began, cpu


def evaluate_and_kill(words: list[str], folder: Path, count: int) -> int:
    """Kills the command when ``count`` jobs have ended; returns how many have."""
    with subprocess.Popen(command(words, folder), stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and len([*folder.glob("jobs/*.json")]) < count:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    return len([*folder.glob("jobs/*.json")])


def hashes(folder: Path) -> set[str]:
    return {hashlib.sha256((folder / "results.csv").read_bytes()).hexdigest()}


@contextlib.contextmanager
def settings_of(engine: str) -> Iterator[list[str]]:
    """Yields the options of the engine; for Ray, of a cluster of two nodes that lives as long as the block."""
    words = ["--engine", engine, "--threads", "1"]
    if engine != "ray":
        yield [*words, *(["--engine-arg", "cluster=local"] if engine == "submitit" else [])]
        return
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    cluster.add_node(**small)
    cluster.wait_for_nodes()
    try:
        yield [*words, "--engine-arg", f"address={cluster.address}"]
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()

"""Download speed: Zoo compared with ``hf_hub_download``, and with plain reading, hashing and writing.

One file of 500 MB from one server on loopback. Each fetch runs in a fresh process with an empty cache, and the order
alternates. The time of a call excludes imports, that of a process includes them. The server counts the bytes. Run
with ``make bench`` or ``python benchmarks/fetch.py [--rounds N] [--json]``.

``plain`` is the floor: the standard library's client, sha256 and one write per chunk, an fsync.
``hf_hub_download`` neither hashes nor syncs; ``and sha256`` reads its file again, which is necessary for the
same guarantee.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from measure import table

TESTS = Path(__file__).parents[1] / "tests"
REPO, FILE = "zoo/benchmark", "model.safetensors"

# Serves until standard input ends; prints the bytes sent so far for every input line.
SERVE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from support.hub_server import HubServer
with HubServer(Path(sys.argv[2])) as server:
    commit = server.commit(sys.argv[3], {sys.argv[4]: Path(sys.argv[5]).read_bytes()})
    print(server.url, server.mirror_url, commit, flush=True)
    for _ in sys.stdin:
        print(sum(request.sent for request in server.requests), flush=True)
"""

# Each prints the seconds of its call and the path of the file.
ZOO = """
import time
from pathlib import Path
import zoo
from zoo import hub
from zoo.manifest import Weights
weights = Weights(
    file="{file}", arch="benchmark", tag="x", repo="{repo}", revision="{commit}", sha256="{sha256}", size={size}
)
start = time.perf_counter()
path = hub.fetch(weights)
print(time.perf_counter() - start, path)
"""

HF = """
import time
from huggingface_hub import hf_hub_download
start = time.perf_counter()
path = hf_hub_download("{repo}", "{file}", revision="{commit}")
print(time.perf_counter() - start, path)
"""

HF_HASHED = """
import hashlib, time
from huggingface_hub import hf_hub_download
start = time.perf_counter()
path = hf_hub_download("{repo}", "{file}", revision="{commit}")
with open(path, "rb") as opened:
    assert hashlib.file_digest(opened, "sha256").hexdigest() == "{sha256}"
print(time.perf_counter() - start, path)
"""

PLAIN = """
import hashlib, os, time
from urllib.request import urlopen
start = time.perf_counter()
hasher, path = hashlib.sha256(), "{cache}/plain"
with urlopen("{mirror}/{repo}/{file}") as answer, open(path, "wb", buffering=0) as out:
    while chunk := answer.read(1 << 16):
        hasher.update(chunk)
        out.write(chunk)
    os.fsync(out.fileno())
assert hasher.hexdigest() == "{sha256}"
print(time.perf_counter() - start, path)
"""

WAYS = {"plain": PLAIN, "zoo": ZOO, "hf_hub_download": HF, "hf_hub_download and sha256": HF_HASHED}


class Taken(NamedTuple):
    """One fetch: seconds of the call, of the whole process, and of CPU time; bytes that the server sent."""

    call: float
    process: float
    cpu: float
    sent: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        taken = measure(Path(text), arguments.megabytes * 1_000_000, arguments.rounds)
    rows = {name: summarize(results, taken["zoo"]) for name, results in taken.items()}
    print(json.dumps(rows, indent=2) if arguments.json else shown(rows))


def measure(folder: Path, size: int, rounds: int) -> dict[str, list[Taken]]:
    """Runs each way ``rounds`` times, after one warm-up round."""
    content = hashlib.shake_256(b"benchmark").digest(1_000_000) * (size // 1_000_000)
    known = {"repo": REPO, "file": FILE, "size": str(len(content)), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / FILE).write_bytes(content)
    taken: dict[str, list[Taken]] = {name: [] for name in WAYS}
    with server(folder) as (process, addresses):
        known |= dict(zip(("endpoint", "mirror", "commit"), addresses, strict=True))
        for round_ in range(rounds + 1):
            for name in WAYS if round_ % 2 else reversed(WAYS):
                result = fetch(WAYS[name], known, folder / "cache", process)
                if round_:
                    taken[name].append(result)
    return taken


@contextmanager
def server(folder: Path) -> Iterator[tuple["subprocess.Popen[str]", list[str]]]:
    command = [sys.executable, "-c", SERVE, str(TESTS), str(folder / "server"), REPO, FILE, str(folder / FILE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().split()
        process.communicate()


def fetch(script: str, known: Mapping[str, str], folder: Path, serving: "subprocess.Popen[str]") -> Taken:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.sync()  # do not wait for pending writes of the previous run
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "ZOO_"))},
        "HF_ENDPOINT": known["endpoint"],
        "HF_HOME": str(folder / "huggingface"),
        "HF_HUB_DISABLE_XET": "1",  # the server speaks the older protocol
        "ZOO_CACHE": str(folder / "zoo"),
        "NO_PROXY": "127.0.0.1",
    }
    before, cpu_before = sent_by(serving), cpu_of_children()
    start = time.perf_counter()
    code = script.format(**known, cache=folder)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stderr)
    call, _, path = done.stdout.partition(" ")
    with open(path.strip(), "rb") as opened:
        assert hashlib.file_digest(opened, "sha256").hexdigest() == known["sha256"]
    return Taken(float(call), seconds, cpu_of_children() - cpu_before, sent_by(serving) - before)


def cpu_of_children() -> float:
    """Returns CPU seconds of processes that have ended, so without the server."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def sent_by(serving: "subprocess.Popen[str]") -> int:
    assert serving.stdin is not None
    assert serving.stdout is not None
    serving.stdin.write("\n")
    serving.stdin.flush()
    return int(serving.stdout.readline())


def summarize(results: list[Taken], zoo: list[Taken]) -> dict[str, float | int]:
    calls = [result.call for result in results]
    return {
        "call_s": statistics.median(calls),
        "fastest_s": min(calls),
        "slowest_s": max(calls),
        "process_s": statistics.median(result.process for result in results),
        "cpu_s": statistics.median(result.cpu for result in results),
        "bytes": max(result.sent for result in results),
        "of_zoo": statistics.median(calls) / statistics.median(result.call for result in zoo),
        "process_of_zoo": statistics.median(result.process for result in results)
        / statistics.median(result.process for result in zoo),
    }


def shown(rows: Mapping[str, Mapping[str, float]]) -> str:
    head = (
        "way",
        "call s",
        "range",
        "process s",
        "cpu s",
        "bytes sent",
        "call, relative to Zoo",
        "process, relative to Zoo",
    )
    return table(
        head,
        [
            (
                name,
                f"{row['call_s']:.2f}",
                f"{row['fastest_s']:.2f} to {row['slowest_s']:.2f}",
                f"{row['process_s']:.2f}",
                f"{row['cpu_s']:.2f}",
                f"{row['bytes']:,}",
                f"{row['of_zoo']:.2f}",
                f"{row['process_of_zoo']:.2f}",
            )
            for name, row in rows.items()
        ],
    )


if __name__ == "__main__":
    main()

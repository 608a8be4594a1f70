"""Attacks one cache with processes of several users that fetch the same files, are killed, and have no locks.

::

    python tests/support/cache_attack.py --runs 100 --processes 8

Each run begins with an empty cache; killed processes are replaced. A process checks the bytes that it got, and again
through the mapping at its end. In every second run, processes take all others for dead, as containers may that share
a host name. Root runs it with two users: in a folder that their group shares, and in one that everybody may write to.
There, the umask may close a file to the other user, which is the only error that is allowed, and is counted.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

sys.path[:0] = [str(Path(__file__).parents[1])]

from support.hub_server import HubServer  # noqa: E402

from zoo.manifest import Weights  # noqa: E402

GROUP = 12400
USERS = (12345, 12346)
UMASKS = (0o022, 0o002, 0o077)
SIZE = 700_000
LEAST = 70_000
"""Bytes that arrive before a connection is cut; a fetch that makes less progress three times gives up."""

FILES = 2

CHILD = """
import fcntl, json, mmap, os, sys, time
from hashlib import sha256

fcntl.flock = lambda *_: None
job = json.loads(sys.argv[1])

import _hashlib, encodings.idna, http.client, shutil, ssl, urllib.request, huggingface_hub.constants, msgspec
from huggingface_hub import get_token
from zoo import hub
from zoo.errors import HubError
from zoo.hub import cache, deadline, download, huggingface, parts, web
from zoo.manifest import Weights

if job["blind"]:
    parts.is_being_written = lambda path: False
if job["user"]:
    os.setgroups([job["group"]])
    os.setgid(job["user"])
    os.setuid(job["user"])
os.umask(job["umask"])

held = []
for row in job["files"]:
    weights = msgspec.convert(row, Weights)
    first = []
    try:
        file = hub.fetch(weights, progress=lambda done, _: first or first.append(done))
        with file.open("rb") as opened:
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    except HubError as error:
        print(json.dumps({"refused": str(error)}), flush=True)
        continue
    held.append((weights.sha256, mapped))
    is_right = sha256(file.read_bytes()).hexdigest() == weights.sha256
    print(json.dumps({"right": is_right, "resumed": sum(first), "fetched": bool(first)}), flush=True)
time.sleep(job["linger"])
print(json.dumps({"kept": all(sha256(mapped).hexdigest() == expected for expected, mapped in held)}), flush=True)
"""


@dataclasses.dataclass
class Report:
    """What happened; ``crashes`` are outputs of processes that ended neither by themselves nor by our kill."""

    runs: int = 0
    processes: int = 0
    kills: int = 0
    fetched: int = 0
    found: int = 0
    resumed_bytes: int = 0
    wrong: int = 0
    lost: int = 0
    denied: int = 0
    refused: Counter[str] = dataclasses.field(default_factory=Counter)
    crashes: list[str] = dataclasses.field(default_factory=list)

    def note(self, code: int, said: str, complaint: str, was_killed: bool, may_deny: bool) -> None:
        self.processes += 1
        self.kills += was_killed
        if code != 0 and not was_killed:
            self.crashes.append(f"exit status {code}: {complaint}")
        for line in said.splitlines():
            row: dict[str, Any] = json.loads(line)
            self.wrong += row.get("right") is False
            self.lost += row.get("kept") is False
            self.fetched += row.get("fetched", False)
            self.found += row.get("fetched") is False
            self.resumed_bytes += row.get("resumed", 0)
            if "Permission denied" in row.get("refused", "") and may_deny:
                self.denied += 1
            elif "refused" in row:
                self.refused[re.sub(r"[0-9a-f]{8,}", "...", row["refused"])] += 1


def run_once(
    server: HubServer, folder: Path, report: Report, chance: random.Random, processes: int, users: bool
) -> None:
    """Lets ``processes`` processes at a time fetch new files into a new cache."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    is_open = users and report.runs % 4 > 1
    if users:
        os.chown(folder, 0, GROUP)
        folder.chmod(0o777 if is_open else 0o2775)
    rows = [_new_file(server, chance) for _ in range(FILES)]
    blind = report.runs % 2 == 1
    settings = {
        "ZOO_HUB": server.mirror_url,
        "ZOO_CACHE": str(folder),
        "HF_HOME": f"{folder}-of-hf",
        "HF_ENDPOINT": server.url,
        "ZOO_TIMEOUT": "5",
    }

    def start(linger: float) -> "subprocess.Popen[str]":
        for row in rows:
            server.inject("slow", row["sha256"], seconds=chance.uniform(0, 0.1))
            server.inject("cut", row["sha256"], after=chance.randrange(LEAST, SIZE))
            server.inject(chance.choice(["flip", "slow"]), f"mirror/{row['repo']}/{row['file']}", seconds=0.05)
        user = chance.choice(USERS) if users else 0
        files = chance.sample(rows, len(rows))
        job = {"user": user, "group": GROUP, "umask": chance.choice(UMASKS), "blind": blind, "files": files}
        command = [sys.executable, "-c", CHILD, json.dumps(job | {"linger": linger})]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=folder, env=os.environ | settings)

    alive = [start(0.2) for _ in range(processes)]
    victims = [time.monotonic() + chance.uniform(0.3, 2.5) for _ in range(processes // 2)]
    killed = set()
    while alive:
        time.sleep(0.005)
        if victims and time.monotonic() > min(victims):
            victims.remove(min(victims))
            victim = chance.choice(alive)
            if victim.poll() is None:
                victim.kill()
                killed.add(victim)
                alive.append(start(0.0))
        for process in [process for process in alive if process.poll() is not None]:
            said, complaint = process.communicate()
            was_killed = process in killed and process.returncode == -9
            said = _whole_lines(said) if was_killed else said
            report.note(process.returncode, said, complaint, was_killed, is_open)
            alive.remove(process)
    report.runs += 1
    for row in rows:
        file = folder / "files" / f"{row['sha256']}.safetensors"
        if not file.exists():
            report.crashes += [] if is_open else ["nobody fetched a file"]
        elif hashlib.sha256(file.read_bytes()).hexdigest() != row["sha256"]:
            report.wrong += 1


def attack(folder: Path, *, runs: int, processes: int, seed: int = 0, progress: bool = False) -> Report:
    """Returns the report of ``runs`` attacks on a cache in ``folder``, which other users must be able to enter."""
    report, chance = Report(), random.Random(seed)
    users = os.geteuid() == 0
    with HubServer(folder / "server") as server:
        for number in range(runs):
            server.faults.clear()
            run_once(server, folder / "cache", report, chance, processes, users)
            if progress and (number + 1) % 10 == 0:
                print(f"{number + 1} runs: {summary(report)}", flush=True)
    return report


def summary(report: Report) -> str:
    return (
        f"{report.processes} processes, {report.kills} killed; {report.fetched} files fetched, {report.found} found; "
        f"{report.resumed_bytes:,} bytes of earlier processes continued; {report.wrong} wrong, {report.lost} lost "
        f"while mapped; {report.denied} denied by the umask, {sum(report.refused.values())} other errors, "
        f"{len(report.crashes)} crashes"
    )


def _new_file(server: HubServer, chance: random.Random) -> dict[str, Any]:
    content = chance.randbytes(SIZE)
    sha256 = hashlib.sha256(content).hexdigest()
    commit = server.commit("alice/tiny", {f"{sha256[:8]}.safetensors": content})
    weights = Weights(
        file=f"{sha256[:8]}.safetensors", repo="alice/tiny", arch="tiny", tag="c10", sha256=sha256, revision=commit
    )
    row: dict[str, Any] = msgspec.to_builtins(weights)
    return row


def _whole_lines(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if line.endswith("\n"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        report = attack(Path(folder), runs=chosen.runs, processes=chosen.processes, seed=chosen.seed, progress=True)
    print(f"{report.runs} runs: {summary(report)}")
    for text, count in [*report.refused.items(), *Counter(report.crashes).items()]:
        print(f"{count} x {text}")
    sys.exit(bool(report.wrong or report.lost or report.crashes or report.refused))


if __name__ == "__main__":
    main()

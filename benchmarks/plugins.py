"""Builds two plugins by the commands of the tutorial, one trained and one fitted: how many commands, how long.

Run with ``python benchmarks/plugins.py``. The commands are those of docs/plugins.md, in a temporary environment with
the libraries of this one; pip builds without a network, which needs hatchling here.
"""

import os
import re
import subprocess
import tempfile
import time
import tomllib
from pathlib import Path

from measure import table

from zoo.testing.wheel import environment, variables

PAGE = Path(__file__).parents[1] / "docs" / "plugins.md"
ROADS = {"trained": "tiny", "fitted": "patches"}
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
SOMEBODY = {f"GIT_{role}_{field}": "nobody" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")}


def commands() -> list[str]:
    """Returns the commands of the tutorial, in order."""
    section = PAGE.read_text(encoding="utf-8").partition("## Tutorial")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```console\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return re.findall(r"^\$ (.*)$", "\n".join(blocks).replace("\\\n", " "), re.MULTILINE)


def build(name: str, typed: list[str], folder: Path, bin: Path) -> tuple[float, float, str]:
    """Runs the commands in ``folder``; returns all seconds, those of the training, and the score."""
    path = os.pathsep.join([str(bin), os.environ["PATH"]])
    own = variables(bin / "python") | OFFLINE | SOMEBODY | {"PATH": path}
    whole = training = 0.0
    place = folder
    for command in typed:
        if command.startswith("cd "):
            place = (place / command.removeprefix("cd ")).resolve()
            continue
        started = time.perf_counter()
        subprocess.run(["sh", "-e", "-c", command], cwd=place, env=own, check=True, capture_output=True)
        seconds = time.perf_counter() - started
        whole += seconds
        training += seconds if command.startswith("zoo train") else 0.0
    manifest = tomllib.loads((folder / f"zoo_{name}" / f"zoo_{name}" / "manifest.toml").read_text(encoding="utf-8"))
    ((weights,),) = (tags.values() for tags in manifest.values())
    score = weights["scores"]["digits/test"]
    return whole, training, f"{score['correct']} of {score['n']}"


def main() -> None:
    every = commands()
    turn = every.index("cd ..")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bin = environment(folder).parent
        for command in ("pip", "zoo"):
            (bin / command).write_text(f'#!/bin/sh\nexec "{bin}/python" -m {command} "$@"\n')
            (bin / command).chmod(0o755)
        for (kind, plugin), typed in zip(ROADS.items(), (every[:turn], every[turn + 1 :]), strict=True):
            whole, training, score = build(plugin, typed, folder, bin)
            rows.append((kind, str(len(typed)), f"{whole:.0f}", f"{training:.0f}", score))
    print(table(("plugin", "commands", "seconds", "of these in training", "test images right"), rows))


if __name__ == "__main__":
    main()

"""Loops that alternate, each in its own process, so that settings do not affect other loops.

A process runs an endless loop and calls :meth:`Pace.step` after every step. It waits between turns. A turn is some
warm-up steps, then as many steps as fit into the given time.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Turn(NamedTuple):
    """One turn of a loop; ``first`` is the duration of its very first step in seconds."""

    steps: int
    seconds: float
    loss: float
    first: float


class Pace:
    """The loop's side: reads turns from standard input and writes results to standard output."""

    def __init__(self) -> None:
        self._out, sys.stdout = sys.stdout, sys.stderr  # output of libraries must not be read as a result
        self._first = 0.0
        self._begin()

    def step(self, loss: float = 0.0) -> None:
        """Reports a step with mean loss ``loss``; returns when the next one may start."""
        now = time.perf_counter()
        self._first = self._first or now - self._started
        self._left -= 1
        self._losses.append(loss)
        if self._left == 0:
            self._losses.clear()
            self._started = time.perf_counter()
        elif self._left < 0 and now - self._started >= self._seconds:
            turn = Turn(-self._left, now - self._started, statistics.fmean(self._losses), self._first)
            print(json.dumps(turn), file=self._out, flush=True)
            self._begin()

    def _begin(self) -> None:
        line = sys.stdin.readline()
        if not line:
            raise SystemExit
        self._left, self._seconds = json.loads(line)
        self._losses: list[float] = []
        self._started = time.perf_counter()


class Contestant:
    """The controller's side: a started process."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def turn(self, warm: int, seconds: float) -> Turn:
        """Runs ``warm`` steps, then as many as fit into ``seconds``, at least one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([warm, seconds]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self._process.args} ended with exit status {self._process.wait()}")
        return Turn(*json.loads(answer))

    def stop(self) -> None:
        self._process.communicate()


def take_turns(commands: Mapping[str, Sequence[str]], rounds: int, warm: int, seconds: float) -> dict[str, list[Turn]]:
    """Returns the turns of each loop, after a warm-up turn."""
    contestants = {name: Contestant(command) for name, command in commands.items()}
    try:
        for contestant in contestants.values():
            contestant.turn(1, 0.0)
        turns: dict[str, list[Turn]] = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, contestant in contestants.items():
                turns[name].append(contestant.turn(warm, seconds))
        return turns
    finally:
        for contestant in contestants.values():
            contestant.stop()

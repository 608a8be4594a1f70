"""A process that does jobs, seen from its parent."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any, Literal

from zoo.system.process import ending
from zoo_bulk import memory
from zoo_bulk.job import Job, Outcome


class Child:
    """A process that does jobs, one after another. It starts with the first, and is replaced if it ends."""

    def __init__(self, threads: int, keep: bool, gpu: str | None = None) -> None:
        self.threads = threads
        self.keep = keep
        self.gpu = gpu
        self.child: subprocess.Popen[str] | None = None
        self.is_stopping = False
        self.is_giving_way = False
        self.held = 0
        """The most that was seen of the memory of the process in this job."""
        self._lock = threading.Lock()
        """Held while the process is started or told to stop."""

    @property
    def process(self) -> int:
        return self.child.pid if self.child is not None else 0

    def do(self, job: Job) -> Outcome | None:
        """How ``job`` ended; None if it was ended by :meth:`give_way`."""
        start, self.held = time.monotonic(), 0
        said = self._ask(job)
        if not said:
            self.is_giving_way = False
            return None
        status: Literal["done", "failed", "stopped"] = "done" if "result" in said else "failed"
        if said.get("stopped"):
            status = "stopped"
        seconds = time.monotonic() - start
        return Outcome(job, status, said.get("result"), said.get("error", ""), seconds, said.get("memory") or self.held)

    def look(self) -> None:
        """Notes what the process holds now."""
        self.held = max(self.held, memory.held(self.process))

    def _ask(self, job: Job) -> dict[str, Any]:
        """The answer of the process; nothing if it was ended to spare memory."""
        with self._lock:
            if self.is_stopping:
                return {"stopped": True}
            if self.child is None:
                self.child = self._start()
            child = self.child
        assert child.stdin is not None
        assert child.stdout is not None
        asked = {"function": job.function, "arguments": dict(job.arguments), "log": str(job.log)}
        with suppress(BrokenPipeError):  # it has ended already; its exit code says how
            child.stdin.write(json.dumps(asked) + "\n")
            child.stdin.flush()
        answer = child.stdout.readline()
        if answer and self.keep:
            return dict(json.loads(answer))
        with self._lock:
            self.child = None
        with suppress(OSError):
            child.stdin.close()
        code = child.wait()
        child.stdout.close()
        if answer:
            return dict(json.loads(answer))
        if self.is_stopping:
            return {"stopped": True}
        return {} if self.is_giving_way else {"error": f"its process crashed: {ending(code)}"}

    def _start(self) -> "subprocess.Popen[str]":
        # It finds the plugins that this process has found, and imports nothing from the working directory.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        environment |= {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        if self.gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpu
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "zoo_bulk.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            encoding="utf-8",
            # Ctrl-C reaches this process alone, which hands it on. Not a new session: Linux compares nice values only
            # within one.
            process_group=0,
        )

    def give_way(self) -> None:
        """Ends the job, which is to run again."""
        with self._lock:
            if self.child is not None:
                self.is_giving_way = True
                self.child.kill()

    def interrupt(self) -> None:
        """Interrupts the job, which can save its work. The process gets no other job."""
        with self._lock:
            self.is_stopping = True
            if self.child is not None and self.child.stdin is not None:
                with suppress(OSError):
                    self.child.stdin.close()  # the end of its standard input interrupts it

    def wait(self, seconds: float) -> None:
        if (child := self.child) is not None:
            with suppress(subprocess.TimeoutExpired):
                child.wait(seconds)

    def kill(self) -> None:
        if (child := self.child) is not None:  # the thread forgets it as soon as it has ended
            child.kill()
            child.wait()
            if child.stdout is not None:
                child.stdout.close()

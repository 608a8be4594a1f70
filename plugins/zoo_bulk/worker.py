"""The process of a job: ``python -P -m zoo_bulk.worker`` calls a function for each line of standard input.

A line is a JSON object with ``function`` ("module:name"), ``arguments`` and ``log``, the file that gets all that the
job prints. The answer is a line of JSON on standard output, with the most memory that the process held. The end of
standard input interrupts the job as Ctrl-C does, also if that is because the parent was killed; a job that takes longer
than ``PATIENCE`` to stop is ended.
"""

import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

import msgspec

from zoo.errors import ZooError
from zoo_bulk import memory

PATIENCE = 60.0
"""Seconds that an interrupted job has to keep what it has done."""

_is_busy = threading.Event()


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()
    while line := lines.get():
        asked = json.loads(line)
        _print_to(asked["log"])
        _is_busy.set()
        memory.forget_peak()
        said = _do(asked["function"], asked["arguments"])
        _is_busy.clear()
        said["memory"] = memory.peak()
        with suppress(BrokenPipeError):  # the parent was killed
            print(json.dumps(said), file=answers, flush=True)
        if said.get("stopped"):
            return


def _do(function: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Calls ``function`` in this process: its ``result``, or the ``error`` in words, or that it was ``stopped``."""
    module, _, name = function.partition(":")
    try:
        return {"result": msgspec.to_builtins(getattr(import_module(module), name)(**arguments))}
    except KeyboardInterrupt:
        return {"stopped": True}
    except ZooError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return {"error": error.message}
    except MemoryError as error:
        traceback.print_exc()
        return {"error": f"memory ran out: {error}" if str(error) else "memory ran out"}
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def _print_to(log: str) -> None:
    """Sends standard output and standard error to the end of the file, also what native code prints."""
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)


def _listen(lines: "queue.SimpleQueue[str]") -> None:
    for line in sys.stdin:
        lines.put(line)
    lines.put("")
    if _is_busy.is_set():
        os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(PATIENCE)
    os._exit(1)


if __name__ == "__main__":
    main()

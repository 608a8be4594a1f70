"""Calls functions in processes of their own: one that crashes, hangs or takes all memory fails alone.

The protocol: ``python -P -m zoo.system.process PATIENCE`` takes calls as lines of JSON on standard input, and answers
each with a line of JSON on what was its standard output. A call has ``function`` (a ``module:name``), ``arguments``,
and ``log``, the file that gets what it prints; without one, that goes to standard error. An answer has the ``result``;
or ``error``, ``message``, ``hint`` and ``exit_code``; or ``stopped``. The end of standard input, which comes also if
the parent was killed, interrupts the function as Ctrl-C does; after PATIENCE seconds the process ends.
"""

import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from zoo import errors
from zoo.errors import WeightsError, ZooError
from zoo.system import sandbox as sandboxes
from zoo.system.sandbox import Sandbox


class Worker:
    """A process that calls functions, one after another, seen from its parent.

    ``patience`` are the seconds that an interrupted function has to keep what it has done. ``environment`` is added to
    that of this process. With a ``sandbox``, it has an environment of its own and is closed before it is called.
    """

    def __init__(
        self, *, patience: float = 0.0, environment: Mapping[str, str] | None = None, sandbox: Sandbox | None = None
    ) -> None:
        # It finds the plugins that this process has found, and imports nothing from the working directory.
        variables = {
            **(sandboxes.environment(sandbox) if sandbox is not None else os.environ),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            **(environment or {}),
        }
        limits = [] if sandbox is None else [msgspec.json.encode(sandbox).decode()]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(patience), *limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=variables,
            # Ctrl-C reaches this process alone, which hands it on. Not a new session: Linux compares nice values only
            # within one.
            process_group=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._calls, self._answers = self._process.stdin, self._process.stdout

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, function: str, arguments: Mapping[str, Any], log: Path | None = None) -> dict[str, Any] | None:
        """Returns the answer of ``function``, a ``module:name``; None if the process has ended without one."""
        call = {"function": function, "arguments": dict(arguments), "log": str(log or "")}
        with suppress(BrokenPipeError):  # it has ended already; its exit code says how
            self._calls.write(msgspec.json.encode(call) + b"\n")
            self._calls.flush()
        line = self._answers.readline()
        return dict(json.loads(line)) if line.endswith(b"\n") else None

    def ask(self, function: str, arguments: Mapping[str, Any], *, what: str, timeout: float, hint: str) -> Any:
        """Returns the result of ``function``; raises as :func:`ask`. The process is ended if there is none in time."""
        is_late = threading.Event()

        def stop() -> None:
            is_late.set()
            self.kill()

        timer = threading.Timer(timeout, stop)
        timer.daemon = True
        timer.start()
        try:
            answer = self.call(function, arguments)
            code = self.wait() if answer is None else None
        finally:
            timer.cancel()
        if answer is None and is_late.is_set():
            raise WeightsError(f"{what} took more than {timeout:g} s and was stopped.", hint=hint)
        if answer is None:
            raise WeightsError(f"{what} process crashed: {ending(code or 0)}.")
        if "error" in answer:
            kind = getattr(errors, answer["error"], None)
            if kind is None:  # no error of ours: its traceback is on standard error
                raise WeightsError(f"{what} failed: {answer['message']}")
            error: ZooError = kind(answer["message"], hint=answer["hint"])
            error.exit_code = answer["exit_code"]
            raise error
        return answer["result"]

    def interrupt(self) -> None:
        """Interrupts the function that runs; the process takes no other call."""
        with suppress(OSError):
            self._calls.close()

    def wait(self, seconds: float | None = None) -> int | None:
        """Returns the exit code; None if it has not ended after ``seconds``."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Ends the process, which answers no more."""
        self.interrupt()
        self._process.kill()
        self._process.wait()
        self._answers.close()


def ask(
    function: str,
    arguments: Mapping[str, Any],
    *,
    what: str,
    timeout: float,
    hint: str,
    sandbox: Sandbox | None = None,
) -> Any:
    """Returns the result of ``function``, a ``module:name``, for ``arguments`` (both JSON-able), in a new process.

    ``what`` names the work in errors, and ``hint`` is the advice if it took longer than ``timeout`` seconds. The
    process is closed by ``sandbox`` if there is one.

    Raises the :class:`ZooError` of the function, or a :class:`WeightsError` that describes how it or the process ended.
    """
    worker = Worker(sandbox=sandbox)
    try:
        return worker.ask(function, arguments, what=what, timeout=timeout, hint=hint)
    finally:
        worker.close()


def ending(code: int) -> str:
    """Returns how a process with exit code ``code`` ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name if -code in {*signal.Signals} else str(-code)
    return f"signal {name}" + (", for example because memory ran out" if name == "SIGKILL" else "")


_is_busy = threading.Event()


def _main(patience: str, limits: str = "") -> None:
    """Answers calls until standard input ends."""
    if limits:
        sandbox = msgspec.json.decode(limits, type=Sandbox)
        sandboxes.enter(sandbox)  # before there are threads, which the kernel would refuse
        importlib.import_module("torch")  # which takes gigabytes of addresses if it is built for GPUs
        sandboxes.limit_memory(sandbox)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(calls, float(patience)), daemon=True).start()
    while line := calls.get():
        call = json.loads(line)
        if call["log"]:
            _print_to(call["log"])
        _is_busy.set()
        answer = _do(call["function"], call["arguments"], bool(call["log"]))
        _is_busy.clear()
        with suppress(BrokenPipeError):  # the parent was killed
            print(json.dumps(answer), file=answers, flush=True)
        if "stopped" in answer:
            return


def _do(function: str, arguments: Mapping[str, Any], has_log: bool) -> dict[str, Any]:
    """Returns the answer of ``function``. The traceback of an error is printed, or in a log what ours say."""
    module, _, name = function.partition(":")
    try:
        return {"result": msgspec.to_builtins(getattr(importlib.import_module(module), name)(**arguments))}
    except KeyboardInterrupt:
        return {"stopped": True}
    except ZooError as error:
        kind = type(error).__name__
        if has_log:
            print(f"error: {error}", file=sys.stderr, flush=True)
        return {"error": kind, "message": error.message, "hint": error.hint, "exit_code": error.exit_code}
    except OSError as error:
        if has_log:
            traceback.print_exc()
        return {"error": "ZooError", "message": str(error), "hint": "", "exit_code": 1}
    except MemoryError as error:
        traceback.print_exc()
        return {"error": "", "message": f"memory ran out: {error}" if str(error) else "memory ran out"}
    except Exception as error:
        traceback.print_exc()
        return {"error": "", "message": f"{type(error).__name__}: {error}"}


def _print_to(log: str) -> None:
    """Sends standard output and standard error to the end of the file, also what native code prints."""
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)


def _listen(calls: "queue.SimpleQueue[bytes]", patience: float) -> None:
    """Reads standard input, without a buffer that another thread could find locked; at its end, ends the process."""
    unread = b""
    while piece := os.read(0, 1 << 16):
        *lines, unread = (unread + piece).split(b"\n")
        for line in lines:
            calls.put(line)
    calls.put(b"")
    if patience:
        if _is_busy.is_set():
            os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(patience)
    os._exit(1)


if __name__ == "__main__":
    _main(*sys.argv[1:])

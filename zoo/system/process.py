"""Calls a function in a process of its own: if it crashes, hangs or takes all memory, it fails alone.

:func:`ask` starts ``python -P -m zoo.system.process`` and returns what the function returned there. The process ends
when its parent does, however that ends, because the pipe to it is closed then.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from zoo import errors
from zoo.errors import WeightsError, ZooError


def ask(
    function: str,
    arguments: Mapping[str, Any],
    *,
    what: str,
    timeout: float,
    hint: str,
    has_network: bool = True,
) -> Any:
    """Returns the result of ``function``, a ``module:name``, for ``arguments`` (both JSON-able), in a new process.

    ``what`` names the work in errors, and ``hint`` is the advice if it took longer than ``timeout`` seconds. Without
    ``has_network``, the process cannot open a connection (:mod:`zoo.system.isolation`).

    Raises the :class:`ZooError` of the function, or a :class:`WeightsError` that describes how the process ended.
    """
    # It finds the plugins that this process has found, and imports nothing from the working directory.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    if not has_network:
        environment |= {"ZOO_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory(prefix="zoo-process-") as folder:
        answer = Path(folder, "answer.json")
        words = [function, str(answer), "" if has_network else "isolated"]
        with subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, *words],
            stdin=subprocess.PIPE,
            stdout=sys.__stderr__.fileno() if sys.__stderr__ is not None else subprocess.DEVNULL,
            env=environment,
        ) as child:
            assert child.stdin is not None
            try:
                with suppress(BrokenPipeError):  # it has ended already; its exit code says how
                    child.stdin.write(msgspec.json.encode(arguments) + b"\n")
                    child.stdin.flush()
                code = child.wait(timeout)
            except subprocess.TimeoutExpired:
                raise WeightsError(f"{what} took more than {timeout:g} s and was stopped.", hint=hint) from None
            finally:
                child.kill()
        if not answer.exists():
            raise WeightsError(f"{what} process crashed: {ending(code)}.")
        said = json.loads(answer.read_text(encoding="utf-8"))
    if "error" in said:
        raise _error(**said)
    return said["result"]


def _error(error: str, message: str, hint: str, exit_code: int) -> ZooError:
    found: ZooError = getattr(errors, error, ZooError)(message, hint=hint)
    found.exit_code = exit_code
    return found


def ending(code: int) -> str:
    """Returns how a process with exit code ``code`` ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name if -code in {*signal.Signals} else str(-code)
    return f"signal {name}" + (", for example because memory ran out" if name == "SIGKILL" else "")


def _main(function: str, answer: str, isolated: str) -> None:
    if isolated:
        from zoo.system import isolation

        isolation.leave_network()
    arguments = json.loads(_line())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    said: dict[str, Any]
    try:
        module, _, name = function.partition(":")
        said = {"result": msgspec.to_builtins(getattr(importlib.import_module(module), name)(**arguments))}
    except ZooError as error:
        kind = type(error).__name__
        said = {"error": kind, "message": error.message, "hint": error.hint, "exit_code": error.exit_code}
    except OSError as error:
        said = {"error": "ZooError", "message": str(error), "hint": "", "exit_code": 1}
    whole = Path(f"{answer}.part")
    whole.write_text(json.dumps(said), encoding="utf-8")
    whole.replace(answer)  # a process that is killed leaves no half an answer


def _line() -> bytes:
    """Returns the first line of standard input, read without a buffer that another thread could find locked."""
    line = bytearray()
    while not line.endswith(b"\n") and (piece := os.read(0, 1 << 16)):
        line += piece
    return bytes(line)


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    _main(*sys.argv[1:])

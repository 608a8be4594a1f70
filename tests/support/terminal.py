"""Commands on a terminal: what they draw there."""

import os
import pty
import subprocess
from collections.abc import Sequence
from typing import Literal, NamedTuple


class Drawn(NamedTuple):
    """The bytes that reached the terminal, and what went to standard output if that is not the terminal."""

    terminal: bytes
    stdout: str


def draw(command: Sequence[str], *, on: Literal["stdout", "stderr"] = "stdout", columns: int = 100) -> Drawn:
    """Runs ``command`` with one of its streams on a terminal; raises CalledProcessError if it fails."""
    ours, theirs = pty.openpty()
    streams = {"stdout": theirs} if on == "stdout" else {"stdout": subprocess.PIPE, "stderr": theirs}
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns)}
    with subprocess.Popen(command, **streams, text=True, env=environment) as process:  # type: ignore[call-overload]  # by name
        os.close(theirs)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
        stdout = process.stdout.read() if process.stdout is not None else ""
    os.close(ours)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, stdout, shown)
    return Drawn(shown, stdout)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # Linux's way to say that the other side is closed
        return b""

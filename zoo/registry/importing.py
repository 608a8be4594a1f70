"""Imports plugins: those of other distributions in a process of their own, those of Zoo's own here.

See :mod:`zoo.registry.nursery` for the other process. Whatever an import does there, it becomes an entry.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from types import TracebackType
from typing import Self

import msgspec

from zoo.registry import contents, discovery, examination
from zoo.registry.imported import Entry, Imported
from zoo.registry.nursery import CAN_FORK, Answer, receive, send
from zoo.registry.plugin_row import PluginRow
from zoo.registry.search_path import SearchPath
from zoo.registry.seen import look_at
from zoo.system import progress

PATIENCE = 30.0
"""Seconds that the import of one plugin may take."""

_MANY = 8
"""Imports that take long enough for a bar."""

_MOST_FILES = 1000
_START = "import sys; sys.path[:] = sys.argv[1:]; from zoo.registry import nursery; nursery.serve()"


def import_own(row: PluginRow, path: SearchPath) -> Imported:
    """Imports a plugin of Zoo's own distribution in this process.

    It is not recorded if its code was loaded before: its files may have changed since.
    """
    was_loaded = contents.top_of(row.target) in sys.modules
    started = time.time_ns()
    imported = examination.examine(row.name, row.target)
    if was_loaded:
        return imported
    packages = imported.entry.packages or (contents.top_of(row.target),)
    seen = look_at(path, packages, [file for package in packages for file in _files_of(path, package)])
    return imported._replace(seen=seen) if seen.is_older_than(started) else imported


def import_others(rows: Sequence[PluginRow], path: SearchPath) -> Iterator[Imported]:
    """Imports each of ``rows`` in a process of its own, in order."""
    with ExitStack() as held:
        show = held.enter_context(progress.bar("Importing plugins")) if len(rows) > _MANY else None
        process: _Process | None = None
        for place, row in enumerate(rows):
            if show:
                show(place, len(rows))
            try:
                if process is None or process.has_ended:
                    process = held.enter_context(_Process())
                started = time.time_ns()
                answer = process.ask(row)
            except OSError as error:
                yield Imported(Entry("broken", f"no process can be started to import {row.target}: {error}"), ())
                continue
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    f"while plugin {row.name!r} ({row.target}, of {row.distribution}) was imported; "
                    f"zoo plugins disable {row.name} disables it"
                ) from None
            if notes := answer.notes:
                seen = look_at(path, notes.modules, notes.files, notes.variables)
            else:  # it did not live to say what it had read
                package = contents.top_of(row.target)
                seen = look_at(path, [package], _files_of(path, package))
            yield Imported(answer.entry, answer.rows, seen if seen.is_older_than(started) else None)


class _Process:
    """A process that imports one plugin at a time. Raises OSError if it cannot be started."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable or "python", "-P", "-c", _START, *(entry for entry in sys.path if isinstance(entry, str))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, discovery.UNDER_WAY: "1"},
            start_new_session=True,  # Ctrl-C is for this process; and the other one and its children end together
        )
        self.has_ended = False
        try:
            if not self._receive():
                raise OSError(f"it ended with exit code {self._child.wait()}")
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._end()

    def ask(self, row: PluginRow) -> Answer:
        """What importing the plugin of ``row`` shows. Afterwards the process may have ended."""
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):
            send(self._child.stdin, msgspec.msgpack.encode((row.name, row.target)))
        message = self._receive()
        if message and CAN_FORK:
            return msgspec.msgpack.decode(message, type=Answer)
        self._end()
        if message:
            return msgspec.msgpack.decode(message, type=Answer)
        return Answer(Entry("broken", f"importing {row.target} takes longer than {PATIENCE:g} s"))

    def _receive(self) -> bytes:
        """The next message; empty if it does not come in time, or the process ends."""
        assert self._child.stdout is not None
        timer = threading.Timer(PATIENCE, self._kill)
        timer.start()
        try:
            return receive(self._child.stdout)
        finally:
            timer.cancel()

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            if os.name == "posix":
                os.killpg(self._child.pid, signal.SIGKILL)
            else:
                self._child.kill()

    def _end(self) -> None:
        self.has_ended = True
        self._kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()


def _files_of(path: SearchPath, package: str) -> Iterator[str]:
    """The files of a package, or the file of a module."""
    place = path.place_of(package).partition("|")[0]
    if not os.path.isdir(place):
        return iter([place] if place else [])
    every = (
        os.path.join(folder, name)
        for folder, _, names in os.walk(place)
        if os.path.basename(folder) != "__pycache__"
        for name in sorted(names)
    )
    return islice(every, _MOST_FILES)

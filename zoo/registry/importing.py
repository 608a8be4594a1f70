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
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import islice
from queue import SimpleQueue
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
_MOST_PROCESSES = 4
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
    """Imports each of ``rows`` in a process of its own; yields what that showed, in order."""
    with ExitStack() as held:
        show = held.enter_context(progress.bar("Importing plugins")) if len(rows) > _MANY else None
        workers = held.enter_context(_Workers(min(os.cpu_count() or 1, _MOST_PROCESSES, 1 + len(rows) // _MANY), path))
        answers = [workers.submit(row) for row in rows]
        for place, (row, answer) in enumerate(zip(rows, answers, strict=True)):
            if show:
                show(place, len(rows))
            try:
                yield answer.result()
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    f"while plugin {row.name!r} ({row.target}, of {row.distribution}) was imported; "
                    f"zoo plugins disable {row.name} disables it"
                ) from None


class _Workers:
    """Some processes that import plugins at the same time."""

    def __init__(self, count: int, path: SearchPath) -> None:
        self._path = path
        self._pool = ThreadPoolExecutor(count)
        self._idle: SimpleQueue[_Process | None] = SimpleQueue()
        self._started: list[_Process] = []
        self._is_over = False
        for _ in range(count):
            self._idle.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in self._started:
            process.end()
        self._pool.shutdown()

    def submit(self, row: PluginRow) -> "Future[Imported]":
        return self._pool.submit(self._import, row)

    def _import(self, row: PluginRow) -> Imported:
        process = self._idle.get()
        try:
            if process is None or process.has_ended:
                process = _Process()
                self._started.append(process)
                if self._is_over:  # which it was perhaps too late to be ended for
                    process.end()
            started = time.time_ns()
            answer = process.ask(row)
        except OSError as error:
            return Imported(Entry("broken", f"no process can be started to import {row.target}: {error}"), ())
        finally:
            self._idle.put(process)
        if notes := answer.notes:
            seen = look_at(self._path, notes.modules, notes.files, notes.variables)
        else:  # it did not live to say what it had read
            package = contents.top_of(row.target)
            seen = look_at(self._path, [package], _files_of(self._path, package))
        return Imported(answer.entry, answer.rows, seen if seen.is_older_than(started) else None)


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
            self.end()
            raise

    def ask(self, row: PluginRow) -> Answer:
        """What importing the plugin of ``row`` shows. Afterwards the process may have ended."""
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):
            send(self._child.stdin, msgspec.msgpack.encode((row.name, row.target)))
        message = self._receive()
        if not (message and CAN_FORK):
            self.end()
        if not message:
            return Answer(Entry("broken", f"importing {row.target} takes longer than {PATIENCE:g} s"))
        try:
            return msgspec.msgpack.decode(message, type=Answer)
        except ValueError:  # two answers, if the import forked
            return Answer(Entry("broken", f"importing {row.target} leaves more than one process"))

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

    def end(self) -> None:
        """Ends it and what it started."""
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

"""The process in which plugins are imported: ``serve``, started by :mod:`zoo.registry.importing`.

It has no network. It imports no plugin itself: each is imported in a child forked from it, so that none sees what
another one did. If processes cannot be forked, it imports one plugin and ends.
"""

import gc
import importlib.util
import os
import signal
import sys
import tempfile
from contextlib import suppress
from typing import IO, BinaryIO

import msgspec

from zoo.registry import contents, examination, witness
from zoo.registry.imported import Entry, Imported
from zoo.system import isolation

CAN_FORK = hasattr(os, "fork")


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """An entry and its rows, and what the import looked for: None if it ended its process."""

    entry: Entry
    rows: list[bytes] = []
    notes: witness.Notes | None = None


READY = Answer(Entry())
"""The first answer, to no question: the process has started."""


def serve() -> None:
    """Answers questions, pairs of a plugin's name and target, on standard input until that is closed.

    Answers go to what is standard output now; what plugins print does not.
    """
    answers, questions = os.fdopen(os.dup(1), "wb"), os.fdopen(os.dup(0), "rb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    isolation.leave_network()
    before = witness.Namespaces()
    importlib.util.find_spec("no_such_module")  # reads the folders of the path once, for all children
    gc.disable()  # they are short-lived
    gc.freeze()
    send(answers, msgspec.msgpack.encode(READY))
    while message := receive(questions):
        name, target = msgspec.msgpack.decode(message, type=tuple[str, str])
        send(answers, _of_child(name, target, before) if CAN_FORK else _answer(name, target, before))
        if not CAN_FORK:
            break


def send(stream: IO[bytes], message: bytes) -> None:
    stream.write(len(message).to_bytes(8, "little") + message)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes:
    """The next message; empty if the other end was closed."""
    size = int.from_bytes(stream.read(8), "little")
    message = stream.read(size)
    return message if len(message) == size else b""


def _of_child(name: str, target: str, before: witness.Namespaces) -> bytes:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            answer = _answer(name, target, before)
            with os.fdopen(writing, "wb") as stream:
                stream.write(answer)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        answer = stream.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return answer or msgspec.msgpack.encode(Answer(Entry("broken", f"importing {target} {_ending(code)}")))


def _answer(name: str, target: str, before: witness.Namespaces) -> bytes:
    with tempfile.TemporaryFile() as output:
        os.dup2(output.fileno(), 1)
        watch = witness.Witness()
        imported = examination.refused_by_contract(target) or examination.examine(name, target)
        imported = _judged(imported, target, watch, before, output)
        notes = watch.notes()
        packages = {*notes.modules, *imported.entry.packages, contents.top_of(target)}
        answer = Answer(imported.entry, [*imported.rows], notes._replace(modules=sorted(packages)))
        return msgspec.msgpack.encode(answer)


def _judged(
    imported: Imported, target: str, watch: witness.Witness, before: witness.Namespaces, output: BinaryIO
) -> Imported:
    """``imported``, or what the import did that it should not do."""
    if other := before.replaced():
        return Imported(Entry("broken", f"importing {target} replaces {other}, which other code uses"), ())
    if imported.entry.status != "ok":
        return imported
    remarks = {}
    if watch.has_torch():
        remarks["slow"] = f"importing {target} imports torch, which slows down every use of the plugin"
    if written := _written(output):
        remarks["noisy"] = f"importing {target} writes to standard output: {written!r}"
    if not remarks:
        return imported
    entry = msgspec.structs.replace(imported.entry, status=next(iter(remarks)), reason="; ".join(remarks.values()))
    return imported._replace(entry=entry)


def _written(output: BinaryIO) -> str:
    """The beginning of what was written, on one line."""
    with suppress(Exception):  # the plugin may have put anything there
        sys.stdout.flush()
    output.seek(0)
    return " ".join(output.read(200).decode(errors="replace").split())


def _ending(code: int) -> str:
    if code >= 0:
        return f"ends the process with exit code {code}"
    name = signal.Signals(-code).name if -code in {*signal.Signals} else f"signal {-code}"
    return f"crashes the process ({name})"

r"""Text of others on a terminal: of plugins, files and servers. Control characters are shown as ``\x1b``, and length is
bounded."""

import codecs
import contextlib
import io
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

LONGEST = 4_000
"""Characters of what a plugin prints while it is imported that are shown."""

_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters except line ends and tabs, direction marks, and bytes of a path that are not UTF-8."""


def escaped(text: str, escape: Callable[[str], str] | None = None) -> str:
    """Replaces control characters of ``text`` by escapes, or by what ``escape`` returns; line ends stay."""
    escape = escape or (lambda character: character.encode("unicode_escape").decode())
    return _UNSAFE.sub(lambda match: escape(match[0]), text)


def bounded(text: str, longest: int) -> str:
    """Returns the first ``longest`` characters of ``text``, and how many it has if these are more."""
    return text if len(text) <= longest else f"{text[:longest]}... ({len(text):,} characters)"


@contextlib.contextmanager
def guarded(what: str, longest: int = LONGEST) -> Iterator[Callable[[Callable[[], None]], None]]:
    """Shows what is printed in the block on standard error: escaped, and at most ``longest`` characters of it.

    Yields a function that calls another one whose output is shown all the same. What child processes and libraries
    write past Python is not seen here. A stream that the block keeps, as a log handler does, still works after it.
    """
    guard = _Guard(sys.stderr, longest)
    stream = io.TextIOWrapper(guard, encoding="utf-8", errors="backslashreplace", write_through=True)  # type: ignore[type-var]  # any RawIOBase will do
    try:
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            yield guard.pass_on
    finally:
        stream.flush()
        guard.end(what)


class _Guard(io.RawIOBase):
    """Bytes on their way to ``stream``, decoded, escaped and counted."""

    def __init__(self, stream: TextIO, left: int) -> None:
        self._stream = stream
        self._left: float = left
        self._more = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, data: Any) -> int:
        text = self._decoder.decode(bytes(data))
        shown = text if len(text) <= self._left else text[: int(self._left)]
        self._left -= len(shown)
        self._more += len(text) - len(shown)
        if shown:
            self._stream.write(escaped(shown))
            self._stream.flush()
        return len(data)

    def pass_on(self, call: Callable[[], None]) -> None:
        before, self._left = self._left, float("inf")
        try:
            call()
        finally:
            self._left = before

    def end(self, what: str) -> None:
        self._left = float("inf")
        if self._more:
            self._stream.write(f"... ({self._more:,} more characters of {what})\n")

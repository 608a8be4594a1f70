"""Ctrl-C while training: first the step in hand and the checkpoint, then the interrupt."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interruption:
    """A context in which the first SIGINT only sets ``is_requested``; a second one interrupts at once.

    Outside the main thread, where Python allows no handlers, it changes nothing.
    """

    def __init__(self) -> None:
        self.is_requested = False
        self._former: Any = None
        self._is_installed = False

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._former = signal.signal(signal.SIGINT, self._request)
            self._is_installed = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_installed:
            signal.signal(signal.SIGINT, self._former)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.is_requested:
            raise KeyboardInterrupt
        self.is_requested = True

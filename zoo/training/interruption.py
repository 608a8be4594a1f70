"""Ctrl-C or SIGTERM during training: finishes the step, writes a checkpoint, then stops."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interruption:
    """A context in which the first SIGINT or SIGTERM only sets ``is_requested``; a second one interrupts at once.

    With ``is_patient`` the second has no effect either, because launchers may forward a signal several times and kill
    processes that take too long. Outside the main thread, where Python allows no handlers, the context does nothing.
    """

    def __init__(self, *, is_patient: bool = False) -> None:
        self.is_requested = False
        self._is_patient = is_patient
        self._former: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._request) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.is_requested and not self._is_patient:
            raise KeyboardInterrupt
        self.is_requested = True

"""The training log for TensorBoard, if that is installed.

Written in the thread that trains: a disk that is full has to stop a training with one clear error,
which TensorBoard's own writer, a thread in the background, does not do.
"""

import itertools
import os
import time
from collections.abc import Mapping
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

from zoo.system import storage

_number = itertools.count()


class Events:
    """A new file of events in ``directory``, which hides the events of earlier files from step ``first`` on."""

    def __init__(self, directory: Path, first: int) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog

        # TensorBoard's own names hold the host's, which is nobody's business if a run is published.
        place = f"{int(time.time()):010}.{os.urandom(4).hex()}.{next(_number)}"
        self._file = directory / f"events.out.tfevents.{place}"
        self._append(step=first, file_version="brain.Event:2")
        self._append(step=first, session_log=SessionLog(status=SessionLog.START))

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Adds ``numbers`` of ``step``; raises :class:`StorageError`."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=number) for tag, number in numbers.items()]
        self._append(step=step, summary=Summary(value=values))

    def _append(self, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        record = BytesIO()
        RecordWriter(record).write(Event(wall_time=time.time(), **fields).SerializeToString())
        storage.append(self._file, record.getvalue())


def start(directory: Path, first: int) -> Events | None:
    """:class:`Events` if TensorBoard is installed."""
    return Events(directory, first) if find_spec("tensorboard") else None

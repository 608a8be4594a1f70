"""Jobs, and how they end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple


class Job(NamedTuple):
    """A call of ``function``, "module:name", with ``arguments`` that JSON can hold; what it prints goes to ``log``.

    ``key`` is a hash of all that decides the result, by which a store knows the outcome; empty if none is stored.
    ``files`` are paths of files that the job reads, which another machine may lack.
    """

    name: str
    function: str
    arguments: Mapping[str, Any]
    log: Path
    key: str = ""
    files: tuple[str, ...] = ()


class Outcome(NamedTuple):
    """How a job ended. ``result`` is what its function returned, as JSON holds it; ``reason`` why it failed.

    ``memory`` is the most that its process held, in bytes; 0 if it is not known.
    """

    job: Job
    status: Literal["done", "failed", "stopped"]
    result: Any
    reason: str
    seconds: float
    memory: int = 0

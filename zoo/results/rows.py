"""The rows of a table of results, and of the table of speeds beside it."""

from typing import Literal

import msgspec

from zoo import names

Status = Literal["done", "failed", "skipped"]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One result of weights, or why there is none. It holds nothing that depends on speed, time or machine.

    ``setting`` has the options of the command that were given. ``top1``, its Wilson interval ``low`` to ``high``,
    ``mean_class`` and ``top5`` are in per cent of ``n`` images, ``loss`` is in nats. ``epsilon`` is the radius of an
    ``attack``. ``difference`` is the largest one from a probe, or from the network that was exported. ``file`` is
    within the folder of the results. ``key`` is the sha256 of what decides the result.
    """

    task: str
    weights: str
    data: str = ""
    setting: str = ""
    attack: str = ""
    epsilon: float | None = None
    status: Status = "done"
    reason: str = ""
    n: int | None = None
    correct: int | None = None
    top1: float | None = None
    low: float | None = None
    high: float | None = None
    mean_class: float | None = None
    top5: float | None = None
    loss: float | None = None
    difference: float | None = None
    params: int | None = None
    macs: int | None = None
    file: str = ""
    family: str = ""
    sha256: str = ""
    fingerprint: str = ""
    zoo: str = ""
    torch: str = ""
    python: str = ""
    command: str = ""
    key: str = ""

    @property
    def subject(self) -> tuple[str, str, str, str, str, float]:
        """What the row is about: two tables have the same result of it, or results that can be compared."""
        epsilon = -1.0 if self.epsilon is None else self.epsilon
        return self.task, self.data, self.weights, self.setting, self.attack, epsilon

    @property
    def place(self) -> tuple[object, ...]:
        """Where the row stands in a sorted table."""
        task, data, weights, *rest = self.subject
        return task, data, names.natural(weights), *rest


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """What a result took, where it was measured: another run has other values.

    ``seconds`` and ``memory_mb`` are of the whole job, the others what the task itself measured.
    """

    key: str
    task: str
    weights: str
    data: str = ""
    setting: str = ""
    seconds: float | None = None
    memory_mb: float | None = None
    images_per_s: float | None = None
    latency_ms: float | None = None
    latency_p95_ms: float | None = None
    batch_size: int | None = None
    mode: str = ""
    precision: str = ""
    device: str = ""
    hardware: str = ""
    threads: int | None = None

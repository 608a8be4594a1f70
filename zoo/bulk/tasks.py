"""The commands that run as lists of jobs."""

from typing import NamedTuple


class Task(NamedTuple):
    """A command, and the function that does it for one of the weights.

    ``command`` is the name below ``zoo``. ``data`` says what it needs: ``own`` is a data set with the classes of the
    weights, ``any`` one with any classes. ``names`` are those of weights, or also of architectures. ``at_once`` is the
    default of the local engine.
    """

    command: str
    function: str
    data: str = ""
    split: str = ""
    takes_architectures: bool = False
    at_once: int | None = None


_WORK = "zoo.bulk.work"

TASKS = {
    task.command: task
    for task in (
        Task("evaluate", f"{_WORK}:evaluate", data="own", split="test"),
        Task("features", f"{_WORK}:features", data="any", split="train"),
        Task("attack curve", f"{_WORK}:attack_curve", data="own", split="test"),
        Task("benchmark", f"{_WORK}:benchmark", takes_architectures=True, at_once=1),  # others would slow it down
        Task("verify", f"{_WORK}:verify"),
        Task("export", f"{_WORK}:export"),
    )
}

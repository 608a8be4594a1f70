"""The commands that run as lists of jobs."""

from typing import NamedTuple


class Task(NamedTuple):
    """A command, and the function that does it for one of the weights.

    ``command`` is the name below ``zoo``, ``name`` that below ``zoo bulk``. ``options`` are those parameters of the
    command that a job takes, ``required`` those that must be given. ``data`` says what it needs: ``own`` is a data set
    with the classes of the weights, ``any`` one with any classes. ``at_once`` is the default of the local engine.
    """

    command: str
    function: str
    note: str
    example: str
    options: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    data: str = ""
    split: str = ""
    takes_architectures: bool = False
    at_once: int | None = None

    @property
    def name(self) -> str:
        return self.command.replace(" ", "-")


_WORK = "zoo_bulk.work"

TASKS = {
    task.command: task
    for task in (
        Task(
            "evaluate",
            f"{_WORK}:evaluate",
            "Score the weights that PATTERN matches on data sets, by default on those of their manifests.",
            "zoo bulk evaluate 'resnet20.d*' --data digits -o results",
            ("batch_size", "dtype", "compile", "device"),
            data="own",
            split="test",
        ),
        Task(
            "features",
            f"{_WORK}:features",
            "Write the features of data sets, a file for each of the weights.",
            "zoo bulk features 'resnet20.*' --data digits -o features",
            ("layer", "batch_size", "device"),
            ("data",),
            data="any",
            split="train",
        ),
        Task(
            "attack curve",
            f"{_WORK}:attack_curve",
            "Measure accuracy over epsilon, a row for each of the weights and each epsilon.",
            "zoo bulk attack-curve 'resnet20.d*' --data digits -o curves",
            ("kinds", "epsilons", "steps", "step_size", "no_random_start", "seed", "batch_size", "device"),
            data="own",
            split="test",
        ),
        Task(
            "benchmark",
            f"{_WORK}:benchmark",
            "Measure latency and throughput of models or weights, one at a time, into DIR/speed.csv.",
            "zoo bulk benchmark 'resnet*' --batch-size 1 -o speed",
            ("sizes", "mode", "precisions", "compile", "channels_last", "warmup", "steps", "seconds", "device"),
            takes_architectures=True,
            at_once=1,  # others would slow it down
        ),
        Task(
            "verify",
            f"{_WORK}:verify",
            "Check the bytes, tensors and outputs of the weights that PATTERN matches.",
            "zoo bulk verify 'resnet20.*' -o checked",
            ("deep",),
        ),
        Task(
            "export",
            f"{_WORK}:export",
            "Export the weights that PATTERN matches, a file for each.",
            "zoo bulk export 'resnet20.d*' --format onnx -o exported",
            ("format", "precision", "preprocess", "input", "calibrate", "passes"),
            ("format",),
        ),
    )
}

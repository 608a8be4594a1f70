"""``python -m zoo`` is the command ``zoo``; with several processes only the first prints."""

import os
import sys

if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:  # python -m puts it first, and any file there wins
    del sys.path[0]

import io
import time
from contextlib import redirect_stderr, redirect_stdout

from zoo.cli import main
from zoo.cli.output import note, show_unexpected
from zoo.system import distributed

PATIENCE = 5.0
"""Seconds in which the first process can say why all of them fail."""

INTERRUPTED = 130


def main_of_several(group: distributed.Processes) -> int:
    """Runs the command in this process of ``group``; returns its exit code.

    Only the first process prints. The error of another one is shown only if the first
    does not fail too: launchers end all processes soon after one of them.
    """
    # Torch warns that searching for unused parameters costs time if there are none: 0.1 ms per step.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if group.is_first:
        code = _run()
    else:
        said = io.StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            code = _run()
        if code not in (0, INTERRUPTED):
            time.sleep(PATIENCE)
            note(f"process {group.rank}: {said.getvalue().rstrip()}")
    if code == 0:
        group.leave()
    return code


def _run() -> int:
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception as error:
        if distributed.is_about_another(error):
            note("error: another process ended, so this one has to stop.")
            note("hint: launch again; --resume continues a run from its checkpoint.")
        else:
            show_unexpected(error)
        return 1
    return 0


if __name__ == "__main__":
    group = distributed.current()
    if group.count > 1:
        sys.exit(main_of_several(group))
    if os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_PORT" in os.environ:
        note("accelerate launch --cpu starts one process; torchrun, or --multi_gpu without --cpu, starts several.")
    main()

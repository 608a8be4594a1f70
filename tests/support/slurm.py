"""Commands of Slurm as scripts in a folder, as of a cluster without accounting: sbatch runs the tasks of an array on
this machine at once, squeue says how their processes are."""

import sys
from pathlib import Path

_SBATCH = """
import os, re, subprocess, sys
folder = os.path.dirname(os.path.abspath(__file__))
text = open(sys.argv[-1]).read()
open(f"{folder}/submitted.sh", "w").write(text)
pids = open(f"{folder}/pids", "a")
array = re.search(r"--array=0-(\\d+)", text)
alone = {"NTASKS": "1", "JOB_NUM_NODES": "1", "NODEID": "0", "PROCID": "0", "LOCALID": "0"}
for task in range(int(array[1]) + 1) if array else [0]:
    own = {"JOB_ID": str(100 + task), "ARRAY_JOB_ID": "77", "ARRAY_TASK_ID": str(task)} if array else {"JOB_ID": "77"}
    own |= alone
    environment = {**os.environ, **{f"SLURM_{name}": value for name, value in own.items()}}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(["bash", sys.argv[-1]], env=environment, start_new_session=True, **quiet)
    print(f"77_{task}" if array else "77", process.pid, file=pids)
print("Submitted batch job 77")
"""
_SRUN = """
import os, sys
words = sys.argv[1:]
while not os.path.basename(words[0]).startswith("python"):
    words.pop(0)
os.execvp(words[0], words)
"""
_SQUEUE = """
import os
folder = os.path.dirname(os.path.abspath(__file__))
for line in open(f"{folder}/pids"):
    task, pid = line.split()
    try:
        status = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
    except OSError:
        status = "Z"
    cancelled = os.path.exists(f"{folder}/cancelled")
    over = "CANCELLED" if cancelled else "COMPLETED"
    print(task, {"T": "SUSPENDED", "Z": over}.get(status, "RUNNING"))
"""
_SACCT = """
import sys
sys.exit("Slurm accounting storage is disabled")
"""
_SCANCEL = """
import os, signal
folder = os.path.dirname(os.path.abspath(__file__))
open(f"{folder}/cancelled", "w").close()
for line in open(f"{folder}/pids"):
    os.killpg(int(line.split()[1]), signal.SIGKILL)
"""
_SCONTROL = """
import os, signal, sys
folder = os.path.dirname(os.path.abspath(__file__))
number = {"suspend": signal.SIGSTOP, "resume": signal.SIGCONT}[sys.argv[1]]
for line in open(f"{folder}/pids"):
    os.killpg(int(line.split()[1]), number)
"""
_ALL = {"sbatch": _SBATCH, "srun": _SRUN, "squeue": _SQUEUE, "sacct": _SACCT, "scancel": _SCANCEL}
_ALL["scontrol"] = _SCONTROL


def install(folder: Path) -> Path:
    """Writes the commands into ``folder``; ``submitted.sh`` there is the last batch script."""
    folder.mkdir()
    for name, code in _ALL.items():
        (folder / name).write_text(f"#!{sys.executable}\n{code}")
        (folder / name).chmod(0o755)
    return folder

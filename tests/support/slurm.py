"""Commands of Slurm as scripts in a folder: sbatch runs the tasks of an array on this machine at once."""

import sys
from pathlib import Path

_SBATCH = """
import os, re, subprocess, sys
folder = os.path.dirname(os.path.abspath(__file__))
text = open(sys.argv[-1]).read()
open(f"{folder}/submitted.sh", "w").write(text)
array = re.search(r"--array=0-(\\d+)", text)
alone = {"NTASKS": "1", "JOB_NUM_NODES": "1", "NODEID": "0", "PROCID": "0", "LOCALID": "0", "ARRAY_JOB_ID": "77"}
for task in range(int(array[1]) + 1):
    own = {**alone, "JOB_ID": str(100 + task), "ARRAY_TASK_ID": str(task)}
    environment = {**os.environ, **{f"SLURM_{name}": value for name, value in own.items()}}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen(["bash", sys.argv[-1]], env=environment, start_new_session=True, **quiet)
print("Submitted batch job 77")
"""
_SRUN = """
import os, sys
words = sys.argv[1:]
while not os.path.basename(words[0]).startswith("python"):
    words.pop(0)
os.execvp(words[0], words)
"""
_SACCT = """
print("JobID|State|NodeList")
print("77_0|RUNNING|n0")
print("77_1|RUNNING|n1")
"""


def install(folder: Path) -> Path:
    """Writes sbatch, srun, sacct and scancel into ``folder``; ``submitted.sh`` there is the last batch script."""
    folder.mkdir()
    for name, code in {"sbatch": _SBATCH, "srun": _SRUN, "sacct": _SACCT, "scancel": ""}.items():
        (folder / name).write_text(f"#!{sys.executable}\n{code}")
        (folder / name).chmod(0o755)
    return folder

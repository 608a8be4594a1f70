"""The machine and its software: processor, accelerator, memory, versions of libraries, commit of a checkout."""

import json
import platform
import subprocess
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


_CPUINFO = Path("/proc/cpuinfo")


def versions() -> dict[str, str]:
    """Returns the versions of the software that decides the numbers.

    Returns:
        Versions by name.

    Example:
        >>> import zoo
        >>> sorted(zoo.evaluation.versions())
        ['python', 'torch', 'zoo']
    """
    import torch

    return {"zoo": version("zoo-vision"), "torch": str(torch.__version__), "python": platform.python_version()}


def version_of(distribution: str) -> str:
    """Returns the version of an installed ``distribution``, "" if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


@lru_cache  # it reads the files of all that is installed: a second
def distributions_of(module: str) -> list[str]:
    """Returns the distributions that contain the top-level ``module``: scikit-learn for sklearn."""
    return sorted(set(packages_distributions().get(module.partition(".")[0], [])))


def hardware(device: "torch.device") -> str:
    """Returns the name of the processor or accelerator."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    return _cpuinfo(_CPUINFO).get("model name") or platform.processor() or platform.machine()


def cpu_name(file: Path = _CPUINFO) -> str:
    """Returns the processor's name with family and model, which distinguish processors sold under one name."""
    facts = _cpuinfo(file)
    if not facts:
        return platform.processor() or platform.machine()
    numbers = [f"{key.removeprefix('cpu ')} {facts[key]}" for key in ("cpu family", "model") if key in facts]
    name = facts.get("model name") or platform.machine()
    return f"{name} ({', '.join(numbers)})" if numbers else name


def _cpuinfo(file: Path) -> dict[str, str]:
    """Returns the facts about the first processor; {} if there is no such file, as on other systems than Linux."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


@lru_cache
def commit(file: Path = Path(__file__).parents[1] / "__init__.py") -> str:
    """Returns the commit of the checkout that ``file`` is in, with ``-dirty`` if it was changed; "" if in none."""
    is_tracked = ("ls-files", "--error-unmatch", file.name)  # and no environment within another project
    describe = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    try:
        for words in (is_tracked, describe):
            command = ["git", "-C", str(file.parent), *words]
            answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()


UNCOMMITTED = "uncommitted"
"""The code of a distribution that was installed from a folder: its version says nothing about its files."""


def code_of(name: str, module: str) -> str:
    """Returns what the code of ``module`` in the distribution ``name`` is, beside its version.

    That is the commit of its checkout, as of :func:`commit`, or the one that pip installed; ``UNCOMMITTED`` for a
    folder outside a repository; "" for what was installed from a package, which its version names.
    """
    spec = find_spec(module.partition(".")[0])
    if spec is not None and spec.origin is not None and (code := commit(Path(spec.origin))):
        return code
    try:
        source = json.loads(distribution(name).read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return UNCOMMITTED
    return str(source.get("vcs_info", {}).get("commit_id", "")) or (UNCOMMITTED if "dir_info" in source else "")


_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Has glibc keep freed memory; returns whether it does (only on Linux with glibc).

    By default glibc returns every large block to the kernel when it is freed, so each training step pays for fresh
    pages. Keeping them doubles float32 throughput on a CPU and changes no result.
    """
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return False
    import ctypes

    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))

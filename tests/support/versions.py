"""Tests the supported versions: ``make test-versions``, or ``python tests/support/versions.py [JOB]...``.

Jobs are ``lowest``, ``3.11``, ``3.12`` and ``3.13``. ``lowest`` is the lowest Python with the lowest version
of each dependency that pyproject.toml admits; the others have the newest versions. Each job installs the
wheel, not the working tree, and runs the tests of ``SUBSET``. Exits 1 if a job fails. A Python that is not
installed is reported and skipped. Environments stay in ``.venv-versions``.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".venv-versions"
PYTHONS = ("3.11", "3.12", "3.13")
SUBSET = (
    *("test_names.py", "spec", "manifest", "registry", "loading", "data", "evaluation"),
    *("hub/test_hub.py", "hub/test_cache.py", "cli/test_cli.py", "cli/test_recipes.py"),
    *("training/test_recipe.py", "training/test_engine.py", "training/test_optimization.py"),
    *("trust/test_pinning.py", "trust/test_signing.py", "plugins/publish", "plugins/test_transfer.py"),
    *("plugins/convert/test_formats.py", "plugins/look/test_look.py", "plugins/attack/test_gradient.py"),
    *("plugins/test_classical.py", "plugins/test_speedrun.py"),
)
"""Every library that Zoo imports is used by one of these."""


def uv(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "uv", "--quiet", *map(str, arguments)], check=True, cwd=HOME)


def has_python(version: str) -> bool:
    found = [sys.executable, "-m", "uv", "--quiet", "python", "find", "--no-python-downloads", version]
    return subprocess.run(found, capture_output=True).returncode == 0


def run(job: str, wheel: Path) -> bool:
    """Installs ``wheel`` into the environment of ``job`` and runs the tests there; True if they pass."""
    home = HOME / job
    python = home / "bin" / "python"
    uv("venv", "--clear", "--no-python-downloads", "--python", PYTHONS[0] if job == "lowest" else job, home)
    # Only what pyproject.toml names itself is direct: asked for by the wheel, it would be of the highest version.
    resolution = "lowest-direct" if job == "lowest" else "highest"
    versions = home / "versions.txt"
    # Source distributions of old versions seldom build; a version without a wheel is not one to support.
    options = ("--resolution", resolution, "--only-binary", ":all:", "--python", python, "--output-file", versions)
    uv("pip", "compile", ROOT / "pyproject.toml", "--extra", "test", *options)
    uv("pip", "install", "--python", python, "--requirements", versions)
    uv("pip", "install", "--python", python, "--no-deps", wheel)
    # -P: the wheel is tested, not the working tree.
    tests = [ROOT / "tests" / name for name in SUBSET]
    command = [
        python,
        "-P",
        "-m",
        "pytest",
        "-q",
        "-n",
        "2",
        "-p",
        "no:cacheprovider",
        "-c",
        ROOT / "pyproject.toml",
        *tests,
    ]
    return subprocess.run(list(map(str, command)), cwd=HOME).returncode == 0


def main(jobs: list[str]) -> int:
    HOME.mkdir(exist_ok=True)
    shutil.rmtree(HOME / "wheel", ignore_errors=True)
    uv("build", "--wheel", "--out-dir", HOME / "wheel", ROOT)
    (wheel,) = (HOME / "wheel").glob("*.whl")
    outcome = {}
    for job in jobs or ["lowest", *PYTHONS]:
        if not has_python(PYTHONS[0] if job == "lowest" else job):
            outcome[job] = "this Python is not installed"
        else:
            outcome[job] = "passed" if run(job, wheel) else "FAILED"
    for job, said in outcome.items():
        print(f"{job:8} {said}")
    return int("FAILED" in outcome.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

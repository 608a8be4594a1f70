"""Third-party distributions, written to a folder as pip would leave them: for tests of plugins."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zoo import registry

HEAD = "from zoo.spec import Model, Plugin, Requirement\n"


def install(
    site: Path, distribution: str, entry_points: dict[str, str], files: dict[str, str], *, group: str = "zoo.plugins"
) -> Path:
    """Puts ``distribution`` 1.0 with its entry points in ``group`` and its files into the folder ``site``."""
    lines = [f"{name} = {target}\n" for name, target in entry_points.items()]
    info = f"{distribution.replace('-', '_')}-1.0.dist-info"
    every = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n",
        f"{info}/entry_points.txt": f"[{group}]\n" + "".join(lines),
        **files,
    }
    for path, text in every.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
    return site


def bring(
    monkeypatch: pytest.MonkeyPatch, site: Path, distribution: str, entry_points: dict[str, str], files: dict[str, str]
) -> None:
    """Installs as :func:`install` and makes it known to this process until the test ends."""
    install(site, distribution, entry_points, files)
    monkeypatch.syspath_prepend(str(site))
    for file in files:
        monkeypatch.delitem(sys.modules, file.removesuffix(".py"), raising=False)
    registry.clear()


def plugin(name: str, *models: str, **fields: str) -> str:
    """Returns the text of a module that defines the plugin ``name`` with ``models``; ``fields`` are Python
    expressions.
    """
    rows = "".join(f'Model("{model}", build="{name}_model:build"), ' for model in models)
    given = "".join(f", {field}={value}" for field, value in fields.items() if field != "api")
    return f'{HEAD}plugin = Plugin(name="{name}", api={fields.get("api", "1")}, models=({rows}){given})\n'


def run(*words: str, site: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Returns ``python -m zoo WORDS`` as a process of its own, with ``site`` on its path."""
    path = os.pathsep.join(filter(None, [str(site) if site else "", os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        [sys.executable, "-m", "zoo", *words],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def forget(site: Path) -> None:
    """Makes this process as a new one: nothing of ``site`` is imported, and the registry is not read."""
    for name, module in [*sys.modules.items()]:
        if str(getattr(module, "__file__", None) or "").startswith(str(site)):
            del sys.modules[name]
    importlib.invalidate_caches()
    registry.clear()

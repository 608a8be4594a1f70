"""Checks of a plugin as a whole."""

import os
import subprocess
import sys
from fnmatch import fnmatchcase

from zoo import registry
from zoo.registry import PluginRow, roles
from zoo.training import choice

_REFUSE_TORCH = """
import sys, traceback
class Refuse:
    def find_spec(name, path=None, target=None):
        if name == "torch":
            traceback.print_stack()
            raise SystemExit(1)
sys.meta_path.insert(0, Refuse)
"""

EXTENSIONS = {"attacks": roles.ATTACK, "looks": roles.LOOK, "exports": roles.EXPORT, "readers": roles.READ}


def usable(plugin: str, rows: list[PluginRow]) -> None:
    """A plugin of this name is installed, imports, and is the only one."""
    known = ", ".join(row.name for row in registry.current().plugins)
    assert rows, f"no plugin {plugin!r} is installed, only {known}. After adding an entry point, run pip install again."
    assert len(rows) == 1, f"{len(rows)} plugins are called {plugin!r}: {', '.join(row.distribution for row in rows)}"
    assert rows[0].status == "ok", f"plugin {plugin!r} is {rows[0].status}: {rows[0].reason}"


def torch_free_import(row: PluginRow) -> None:
    """The module of the entry point, and that of ``hook_args``, import no torch, so that listing stays instant."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    own = row.plugin.hook_args.partition(":")[0] if row.plugin is not None else ""
    modules = ", ".join(filter(None, [row.module, own]))
    code = f"{_REFUSE_TORCH}import {modules}"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"importing {modules} imports torch, or fails:\n{done.stderr}"


def manifests(row: PluginRow) -> None:
    """Every manifest of the plugin parses and names only its own models."""
    _ = row.weights


def recipes(row: PluginRow) -> None:
    """Every recipe is valid, and is meant for models that there are."""
    assert row.plugin is not None
    names, own = [model.name for model in row.plugin.models], choice.own_fields(row.plugin)
    for name, table in choice.read(row.plugin).items():
        choice.resolve(name, table, own=own)
        for pattern in table.get("models", ()):
            met = any(fnmatchcase(model, pattern) for model in names)
            assert met, f"recipe {name!r} has models {pattern!r}, which matches none of {', '.join(names)}"


def repositories(row: PluginRow) -> None:
    """The hook for repositories, if there is one, leaves descriptions of another form to other plugins."""
    assert row.plugin is not None
    if target := row.plugin.repositories:
        for foreign in ({}, {"model_type": "bert", "architectures": ["BertModel"]}):
            said = registry.hook(target, role=roles.REPOSITORIES)(foreign)
            assert said is None, f"{target} understands {foreign}, which is not of its form: {said}"


def extensions(row: PluginRow) -> None:
    """The hooks of data sets, attacks, questions, passes and readers can be imported and take what they are passed."""
    assert row.plugin is not None
    for field, role in EXTENSIONS.items():
        for extension in getattr(row.plugin, field):
            registry.hook(extension.run, extension.requires, role=role, of=extension.name)
    for dataset in row.plugin.datasets:
        registry.hook(dataset.load, row.plugin.requires, role=roles.LOAD, of=dataset.name)

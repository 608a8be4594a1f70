"""Checks of a plugin as a whole."""

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from fnmatch import fnmatchcase
from typing import cast

import click

from zoo import registry
from zoo.errors import MissingExtraError, PluginError
from zoo.hub import address
from zoo.registry import PluginRow, hooks
from zoo.registry.extensions import import_tool
from zoo.testing import source
from zoo.testing.subject import CheckError, expect
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

EXTENSIONS = {"attacks": hooks.ATTACK, "looks": hooks.LOOK, "exports": hooks.EXPORT, "readers": hooks.READ}


def usable(plugin: str, rows: list[PluginRow]) -> None:
    """Checks that a plugin of this name is installed, imports, and is the only one.

    Fix: what the reason says; ``zoo --debug plugins show NAME`` prints the traceback.
    """
    installed = ", ".join(row.name for row in registry.current().plugins)
    expect(
        rows,
        f"no plugin {plugin!r} is installed, only {installed}. After adding an entry point, run pip install again.",
    )
    rivals = ", ".join(row.distribution for row in rows)
    expect(len(rows) == 1, f"{len(rows)} plugins are called {plugin!r}: {rivals}")
    row = rows[0]
    if row.status != "ok":
        model, field = _written_at(row)
        cause = PluginError(row.traceback) if row.traceback else None
        raise CheckError(f"plugin {plugin!r} is {row.status}: {row.reason}", field, model) from cause


def _written_at(row: PluginRow) -> tuple[str, str]:
    """Returns the model and the field of the row in the line that the reason ends with; empty if no row has it."""
    found = re.search(r"\((\S+\.py):(\d+)\)$", row.reason)
    for file in source.files_of(row) if found else ():
        if found and file.name == found[1] and (model := source.model_at(file, int(found[2]))):
            return model, source.field_at(file, int(found[2])) or "row"
    return "", ""


def torch_free_import(row: PluginRow) -> None:
    """Checks that the modules of the entry point, of commands and of ``hook_args`` import no torch and print nothing.

    So listing stays instant, and what it prints is whole.

    Fix: keep rows alone in ``__init__.py``; hooks are strings such as ``"zoo_hello.model:hello_net"``.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    targets = [row.plugin.hook_args, *row.plugin.commands.values()] if row.plugin is not None else []
    modules = ", ".join(dict.fromkeys(filter(None, [row.module, *(target.partition(":")[0] for target in targets)])))
    code = f"{_REFUSE_TORCH}import {modules}"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    expect(done.returncode == 0, f"importing {modules} imports torch, or fails:\n{done.stderr}")
    expect(not done.stdout, f"importing {modules} writes to standard output: {done.stdout[:200]!r}")


def manifests(row: PluginRow) -> None:
    """Checks that every manifest parses, names installed models, and no place that is on this machine alone.

    Fix: the line of the manifest that the message names; ``zoo publish --manifest FILE`` writes entries.
    """
    brought = [entry for arch in row.brought_tags for entry in row.brought(arch)]
    missing = registry.current().missing(row)
    expect(not missing, f"no model {', '.join(map(repr, missing))} is installed, or several plugins have it")
    entries_of_row = [entry for entries in row.weights.values() for entry in entries] if not row.is_collection else []
    for entry in (*entries_of_row, *brought):
        if entry.hub != "hf" and isinstance(address.parse(entry.hub), address.Directory):
            raise CheckError(
                f"[{entry.name}] hub = {entry.hub!r} is a folder of this machine: publish to a folder below that of "
                "the manifest (zoo publish --to FOLDER --manifest FILE), which is then relative to it, or to a hub "
                "that others reach",
                "hub",
            )


def key_maps(row: PluginRow) -> None:
    """Checks that every key map that names models names some that are installed.

    Fix: the patterns in ``models``: ``resnet20``, ``resnet*`` or ``plugin/arch``.
    """
    known = [one for listed in registry.current().named() for one in (listed.arch, f"{listed.row.name}/{listed.arch}")]
    for key_map in row.bare.key_maps if row.bare is not None else ():
        met = not key_map.models or any(fnmatchcase(one, pattern) for one in known for pattern in key_map.models)
        expect(met, f"key map {key_map.name!r} is for {', '.join(key_map.models)}, which matches no model")


def recipes(row: PluginRow) -> None:
    """Checks that every recipe is valid, and its patterns match models of the plugin.

    Fix: the field or the pattern that the message names.
    """
    assert row.plugin is not None
    names, fields = [model.name for model in row.plugin.models], choice.own_fields(row.plugin)
    for name, table in choice.read(row.plugin).items():
        choice.resolve(name, table, own=fields)
        for pattern in table.get("models", ()):
            met = any(fnmatchcase(model, pattern) for model in names)
            expect(met, f"recipe {name!r} has models {pattern!r}, which matches none of {', '.join(names)}")


def file_arguments(row: PluginRow) -> None:
    """Checks that every argument that a weights file may set is one that the build function of a model takes.

    Fix: name an argument of the build function in ``file_args``, or remove it there.
    """
    assert row.plugin is not None
    takers: dict[str, list[bool]] = {}  # rows may share what a plugin declares, so one that takes it is enough
    for model in row.plugin.models:
        accepted = hooks.args_of(registry.hook(model.build, model.requires)) if model.file_args else []
        for name in model.file_args:
            takers.setdefault(name, []).append(accepted is None or name in (*accepted, *hooks.SAFE))
    for name, are in takers.items():
        models = ", ".join(model.name for model in row.plugin.models if name in model.file_args)
        expect(any(are), f"file_args has {name!r}, which the build function does not take: {models}")


def repositories(row: PluginRow) -> None:
    """Checks that the hook for repositories, if there is one, leaves descriptions of another form to other plugins.

    Fix: return None unless the description has a mark of your own library.
    """
    assert row.plugin is not None
    if target := row.plugin.repositories:
        for foreign in ({}, {"model_type": "bert", "architectures": ["BertModel"]}):
            said = registry.hook(target, role=hooks.REPOSITORIES)(foreign)
            expect(said is None, f"{target} understands {foreign}, which is not of its form: {said}")


def extensions(row: PluginRow) -> None:
    """Checks that the hooks of data sets, attacks, questions, passes, readers and formats take what they are passed.

    Fix: name a function that exists, ``"package.module:function"``, with the arguments that the message lists.
    """
    plugin = row.plugin
    assert plugin is not None
    targets = [("datasets", hooks.LOAD, part.name, part.load, plugin.requires) for part in plugin.datasets]
    for field, role in EXTENSIONS.items():
        targets += [(field, role, part.name, part.run, part.requires) for part in getattr(plugin, field)]
    for field, role in {"converters": hooks.CONVERT, "openers": hooks.OPEN}.items():
        targets += [(field, role, ending, target, plugin.requires) for ending, target in getattr(plugin, field).items()]
    for field, role, name, target, requires in targets:
        try:
            registry.hook(target, requires, role=role, of=name)
        except MissingExtraError:
            raise
        except PluginError as error:
            raise CheckError(f"{role.field} of {name!r}: {error}", field) from error


def commands(row: PluginRow) -> None:
    """Checks that a command has a help text, ``-h``, ``--json``, exits 2 for a wrong option; modules can be imported.

    Fix: end the function with a docstring's help, decorate it with ``zoo.cli.options.json``, and leave usage to click.
    """
    assert row.plugin is not None
    for name, target in row.plugin.modules.items():
        import_tool(name, target)
    for name, target in row.plugin.commands.items():
        command: object = registry.hook(target)
        expect(isinstance(command, click.Command), f"{target} is a {type(command).__name__}, expected a click.Command")
        for path, subcommand in _commands(name, cast(click.Command, command)):
            expect(subcommand.help, f"zoo {path} has no help text")
            for words, code in ((["-h"], 0), (["--help"], 0), (["--no-such-option"], 2)):
                got = _exit_code(subcommand, words)
                expect(got == code, f"zoo {path} {words[0]} exits with {got}, expected {code}")
            is_group = isinstance(subcommand, click.Group)
            has_json = any("--json" in parameter.opts for parameter in subcommand.params)
            expect(is_group or has_json, f"zoo {path} has no --json, which programs read")


def _exit_code(command: click.Command, words: list[str]) -> int:
    """Returns the code with which the command exits when it is asked with these words, below ``zoo``; 0 if it would
    run.
    """
    above = click.Context(click.Group("zoo"), help_option_names=["-h", "--help"])
    try:
        with redirect_stdout(io.StringIO()):
            command.make_context(command.name, list(words), parent=above)
    except click.ClickException as error:
        return error.exit_code
    except click.exceptions.Exit as end:
        return end.exit_code
    return 0


def _commands(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """Yields the command and those below it, each with the words that reach it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            subcommand = command.get_command(context, name)
            assert subcommand is not None
            yield from _commands(f"{path} {name}", subcommand)

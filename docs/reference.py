"""Writes docs/python.md, every public function, and docs/commands.md, every command: ``python docs/reference.py``.

The site makes the text on functions from their docstrings; that on commands comes from click. A test checks that the
pages are up to date.
"""

import inspect
import re
import types
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from zoo import registry
from zoo.cli import Root, cli
from zoo.cli.group import Commands

DOCS = Path(__file__).parent

PACKAGES = (
    "zoo.data",
    "zoo.look",
    "zoo.attack",
    "zoo.training",
    "zoo.evaluation",
    "zoo.registry",
    "zoo.spec",
    "zoo.modules",
    "zoo.testing",
)
"""Public packages, each a section; ``zoo`` itself comes first."""

HEAD = """# Python

`import zoo` is enough for every function on this page, and imports no torch. Exceptions are in `zoo.errors`; all derive
from `zoo.ZooError`, whose `hint` says what to do.

<!-- `python docs/reference.py` writes this page. -->
"""

COMMANDS_HEAD = """# Every command and option

[Command line](cli.md) is a shorter list, with exit codes and environment variables. Every command takes `-h`, and
`zoo --debug COMMAND` shows the traceback of an error. Plugins may add commands.

<!-- `python docs/reference.py` writes this page. -->
"""


def members(package: types.ModuleType) -> Iterator[tuple[str, Any]]:
    """Yields the public functions and classes of ``package``, by name."""
    for name in sorted(package.__all__):
        value = getattr(package, name)
        if (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__.startswith(("zoo.", "zoo_")):
            yield name, value


def python() -> str:
    """Returns the page on functions."""
    lines, seen = [HEAD], set()
    for name in ("zoo", *PACKAGES):
        package = import_module(name)
        found = [(own, value) for own, value in members(package) if value not in seen]
        seen |= {value for _, value in found}
        if found:
            lines.append(f"## {name}\n")
            lines += [f"::: {value.__module__}.{value.__qualname__}\n" for _, value in found]
    lines += ["## Errors\n", "::: zoo.errors\n"]
    return "\n".join(lines)


def commands() -> str:
    """Returns the page on commands."""
    return "\n".join([COMMANDS_HEAD, *below(cli, click.Context(cli, info_name="zoo", **cli.context_settings))])


def below(group: Commands, context: click.Context) -> Iterator[str]:
    """Yields the sections of the commands of ``group`` of Zoo's own distribution, in the order of its help."""
    sections = {**group.sections, **group.more_sections()}
    for name in [name for heading, names in sections.items() if heading != "From plugins:" for name in names]:
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        yield section(command, inner)
        for option, tool in group.variants(command, name).items() if isinstance(group, Root) else ():
            if tool.is_builtin:
                variant: click.Command = registry.hook(tool.address)  # type: ignore[assignment]  # of its plugin
                yield section(variant, click.Context(variant, info_name=f"{name} {option}", parent=context))
        if isinstance(command, Commands):
            yield from below(command, inner)


def section(command: click.Command, context: click.Context) -> str:
    """Returns a heading, what the command does, its usage, its options, its example."""
    options = [one.get_help_record(context) for one in command.params if isinstance(one, click.Option)]
    usage = command.collect_usage_pieces(context)
    lines = [
        f"{'#' * len(context.command_path.split())} {context.command_path}",
        "",
        plain(inspect.cleandoc(command.help or "")),
        "",
        "```text",
        " ".join([context.command_path, *filter(None, usage)]),
        *([command.epilog] if command.epilog else []),
        "```",
        "",
    ]
    if options:
        lines += ["| option | meaning |", "|---|---|"]
        # A bar within code ends a cell on GitHub, and an escaped one shows its backslash on the site.
        rows = [(names.replace("|", ", "), cell(plain(meaning))) for names, meaning in filter(None, options)]
        lines += [f"| `{names}` | {meaning} |" for names, meaning in rows]
        lines.append("")
    return "\n".join(lines)


def plain(text: str) -> str:
    """Returns ``text`` with the characters escaped that Markdown gives a meaning."""
    return re.sub(r"([*\[\]])", r"\\\1", text).replace("<", "&lt;")


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


PAGES = {DOCS / "python.md": python, DOCS / "commands.md": commands}


if __name__ == "__main__":
    for page, render in PAGES.items():
        page.write_text(render(), encoding="utf-8")

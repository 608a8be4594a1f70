"""Writes docs/python.md and docs/python, every public function, and docs/commands.md: ``python docs/reference.py``.

The site makes the text on functions from their docstrings; that on commands comes from click. A test checks that the
pages are up to date.
"""

import inspect
import re
import types
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from zoo import registry
from zoo.cli import Root, cli
from zoo.cli.group import Commands

DOCS = Path(__file__).parent

PACKAGES = {
    "zoo": "Networks, weights, scores",
    "zoo.data": "Data sets and preparation",
    "zoo.training": "Training",
    "zoo.evaluation": "Scores",
    "zoo.look": "Looking inside",
    "zoo.attack": "Attacks",
    "zoo.registry": "Names and plugins",
    "zoo.spec": "What a plugin author writes",
    "zoo.modules": "Layers",
    "zoo.testing": "The conformance kit",
    "zoo.errors": "Errors",
}
"""Public packages with their subject, each a page. What several have is on the page of the first."""

HEAD = """# Python

`import zoo` is enough for every function on these pages, and imports no torch. Exceptions are in
[`zoo.errors`](python/zoo.errors.md); all derive from `zoo.ZooError`, whose `hint` says what to do.

<!-- `python docs/reference.py` writes this page. -->
"""

COMMANDS_HEAD = """# Every command and option

[Command line](cli.md) is a shorter list, with exit codes and environment variables. Every command takes `-h`, and
`zoo --debug COMMAND` shows the traceback of an error. Plugins may add commands.

<!-- `python docs/reference.py` writes this page. -->
"""


def members(package: types.ModuleType) -> Iterator[tuple[str, Any]]:
    """Yields the public functions and classes of ``package``, by name."""
    for name in sorted(getattr(package, "__all__", vars(package))):
        value = getattr(package, name)
        if (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__.startswith(("zoo.", "zoo_")):
            yield name, value


def pages() -> dict[str, dict[str, Any]]:
    """Returns the public functions and classes of each page, by package and name."""
    seen: set[Any] = set()
    found = {}
    for name in PACKAGES:
        package = import_module(name)
        found[name] = {own: value for own, value in members(package) if value not in seen}
        seen |= {*found[name].values()}
    return found


def python() -> str:
    """Returns the page that lists all functions, by package."""
    lines = [HEAD]
    for package, values in pages().items():
        lines += [
            f"## [{package}](python/{package}.md)",
            "",
            f"{PACKAGES[package]}.",
            "",
            "| name | what it is |",
            "|---|---|",
        ]
        for name, value in values.items():
            meaning = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", (inspect.getdoc(value) or "").partition("\n\n")[0])
            link = f"[`{name}`](python/{package}.md#{package}.{name})"
            lines.append(f"| {link} | {cell(plain(meaning.replace('``', '`')))} |")
        lines.append("")
    return "\n".join(lines)


def module(package: str) -> str:
    """Returns the page of ``package``."""
    lines = [f"# {package}", "", f"{PACKAGES[package]}: [all of Python](../python.md).", ""]
    lines += ["<!-- `python docs/reference.py` writes this page. -->", ""]
    where = import_module(package).__name__  # of a plugin: zoo.look is zoo_look
    for name, value in pages()[package].items():
        if where == package:
            lines += [f"::: {package}.{name}", ""]
        else:
            place = f"{where}.{name}" if value.__module__.startswith(f"{where}.") else f"{value.__module__}.{name}"
            lines += [f'<span id="{package}.{name}"></span>', "", f"::: {place}", ""]
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


PAGES: dict[Path, Callable[[], str]] = {DOCS / "python.md": python, DOCS / "commands.md": commands}
PAGES |= {DOCS / "python" / f"{package}.md": partial(module, package) for package in PACKAGES}


if __name__ == "__main__":
    (DOCS / "python").mkdir(exist_ok=True)
    for page, render in PAGES.items():
        page.write_text(render(), encoding="utf-8")

"""Writes tests/README.md: where each command, public name and file is tested, by what tests name."""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from glob import glob
from pathlib import Path
from pkgutil import resolve_name

import click

import zoo
from zoo.cli import cli

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "tests" / "README.md"
TOPS = ("tests", "zoo", "plugins")


def commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yields the words of every command, and the module with its function."""
    context = click.Context(group, info_name="zoo", **group.context_settings)
    for name in group.list_commands(context):
        part = group.get_command(context, name)
        yield (*words, name), str(getattr(getattr(part, "callback", None), "__module__", ""))
        yield from commands(part, (*words, name)) if isinstance(part, click.Group) else ()


COMMANDS = dict(commands(cli))


@cache
def home(address: str) -> str:
    """Returns the file of the module or value at a dotted address, relative to the project; "" where it has none."""
    try:
        value = resolve_name(address)
    except (AttributeError, ImportError, ValueError):
        return home(address.rpartition(".")[0]) if "." in address else ""
    module = sys.modules.get(getattr(value, "__module__", getattr(value, "__name__", "")))
    place = Path(getattr(module, "__file__", None) or "")
    return place.relative_to(ROOT).as_posix() if place.is_relative_to(ROOT) else ""


@cache
def named(file: str) -> Counter[str]:
    """Counts the files, the values as ``zoo.NAME`` and the commands as ``zoo WORDS`` that ``file`` names."""
    text, bound, found = (ROOT / file).read_text("utf-8"), {"zoo": "zoo"}, Counter[str]()
    for node in ast.walk(ast.parse(text)):
        for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
            before = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            bound[alias.asname or alias.name.partition(".")[0]] = before + alias.name
        values = node.args if isinstance(node, ast.Call) else getattr(node, "elts", [])
        words = tuple(str(value.value) for value in values if isinstance(value, ast.Constant))
        for known in [words[:length] for length in (3, 2, 1) if words[:length] in COMMANDS][:1]:
            found.update([f"zoo {' '.join(known)}", home(COMMANDS[known])])
    paths = re.findall(r"(?<![\w.])(\w+)((?:\.\w+)+)", text)
    addresses = [*bound.values(), *(bound[first] + rest for first, rest in paths if first in bound)]
    addresses = [address for address in addresses if re.match(r"zoo(_|\.)", address)]
    found.update([".".join(address.split(".")[:2]) for address in addresses] + [*map(home, addresses)])
    return found


def render() -> str:
    """Returns the page; what no test names itself has the tests of its plugin, or a file that names it."""
    tests, core, plugins = (sorted(glob(f"{top}/**/*.py", root_dir=ROOT, recursive=True)) for top in TOPS)
    tests, sources = [test for test in tests if "/test_" in test], [*core, *plugins]
    things = {f"zoo {' '.join(words)}": home(module) for words, module in COMMANDS.items()}
    things |= {f"zoo.{name}": home(f"zoo.{name}") for name in dir(zoo)}
    things |= {file: file for file in sources if "/__" not in file}
    page = "# Tests\n\nAt most six test files of each thing, first the one that names it most, by `make generate`.\n\n"
    page += "| | tests |\n|---|---|\n"
    for thing, file in things.items():
        family = re.sub(r"^plugins/zoo_(\w+?)/.*", r"plugins/(test_)?\1(\.py|/)", file)
        known = [sorted((-named(test)[name], test) for test in tests if named(test)[name]) for name in (thing, file)]
        shown = [f"`{test[6:]}`" for _, test in known[0] or known[1]]
        shown = shown or [f"`{test[6:]}`" for test in tests if re.search(family, test)]
        users = [(Path(user).parent != Path(file).parent, user) for user in sources if named(user)[file]]
        shown = shown[:6] or [f"through `{user}`" for _, user in sorted(users)[:1] if user != file]
        page += f"| `{thing}` | {', '.join(shown)} |\n" if shown else ""
    return page


if __name__ == "__main__":
    PAGE.write_text(render(), "utf-8")

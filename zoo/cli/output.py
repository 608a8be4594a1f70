r"""Output: tables and JSON on standard output, everything else on standard error.

Everything printed and logged passes here: names in files, servers' answers and plugins' messages may hold control
characters or reverse the direction of text. Those are shown as escapes, such as ``\x1b``.

rich draws only on terminals: importing it costs more than listing a thousand models, and a pipe has no width.
"""

import contextlib
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from zoo.errors import ZooError
from zoo.system import progress
from zoo.system.progress import count as count
from zoo.system.progress import size as size
from zoo.system.terminal import bounded
from zoo.system.terminal import escaped as escaped

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

T = TypeVar("T")


_LONGEST = 10_000
"""Characters of an error's message, or of its hint, that are shown; ten times as many of its traceback."""


def echo(text: object = "", *, err: bool = False) -> None:
    """Prints ``text``, escaped, and a line end."""
    click.echo(escaped(str(text)), err=err)


def one_line(text: str) -> str:
    """Escapes as :func:`escaped` does, with line ends as escapes too."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


@contextlib.contextmanager
def clean_log() -> Iterator[None]:
    """Escapes the log messages that go to Python's handler of last resort, standard error."""
    import logging

    class Escaping(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return escaped(super().format(record))

    last = logging.lastResort
    if last is not None:
        before, last.formatter = last.formatter, Escaping()
    try:
        yield
    finally:
        if last is not None:
            last.formatter = before


def print_json(value: Any) -> None:
    """Prints ``value`` as one JSON document."""
    try:
        text = msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode()
    except UnicodeEncodeError:  # a path that is not UTF-8
        import json

        text = json.dumps(_without_nan(msgspec.to_builtins(value, enc_hook=str)), indent=2, ensure_ascii=False)
    click.echo(escaped(text, lambda character: f"\\u{ord(character):04x}"))


def _without_nan(value: Any) -> Any:
    """Returns ``value`` with None for NaN and infinity, as msgspec does."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [*map(_without_nan, value)]
    return None if isinstance(value, float) and not isfinite(value) else value


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[str] = ()) -> None:
    """Prints aligned columns, those in ``right`` to the right; leaves out empty ones."""
    shown = [i for i in range(len(titles)) if any(row[i] for row in rows)]
    titles, rows = [titles[i] for i in shown], [_cells(row, shown) for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console

        return Console(markup=False, emoji=False, highlight=False).print(drawn_table(titles, rows, right))
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    columns = (f"{{:{'>' if title in right else '<'}{width}}}" for title, width in zip(titles, widths, strict=True))
    line = "  ".join(columns).format
    return echo("\n".join([line(*row).rstrip() for row in [titles, *rows]]))


def _cells(row: Sequence[str], shown: Sequence[int]) -> list[str]:
    """Returns the cells that are shown, each in one line; a table has many, and few need an escape."""
    cells = [row[i] for i in shown]
    return cells if "".join(cells).isprintable() else [*map(one_line, cells)]


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Prints a name and its value a line; leaves out empty ones."""
    facts = [(name, one_line(value)) for name, value in facts if value]
    width = max(len(name) for name, _ in facts)
    echo("\n".join(f"  {name.ljust(width)}  {value}" for name, value in facts))


def mean_class(score: float, interval: tuple[float, float] | None) -> str:
    """Returns a mean over classes in words. Without errors every draw of its bootstrap is the same, and an interval
    without width would promise too much."""
    low, high = interval or (0, 0)
    return f"{score:.3f}%" + (f"  (95% interval {low:.3f} to {high:.3f}, bootstrap by class)" if low < high else "")


def note(message: str) -> None:
    """Prints a remark on standard error."""
    echo(message, err=True)


def complain(error: Exception, about: str = "") -> None:
    """Prints ``error`` and its hint on standard error; the traceback with ``--debug``."""
    show_traceback(error)
    message = error.message if isinstance(error, ZooError) else str(error)
    prefix = f"{about}: " if about not in message else ""
    click.echo(click.style("error: ", fg="red") + escaped(prefix + bounded(message, _LONGEST)), err=True)
    if isinstance(error, ZooError) and error.hint:
        echo(f"hint: {bounded(error.hint, _LONGEST)}", err=True)


def show_traceback(error: BaseException | None) -> None:
    """Prints the traceback of ``error`` on standard error, with ``--debug``."""
    context = click.get_current_context(silent=True)
    if error is not None and context is not None and context.find_root().params.get("debug"):
        show_unexpected(error)


def show_unexpected(error: BaseException) -> None:
    """Prints the traceback of ``error`` on standard error: its text may be a plugin's."""
    import traceback

    echo(bounded("".join(traceback.format_exception(error)).rstrip(), 10 * _LONGEST), err=True)


def do_each(names: Sequence[str], work: Callable[[str], T]) -> tuple[dict[str, T], dict[str, str], int]:
    """Calls ``work`` for each of ``names``, also after a failure, which is printed.

    Returns the results, the reasons of the failures, and the exit code.
    """
    done: dict[str, T] = {}
    failed: dict[str, str] = {}
    code = 0
    for name in dict.fromkeys(names):
        try:
            done[name] = work(name)
        except BrokenPipeError:
            raise
        except (ZooError, OSError) as error:
            complain(error, about=name if len(names) > 1 else "")
            failed[name] = str(error)
            code = error.exit_code if isinstance(error, ZooError) and len(names) == 1 else 1
    return done, failed, code


def outcomes(done: dict[str, dict[str, Any]], failed: dict[str, str]) -> list[dict[str, Any]]:
    """Returns the results of :func:`do_each` as rows of a JSON document."""
    rows = [{"name": name, "ok": True, **row} for name, row in done.items()]
    return rows + [{"name": name, "ok": False, "error": reason} for name, reason in failed.items()]


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Sends what a plugin's code prints to standard error: standard output holds only the result."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def show_progress(label: str, *, bytes: bool = False) -> AbstractContextManager[Callable[[int, int], None] | None]:
    """Shows a bar on standard error if that is a terminal; yields its callback (done, total)."""
    return progress.bar(one_line(label), bytes=bytes)


@contextlib.contextmanager
def live_table() -> "Iterator[Live | None]":
    """Yields a place on standard error for a table that changes; None if that is not a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, markup=False, emoji=False, highlight=False)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield live


def drawn_table(titles: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str]) -> "Table":
    """Returns the table that rich draws."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        table.add_column(
            title, justify="right" if title in right else "left", overflow="fold", no_wrap=title in (titles[0], *right)
        )
    for row in rows:
        table.add_row(*map(one_line, row))
    return table

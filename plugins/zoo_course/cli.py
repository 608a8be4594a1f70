"""``zoo course``: the chapters, their exercises, and whether an answer is right."""

import os

import click

from zoo.cli import options
from zoo.cli.group import Commands
from zoo.cli.output import echo, print_json, print_table
from zoo.errors import SpecError
from zoo_course.exercises import exercise, exercises, read_answer

_RIGHT = {"en": "Right.", "ja": "正解です。"}
_WRONG = {
    "en": ("Not right: your answer is too small.\nhint: ", "Not right: your answer is too large.\nhint: "),
    "ja": ("不正解です。答えが小さすぎます。\nヒント: ", "不正解です。答えが大きすぎます。\nヒント: "),
}


def _language() -> str:
    """Returns the language of messages that the environment asks for, as other programs read it."""
    locale = next(filter(None, map(os.environ.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), "")
    return "ja" if locale.startswith("ja") else "en"


_language_option = click.option(
    "--language",
    type=click.Choice(["en", "ja"]),
    default=_language,
    show_default="that of the locale",
    help="The language of the exercises.",
)

_SECTIONS = {"Exercises:": {"check": "zoo_course.cli:check"}}


@click.group(cls=Commands, sections=_SECTIONS, invoke_without_command=True, epilog="Example: zoo course check vgg")
@_language_option
@options.json
@click.pass_context
def course(context: click.Context, language: str, as_json: bool) -> None:
    """List the chapters of the course."""
    if context.invoked_subcommand is not None:
        if as_json:
            context.fail(f"--json belongs after '{context.invoked_subcommand}'.")
        return
    rows = [(name, asked.words(language).title) for name, asked in exercises().items()]
    if as_json:
        print_json([{"chapter": name, "title": title} for name, title in rows])
    else:
        print_table(("chapter", "title"), rows)


def _check_number(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    try:
        return None if value is None else read_answer(value)
    except SpecError as error:
        raise click.BadParameter(f"{error.message} {error.hint}") from None


@click.command(epilog="Example: zoo course check vgg 27/49")
@click.argument("chapter")
@click.argument("answer", required=False, callback=_check_number)
@_language_option
@options.json
@click.pass_context
def check(context: click.Context, chapter: str, answer: float | None, language: str, as_json: bool) -> None:
    """Show the exercise of a chapter, or check your answer.

    The right answer is computed. Exits 1 if yours is wrong.
    """
    asked = exercise(chapter)
    words = asked.words(language)
    difference = None if answer is None else answer - asked.right_answer()
    is_right = None if difference is None else asked.accepts(difference)
    if as_json:
        hint = words.hint if is_right is False else ""
        print_json({"chapter": chapter, "question": words.question, "answer": answer, "right": is_right, "hint": hint})
    elif difference is None:
        echo(words.question)
    elif is_right:
        echo(_RIGHT[language])
    else:
        echo(_WRONG[language][difference > 0] + words.hint)
    if is_right is False:
        context.exit(1)

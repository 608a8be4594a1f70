"""The exercises: right answers from papers, closed forms and published scores; a hint for wrong ones."""

import json

import pytest
from click.testing import Result
from support.command import ask_warm

from zoo.errors import SpecError
from zoo_course.exercises import exercises, read_answer

QUICK = {
    "features": "324",  # Dalal and Triggs 2005: 3 x 3 blocks of 2 x 2 cells of 9 orientations
    "vgg": "27/49",  # Simonyan and Zisserman 2014, section 2.3
    "googlenet": "97,526,008/6,998,552".replace(",", ""),
    "normalisation": "1.77",  # torchvision's table of weights: 73.36 and 71.59
    "resnet": "11.74",  # 9,283 and 8,111 of 9,980 images
    "densenet": "269722/176122",
    "ror": "4192",
    "invariance": "131/107",  # errors of 10,000 images
    "targetprop": "98.35",  # Wilson's interval for 9,810 of 10,000
}
SLOW = {
    "cells": "0.21",
    "alexnet": "96.2%",  # (9216 + 1) 4096 + (4096 + 1) 4096 + (4096 + 1) 1000 of 60,965,224
    "zfnet": "8",
    "fractalnet": "35",  # 5 (2^3 - 1): Larsson et al. 2016, section 2
    "looking": "15",  # 5, then 3 with stride 2, then 5 x 2 - 1: 5 + 2 + 8
    "fooling": "31",
}


def check(*words: str) -> Result:
    return ask_warm("course", "check", *words)


def test_every_exercise_has_an_answer_here() -> None:
    assert exercises().keys() == QUICK.keys() | SLOW.keys()


@pytest.mark.parametrize(
    ("chapter", "answer"), [*QUICK.items(), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in SLOW.items())]
)
def test_the_right_answer_is_right_and_a_tenth_more_is_wrong(chapter: str, answer: str) -> None:
    assert check(chapter, answer).stdout == "Right.\n"
    wrong = check(chapter, str(1.1 * read_answer(answer)))
    assert wrong.exit_code == 1
    assert wrong.stdout == f"Not right: your answer is too large.\nhint: {exercises()[chapter].hint}\n"


def test_without_an_answer_the_question_is_shown() -> None:
    shown = check("vgg")
    assert shown.exit_code == 0
    assert shown.stdout == exercises()["vgg"].question + "\n"


def test_json_has_the_outcome_and_not_the_answer() -> None:
    wrong, right, asked = (json.loads(check("vgg", *words, "--json").stdout) for words in (["1"], ["27/49"], []))
    assert [found["right"] for found in (wrong, right, asked)] == [False, True, None]
    assert wrong["hint"]
    assert not right["hint"]
    assert "0.55" not in str(wrong)


def test_an_unknown_chapter_suggests_the_nearest() -> None:
    done = check("vg", "1")
    assert done.exit_code == 2
    assert "vgg" in done.stderr


@pytest.mark.parametrize(
    ("chapter", "answer"),
    [
        ("resnet", "11.7"),  # 18.7 - 7.0, as the chapter has the errors
        ("vgg", "0.55"),  # 0.551, in two places
        ("normalisation", "1.8"),  # 73.4 - 71.6
        ("densenet", "1.5"),  # the DenseNet has two thirds of the parameters, as the chapter says
    ],
)
def test_an_answer_from_the_rounded_numbers_that_are_shown_is_right(chapter: str, answer: str) -> None:
    assert check(chapter, answer).stdout == "Right.\n"


@pytest.mark.parametrize(("locale", "language"), [("ja_JP.UTF-8", "ja"), ("de_DE.UTF-8", "en"), ("C", "en")])
def test_the_command_speaks_the_language_of_the_locale(
    locale: str, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    question = exercises()["vgg"].words(language).question
    assert check("vgg").stdout == question + "\n"
    assert check("vgg", "--language", "en").stdout == exercises()["vgg"].question + "\n"
    assert ("不正解です。" in check("vgg", "2").stdout) == (language == "ja")


@pytest.mark.parametrize(("text", "number"), [("27/49", 27 / 49), (" 0.55 ", 0.55), ("96.2%", 96.2), ("1e3", 1000)])
def test_answers_are_numbers_in_any_usual_form(text: str, number: float) -> None:
    assert read_answer(text) == number


@pytest.mark.parametrize("text", ["", "a", "1/0", "nan", "1/2/3", "inf", "1e999", "1e99999999", "1/"])
def test_anything_else_is_a_usage_error(text: str) -> None:
    with pytest.raises(SpecError, match="is not a number"):
        read_answer(text)
    done = check("vgg", text)
    assert done.exit_code == 2
    assert "Write 27/49" in done.stderr

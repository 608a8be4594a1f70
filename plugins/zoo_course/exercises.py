"""The exercises of the course: a question for each chapter, whose answer is computed when it is checked.

``exercises.toml`` lists them in the order of the chapters; :mod:`zoo_course.measures` computes the answers, from the
networks and manifests that are installed. Nothing here imports torch; some measures do.
"""

import math
from functools import cache
from pathlib import Path

import msgspec

from zoo.errors import SpecError, UnknownNameError
from zoo.system import toml
from zoo_course import measures


class Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Title, question and hint in one language.

    Attributes:
        title: The chapter's title.
        question: What a student answers with a number.
        hint: What a wrong answer gets.
    """

    title: str
    question: str
    hint: str


class Exercise(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One chapter's question.

    Attributes:
        title: The chapter's title.
        question: What a student answers with a number.
        hint: What a wrong answer gets.
        measure: The function of :mod:`zoo_course.measures` that computes the right answer.
        of: The arguments of that function.
        within: How far from the right answer an answer may be.
        ja: Title, question and hint in Japanese.
    """

    title: str
    question: str
    hint: str
    measure: str
    of: list[str]
    within: float
    ja: Words

    def words(self, language: str) -> "Words | Exercise":
        """Returns title, question and hint in ``language``, ``en`` or ``ja``."""
        return self.ja if language == "ja" else self

    def right_answer(self) -> float:
        """Returns the answer, computed now."""
        return float(getattr(measures, self.measure)(*self.of))

    def accepts(self, difference: float) -> bool:
        """Says whether an answer is right that is this much larger than :meth:`right_answer`."""
        return abs(difference) <= self.within + 1e-9  # 1.8 - 1.75 is a little more than 0.05


@cache
def exercises() -> dict[str, Exercise]:
    """Returns the exercises by the names of their chapters, in the order of the course."""
    text = Path(__file__).with_name("exercises.toml").read_text(encoding="utf-8")
    return msgspec.convert(toml.loads(text), dict[str, Exercise])


def exercise(chapter: str) -> Exercise:
    """Returns the exercise of ``chapter``; raises :class:`UnknownNameError` if there is no such chapter."""
    if chapter not in exercises():
        raise UnknownNameError.of("chapter", chapter, exercises(), hint="zoo course lists the chapters.")
    return exercises()[chapter]


def read_answer(text: str) -> float:
    """Returns ``27/49``, ``0.55`` or ``55%`` (as 55) as a number; raises :class:`SpecError` for anything else."""
    numerator, slash, denominator = text.strip().removesuffix("%").replace(" ", "").partition("/")
    try:
        answer = float(numerator) / (float(denominator) if slash else 1.0)
    except (ValueError, ZeroDivisionError):
        answer = math.nan
    if not math.isfinite(answer):
        raise SpecError(f"{text!r} is not a number.", hint="Write 27/49, 0.55 or 13.9.")
    return answer

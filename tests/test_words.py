"""Plain words in everything that users and maintainers read: documentation, messages, docstrings, comments.

``PHRASES`` lists what must not appear, with the plain alternative. ``TEXTS`` are the files that are checked.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

TEXTS = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CITATION.cff",
    ".github/workflows/*.yml",
    "Makefile",
    "pyproject.toml",
    "docs/*.md",
    "docs/*.py",
    "docs/course/*.md",
    "docs/course/*.py",
    "docs/decisions/*.md",
    "docs/looking/*.sh",
    "examples/**/*.md",
    "examples/**/*.py",
    "examples/**/*.sh",
    "examples/**/*.toml",
    "benchmarks/*.py",
    "plugins/*/*.py",
    "plugins/*/recipes.toml",
    "weights_manifest/*.toml",
    "zoo/**/*.py",
    "plugins/zoo_course/*.toml",
    "zoo/scaffold/templates/**/*.txt",
)
"""Patterns of files, relative to the repository."""

PHRASES = {
    r"believ\w*": "verified, trusted",
    r"asked wrongly": "usage error",
    r"on whose word": "who reported it",
    r"whose word": "who reported it",
    r"refusals?": "error, exception",
    r"what became of": "name the thing",
    r"(?<!there )(?:is|are|was|were|be) no(?! longer| more| less| different| slower| faster| later)": "is not a",
    r"hold what is": "contain",
    r"that there is not": "that does not exist",
    r"what there is": "what is available",
    r"as there (?:is|are) none": "because there is none",
    r"(?:for|of|as|at most|in|than) so (?:many|long|much)": "name the number: at most N",
    r"looks? after|looked after": "list, check, prune",
    r"has no say|have no say|have a say": "has no effect",
    r"at hand": "local, available",
    r"of (?:one's|its|their|your) own(?= word)": "your own responsibility",
    r"of one's own": "your own",
    r"for want of": "because it is missing",
    r"can(?:not)? be had|to be had": "is (not) available",
    r"in vain": "without success",
    r"puts? out": "outputs",
    r"go(?:es)? on(?= (?:with|where|until|in|to|training|bit|from))": "continues",
    r"sa(?:y|ys|id) of": "says about",
    r"sp(?:eaks?|oke) (?:for|of)": "covers, mentions",
    r"tells (?:no|what|how|which|whether|why|of)": "shows, explains",
    r"is told|are told|was told": "gets a message, an error",
    r"as \w+(?:'s)? ha(?:s|ve) (?:it|them)": "like",
    r"(?:file|files|weights|entry|entries|data|folder|archive) lies?": "is, are",
    r"lies? (?:beside|there|here|at|in it)": "is, are",
    r"whatever becomes": "regardless",
    r"what(?:ever)? is left": "the rest",
    r"where (?:there (?:is|are) (?:no|none|one|nothing)|nobody|nothing|it is not|they are not)": "if there is no",
    r"a (?:line|process|thread|row|table|file|folder|core|hook|panel) (?:a|an|each)": "one per",
    r"held against": "compared with",
    r"besides": "also",
    r"has its word": "applies",
    r"a (?:first|second) form": "an earlier version",
    r"by lot": "at random",
    r"once for all": "once",
    r"to the letter": "exactly",
    r"line by line": "exactly, or leave it out",
    r"none of it": "name the thing",
    r"no promise of ours": "we have not reproduced it",
    r"is granted": "is allowed",
    r"from of old": "existing",
    r"of what is": "name the thing",
}
"""Patterns of phrases to avoid (words, any case), and what to write instead."""

JOINTS = re.compile(r'"\s*\n\s*f?"|\s*\n\s*(?:#:?|//)?\s*')
"""Line breaks within a sentence, also between adjacent string literals and lines of a comment."""


def files() -> list[Path]:
    return sorted({path for pattern in TEXTS for path in ROOT.glob(pattern) if path.is_file()})


def avoided(text: str) -> list[str]:
    """Each phrase of ``text`` that ``PHRASES`` lists, with some context and the advice."""
    joined = " ".join(JOINTS.sub(" ", text).split())
    found = []
    for phrase, advice in PHRASES.items():
        for match in re.finditer(rf"(?i)\b(?:{phrase})\b", joined):
            context = joined[max(0, match.start() - 30) : match.end() + 30]
            found.append(f"{match[0]!r} in {context!r}: write {advice!r}")
    return found


def test_everything_that_is_read_has_plain_words() -> None:
    found = {path.relative_to(ROOT).as_posix(): avoided(path.read_text(encoding="utf-8")) for path in files()}
    assert {name: phrases for name, phrases in found.items() if phrases} == {}


@pytest.mark.parametrize(
    "text",
    [
        "weights that can be\nbelieved",
        "Exit codes: 2 asked wrongly.",
        "# a weight that\n# is no number",
        '"at most so "\n"many parameters"',
    ],
)
def test_a_phrase_to_avoid_is_found_across_lines(text: str) -> None:
    assert avoided(text)


@pytest.mark.parametrize(
    "text", ["There is no weight decay.", "It is no longer cached.", "no slower, so many tests pass"]
)
def test_plain_words_pass(text: str) -> None:
    assert not avoided(text)


@pytest.mark.parametrize("pattern", TEXTS)
def test_every_pattern_names_files(pattern: str) -> None:
    assert [*ROOT.glob(pattern)]

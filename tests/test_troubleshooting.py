"""The page on troubleshooting quotes messages that the code has."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = re.findall(r"^\| `([^`]+)` \|", PAGE, flags=re.MULTILINE)
CODE = "\n".join(
    file.read_text(encoding="utf-8") for folder in ("zoo", "plugins") for file in sorted((ROOT / folder).rglob("*.py"))
)


@pytest.mark.first(13)
@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_one_that_the_code_has(message: str) -> None:
    strings = re.findall(r"""f?"(?:[^"\\\n]|\\.)*"|f?'(?:[^'\\\n]|\\.)*'""", CODE)
    assert any(message in string for string in strings)


def test_there_is_a_page() -> None:
    assert len(MESSAGES) > 20
    assert len(MESSAGES) == len(set(MESSAGES))

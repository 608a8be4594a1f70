"""Writes a notebook of each chapter of the course: ``python docs/course/notebooks.py``.

Commands become cells that start with ``!``, Python becomes code, and a figure becomes a cell that shows the file which
an earlier cell wrote. A test checks that the notebooks are up to date and runs them.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LANGUAGES = {"en": HERE, "ja": HERE / "ja"}
"""The folder of each language's chapters."""

INSTALL = """# From a checkout: %pip install -e ".[data,look,classical]"
%pip install "zoo-vision[data,look,classical]\""""

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$\n?", re.MULTILINE | re.DOTALL)
_FIGURE = re.compile(r"^!\[[^\]]*\]\(\S*?([^/\s)]+)\)$\n?", re.MULTILINE)
_EXPLORABLE = re.compile(r"^<div data-explorable=.*</div>$\n+", re.MULTILINE)
_LINKS_ALONE = re.compile(r"^\[[^\]]+\]\([^)]+\)(?: · \[[^\]]+\]\([^)]+\))*$\n?", re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:)[^)]+\)")


def chapters(language: str = "en") -> list[Path]:
    """Returns the pages of the chapters, in order."""
    return sorted(LANGUAGES[language].glob("[0-9][0-9]-*.md"))


def place(chapter: Path, language: str) -> Path:
    """Returns the notebook of a page."""
    folder = HERE / "notebooks" / ("" if language == "en" else language)
    return folder / f"{chapter.stem}.ipynb"


def cells(text: str) -> Iterator[tuple[str, str]]:
    """Yields the kind (``markdown`` or ``code``) and the text of each cell of a page."""
    title, _, text = text.partition("\n")
    yield "markdown", title
    yield "code", INSTALL
    end = 0
    for block in _BLOCK.finditer(text):
        yield from _prose(text[end : block.start()])
        yield "code", _commands(block[2]) if block[1] == "console" else block[2].rstrip()
        end = block.end()
    yield from _prose(text[end:])


def _prose(text: str) -> Iterator[tuple[str, str]]:
    parts = _FIGURE.split(_EXPLORABLE.sub("", _LINKS_ALONE.sub("", text)))  # prose, a figure's name, prose, ...
    for number, part in enumerate(parts):
        if number % 2:
            yield "code", f'from PIL import Image\n\nImage.open("{part}").convert("RGB")'
        elif part.strip():
            yield "markdown", _LINK.sub(r"\1", part).strip()


def _commands(text: str) -> str:
    lines = text.replace("\\\n", " ").splitlines()
    return "\n".join("!" + " ".join(line.removeprefix("$ ").split()) for line in lines if line.startswith("$ "))


def notebook(chapter: Path, language: str) -> str:
    """Returns the notebook of a page, as JSON."""
    found: list[dict[str, Any]] = []
    for number, (kind, text) in enumerate(cells(chapter.read_text(encoding="utf-8"))):
        cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}}
        if kind == "code":
            cell |= {"execution_count": None, "outputs": []}
        found.append(cell | {"source": text.splitlines(keepends=True)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    document = {"cells": found, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for language in LANGUAGES:
        for chapter in chapters(language):
            file = place(chapter, language)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(notebook(chapter, language), encoding="utf-8")

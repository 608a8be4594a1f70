"""The documentation site: complete, without broken links, and without requests to other hosts."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from support.loaded import load

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
reference = load(DOCS / "reference.py")


def places(entries: list[dict[str, Any]]) -> Iterator[str]:
    """The pages of a navigation, in order."""
    for entry in entries:
        for place in entry.values():
            if isinstance(place, str):
                yield place
            else:
                yield from places(place)


def test_every_page_is_in_the_navigation() -> None:
    settings = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    listed = [*places(settings["project"]["nav"])]
    assert listed.pop() == "networks/index.html"  # the gallery, which make docs writes there
    assert len(listed) == len(set(listed))
    own = [*DOCS.glob("*.md"), *(DOCS / "course").rglob("*.md"), DOCS / "decisions" / "README.md"]
    assert set(listed) == {file.relative_to(DOCS).as_posix() for file in own}


def test_ten_questions_are_answered_within_three_clicks_by_links_in_the_text() -> None:
    table = (DOCS / "site.md").read_text(encoding="utf-8").partition("## Ten questions")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if "?" in line and line.startswith("|")]
    assert len(rows) == 10
    for row in rows:
        start, *clicks = re.findall(r"\]\(([^)]+)\)", row)
        assert start == "index.md"
        assert 1 <= len(clicks) <= 3
        for before, after in pairwise([start, *clicks]):
            text = (DOCS / before.partition("#")[0]).read_text(encoding="utf-8")
            assert f"]({after.partition('#')[0]}" in text, f"{row}: {before} does not link to {after}"


def test_code_has_no_escaped_bars() -> None:
    """The site shows the backslash, and without it GitHub ends the cell of a table."""
    for page in DOCS.rglob("*.md"):
        prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        assert [code for code in re.findall(r"`[^`\n]+`", prose) if "\\|" in code] == [], page.name


def test_drawings_are_readable_on_any_background_and_have_a_title() -> None:
    drawings = [*(DOCS / "concepts").glob("*.svg")]
    assert len(drawings) == 5
    for file in drawings:
        root = ElementTree.parse(file).getroot()
        tags = [element.tag.rpartition("}")[2] for element in root]
        assert tags[:2] == ["title", "desc"]
        [card] = [element for element in root if element.get("fill") == "#ffffff"]
        assert card.tag.endswith("rect")


@pytest.mark.usefixtures("only_built_in")
def test_the_generated_reference_is_up_to_date() -> None:
    for page, render in reference.PAGES.items():
        assert page.read_text(encoding="utf-8") == render(), "run python docs/reference.py"


def test_the_reference_names_functions_commands_and_options() -> None:
    assert "::: zoo.creation.create\n" in reference.python()
    text = reference.commands()
    assert "\n## zoo train\n" in text
    assert "\n#### zoo attack patch train\n" in text
    assert "| `-j, --jobs INTEGER RANGE` |" in text


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_asks_no_other_host(tmp_path: Path) -> None:
    pytest.importorskip("zensical", reason="needs zoo-vision[docs]")
    for name in ("docs", "zoo"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    pages = [*(tmp_path / "build" / "docs").rglob("*.html")]
    assert len(pages) > 20
    for page in pages:
        text = page.read_text(encoding="utf-8")
        # What a browser fetches by itself; links that a reader may follow are another thing.
        fetched = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?([^\">\s]+)", text)
        fetched += re.findall(r"<link\b[^>]*\brel=\"?(?:stylesheet|preload|icon)[^>]*\bhref=\"?([^\">\s]+)", text)
        assert fetched
        assert [address for address in fetched if re.match(r"(https?:)?//", address)] == [], page.name
    text = (tmp_path / "build" / "docs" / "python.html").read_text(encoding="utf-8")
    assert 'id="zoo.creation.create"' in text
    assert ":class:`" not in text

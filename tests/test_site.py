"""The documentation site: complete, without broken links, and without requests to other hosts."""

import json
import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from support import browser, built_site
from support.loaded import load
from support.small_site import Page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
reference = load(DOCS / "reference.py")


def places(entries: list[dict[str, Any]]) -> Iterator[str]:
    """Yields the pages of a navigation, in order."""
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
        assert page.read_text(encoding="utf-8") == render(), "run make generate"


def test_the_reference_names_functions_commands_and_options() -> None:
    assert "::: zoo.loading.create.create\n" in reference.python()
    text = reference.commands()
    assert "\n## zoo train\n" in text
    assert "\n#### zoo attack patch train\n" in text
    assert "| `-j, --jobs INTEGER RANGE` |" in text


# ---- the site as files ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built in a copy without a network."""
    return built_site.build(tmp_path_factory.mktemp("copy"))


@pytest.mark.slow
def test_pages_ask_no_other_host(built: Path) -> None:
    pages = [*built.rglob("*.html")]
    assert len(pages) > 20
    for page in pages:
        text = page.read_text(encoding="utf-8")
        # What a browser fetches by itself; links that a reader may follow are another thing.
        fetched = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?([^\">\s]+)", text)
        fetched += re.findall(r"<link\b[^>]*\brel=\"?(?:stylesheet|preload|icon)[^>]*\bhref=\"?([^\">\s]+)", text)
        assert fetched
        assert [address for address in fetched if re.match(r"(https?:)?//", address)] == [], page.name


@pytest.mark.slow
def test_links_of_pages_lead_to_files_and_places(built: Path) -> None:
    pages = {file: Page(file) for file in built.rglob("*.html") if file.name != "404.html"}
    for file, page in pages.items():
        for link in {*page.links, *page.loads}:
            path, _, place = unquote(link).partition("#")
            if re.match(r"https?:|data:|mailto:", link) or path.endswith("networks/index.html"):
                continue
            target = (file.parent / path).resolve() if path else file
            assert target.exists(), f"{file.name}: {link}"
            assert not place or target not in pages or place in pages[target].ids, f"{file.name}: {link}"


@pytest.mark.slow
def test_the_reference_has_the_text_of_docstrings(built: Path) -> None:
    text = (built / "python.html").read_text(encoding="utf-8")
    assert 'id="zoo.loading.create.create"' in text
    assert ":class:`" not in text


@pytest.mark.slow
@pytest.mark.may_skip  # the browser is a package of the system
def test_the_search_finds_a_section_and_a_menu_shows_other_versions(built: Path, tmp_path: Path) -> None:
    (tmp_path / "0.1.0").symlink_to(built)
    versions = [{"version": version, "title": version, "aliases": []} for version in ("0.2.0", "0.1.0")]
    (tmp_path / "versions.json").write_text(json.dumps(versions), encoding="utf-8")
    with browser.opened() as chromium, browser.served(tmp_path) as address:
        page = chromium.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{address}0.1.0/index.html", wait_until="networkidle")
        menu = page.locator(".md-version")
        assert menu.locator(".md-version__link").all_inner_texts() == ["0.2.0", "0.1.0"]
        page.get_by_role("button", name="Search").first.click()
        page.wait_for_timeout(500)  # it opens
        page.keyboard.type("air-gapped")
        page.get_by_text(re.compile(r"[1-9]\d* results?")).wait_for()
        assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []

"""The documentation site: complete, without broken links, and without requests to other hosts."""

import json
import re
import shutil
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
finish = load(DOCS / "finish.py")


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
    own = [
        *DOCS.glob("*.md"),
        *(DOCS / "python").glob("*.md"),
        *(DOCS / "course").rglob("*.md"),
        DOCS / "decisions" / "README.md",
    ]
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
    assert "::: zoo.create\n" in reference.module("zoo")
    assert "(python/zoo.look.md#zoo.look.attribute)" in reference.python()
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
        assert fetched or page.name == "404.html"
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
def test_the_reference_has_every_public_name_at_its_anchor(built: Path) -> None:
    for package, values in reference.pages().items():
        text = (built / "python" / f"{package}.html").read_text(encoding="utf-8")
        assert [name for name in values if f'id="{package}.{name}"' not in text] == [], package
        assert ":class:`" not in text


@pytest.mark.slow
def test_the_reference_states_the_type_of_every_parameter(built: Path) -> None:
    rows = 0
    for page in (built / "python").glob("*.html"):
        for table in re.findall(r"<table>.*?</table>", page.read_text(encoding="utf-8"), re.DOTALL):
            heads = re.findall(r"<th[^>]*>(.*?)</th>", table, re.DOTALL)
            for row in (
                re.findall(r'<tr class="doc-section-item">(.*?)</tr>', table, re.DOTALL) if "Type" in heads else ()
            ):
                cells = [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<td.*?</td>", row, re.DOTALL)]
                assert cells[heads.index("Type")], f"{page.name}: {cells}"
                rows += 1
    assert rows > 500


@pytest.fixture(scope="module")
def address(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The site below a path, as a host of projects has it."""
    root = tmp_path_factory.mktemp("host")
    (root / "some" / "path").mkdir(parents=True)
    (root / "some" / "path" / "zoo").symlink_to(built)
    with browser.served(root) as top:
        yield f"{top}some/path/zoo/"


class Search:
    """The search of a page that is open."""

    def __init__(self, page: Any) -> None:
        self.page = page
        page.get_by_role("button", name="Search").first.click()
        page.get_by_role("combobox").wait_for()

    def ask(self, words: str) -> tuple[str, int]:
        """Returns the place of the first result for ``words``, and how many results there are."""
        self.page.keyboard.press("Control+A")
        self.page.keyboard.type(words)
        asked = re.escape(words.replace(" ", "+"))
        self.page.wait_for_function(
            """asked => {
                const open = [...document.querySelectorAll("div")].find(it => it.shadowRoot);
                return RegExp(asked).test(open?.shadowRoot.querySelector("a[role=option]")?.href ?? "");
            }""",
            arg=rf"h={asked}(#|$)",
        )
        self.page.wait_for_timeout(200)  # the count follows the links
        first = self.page.locator("a[role=option]").first
        return first.get_attribute("href"), int(first.get_attribute("aria-setsize"))


@pytest.mark.slow
@pytest.mark.may_skip  # the browser is a package of the system
def test_the_search_finds_what_people_type_first(chromium: Any, address: str) -> None:
    page = chromium.new_page()
    page.goto(f"{address}index.html", wait_until="networkidle")
    search = Search(page)
    firsts = {
        "fine-tune on my own images": "How do I fine-tune on my own images",
        "finetune": "How do I fine-tune on my own images",
        "grayscale": "How do I use grayscale images",
        "greyscale": "How do I use grayscale images",
        "mixed precision": "Is mixed precision",
        "commercial license": "May I use the weights commercially",
        "commercial licence": "May I use the weights commercially",
        "class imbalance": "How do I handle class imbalance",
        "early stopping": "Is there early stopping",
        "EXIF": "Do photographs of phones lie on their side",
        "confusion matrix": "How do I get a confusion matrix",
        "freeze layers": "Freeze layers",
    }
    for words, title in firsts.items():
        first, _ = search.ask(words)
        assert re.sub(r"\W+", "-", title.lower()) in first, f"{words}: {first}"


@pytest.mark.slow
@pytest.mark.may_skip
def test_the_search_finds_the_same_by_either_spelling(chromium: Any, address: str) -> None:
    page = chromium.new_page()
    page.goto(f"{address}index.html", wait_until="networkidle")
    search = Search(page)
    pairs = (
        ("normalise", "normalize"), ("colour", "color"), ("licence", "license"), ("optimiser", "optimizer"),
        ("neighbour", "neighbor"), ("behaviour", "behavior"), ("centre", "center"), ("quantisation", "quantization"),
        ("labelled", "labeled"),
    )  # fmt: skip
    for words, others in pairs:
        (_, here), (_, there) = search.ask(words), search.ask(others)
        assert here == there, f"{words}: {here}, {others}: {there}"


@pytest.mark.slow
@pytest.mark.may_skip
def test_the_index_of_the_search_is_asked_for_at_the_first_key(chromium: Any, address: str) -> None:
    page = chromium.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{address}index.html", wait_until="networkidle")
    assert f"{address}coffee.webp" in asked
    assert f"{address}search.json" not in asked
    with page.expect_response(f"{address}search.json"):
        page.keyboard.press("Tab")
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


@pytest.mark.slow
@pytest.mark.may_skip
def test_a_menu_shows_other_versions_if_the_host_has_them(built: Path, chromium: Any, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "0.1.0")
    for page in (tmp_path / "0.1.0").rglob("*.html"):
        page.write_text(
            re.sub(r"<meta [^>]*Content-Security-Policy[^>]*>", "", page.read_text(encoding="utf-8")), encoding="utf-8"
        )
    finish.finish(tmp_path / "0.1.0", has_versions=True)
    versions = [{"version": version, "title": version, "aliases": []} for version in ("0.2.0", "0.1.0")]
    (tmp_path / "versions.json").write_text(json.dumps(versions), encoding="utf-8")
    with browser.served(tmp_path) as address:
        page = chromium.new_page()
        page.goto(f"{address}0.1.0/index.html", wait_until="networkidle")
        menu = page.locator(".md-version")
        assert menu.locator(".md-version__link").all_inner_texts() == ["0.2.0", "0.1.0"]


# ---- the site in a browser --------------------------------------------------------------------------------

KINDS = (
    "index.html",
    "faq.html",
    "lineage.html",
    "python/zoo.html",
    "commands.html",
    "course/08-resnet.html",
    "404.html",
)


@pytest.mark.slow
@pytest.mark.may_skip
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_axe_finds_no_violation(chromium: Any, address: str, kind: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    for width in (1440, 390):
        # The policy of the page keeps axe's own script out.
        context = chromium.new_context(
            color_scheme=scheme, viewport={"width": width, "height": 900}, reduced_motion="reduce", bypass_csp=True
        )
        page = context.new_page()
        page.goto(address + kind, wait_until="networkidle")
        violations = axe.Axe().run(page, options={"runOnly": tags}).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in violations] == []
        context.close()


@pytest.mark.slow
@pytest.mark.may_skip
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_asks_its_own_host_alone_and_its_policy_lets_it(chromium: Any, address: str, kind: str) -> None:
    page = chromium.new_page(viewport={"width": 390, "height": 800})
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address + kind, wait_until="networkidle")
    if kind != "404.html":
        with page.expect_response(f"{address}search.json"):
            page.keyboard.press("Control+K")
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.slow
@pytest.mark.may_skip
def test_a_wide_table_is_reached_and_scrolled_by_keys(chromium: Any, address: str) -> None:
    page = chromium.new_page(viewport={"width": 700, "height": 800})
    page.goto(f"{address}lineage.html", wait_until="networkidle")
    table = page.get_by_role("region", name="Table: The lineage").first
    table.focus()
    assert table.evaluate("it => it === document.activeElement")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.activeElement.scrollLeft > 0")


@pytest.mark.slow
@pytest.mark.may_skip
@pytest.mark.parametrize("kind", ["lineage.html", "conformance.html", "migration.html"])
def test_tables_fit_a_desk_or_scroll_by_keys(chromium: Any, address: str, kind: str) -> None:
    page = chromium.new_page(viewport={"width": 1440, "height": 900})
    page.goto(address + kind, wait_until="networkidle")
    tables = page.evaluate("""() => [...document.querySelectorAll("article table")].map((table) => {
        const region = table.closest("[role=region]");
        const around = (region ?? table.closest("article")).getBoundingClientRect();
        const isCut = table.getBoundingClientRect().right > around.right + 1;
        return isCut && !(region?.tabIndex === 0 && region.scrollWidth > region.clientWidth);
    })""")
    assert tables
    assert not any(tables), "a part of the table cannot be seen"
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440


@pytest.mark.slow
@pytest.mark.may_skip
def test_a_missing_page_below_a_path_leads_back_to_the_site(chromium: Any, address: str) -> None:
    page = chromium.new_page()
    text = (DOCS / ".theme" / "404.html").read_text(encoding="utf-8")
    missing = f"{address}python/of/old/page.html"
    page.route(missing, lambda route: route.fulfill(status=404, body=text, content_type="text/html"))
    page.goto(missing)
    page.get_by_role("link", name="Start").wait_for()
    assert page.get_by_role("link", name="Start").get_attribute("href") == f"{address}index.html"


@pytest.mark.slow
def test_pages_have_a_description_and_a_card_of_their_own(built: Path) -> None:
    cards = {}
    for name in ("index", "faq", "training", "python/zoo", "course/08-resnet"):
        text = (built / f"{name}.html").read_text(encoding="utf-8")
        [about] = re.findall(r'<meta name="description" content="([^"]+)">', text)
        [cards[name]] = re.findall(r'<meta property="og:description" content="([^"]+)">', text)
        assert about == cards[name]
        [picture] = re.findall(r'<meta property="og:image" content="([^"]+)">', text)
        assert (built / name).parent.joinpath(picture).resolve().is_file()
    assert len({*cards.values()}) == len(cards)

"""The course as pages of the site, in a real browser: its language, its search, its exercises, what a reader moves."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import browser, built_site
from support.loaded import load

from zoo_course.exercises import exercises

ROOT = Path(__file__).parents[1]
KANA = re.compile("[ぁ-んァ-ヶ一-龠]")
QUICK = {"features", "googlenet", "normalisation", "resnet", "densenet", "ror", "invariance", "targetprop"}
"""Exercises whose answers need no torch."""


def written_rules() -> dict[str, dict[str, Any]]:
    text = (ROOT / "docs" / "javascripts" / "exercises.js").read_text(encoding="utf-8")
    rules: dict[str, dict[str, Any]] = json.loads(text[text.index("{") : text.rindex(";")])
    return rules


def test_pages_check_by_the_rules_of_the_command() -> None:
    rules = written_rules()
    assert [*rules] == [*exercises()]
    for name, asked in exercises().items():
        assert rules[name]["within"] == asked.within, "run make generate"
        assert rules[name]["hint"] == {"en": asked.hint, "ja": asked.ja.hint}, "run make generate"
        if name in QUICK:
            assert rules[name]["answer"] == pytest.approx(asked.right_answer(), abs=1e-6), "run make generate"


@pytest.mark.slow
def test_the_answers_of_pages_are_those_of_the_command() -> None:
    expected = load(ROOT / "docs" / "course" / "exercises.py").rules()
    for name, rule in written_rules().items():
        assert rule["answer"] == pytest.approx(expected[name]["answer"], abs=1e-3), "run make generate"


# ---- pages ------------------------------------------------------------------------------------------------

in_a_browser = [pytest.mark.slow, pytest.mark.may_skip]  # it is a package of the system


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_site.build(tmp_path_factory.mktemp("copy"))


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with browser.served(site) as top:
        yield f"{top}course/"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser.opened() as opened:
        yield opened


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A page on which no error may be logged."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    yield opened
    context.close()
    assert complaints == []


@pytest.mark.slow
def test_pages_say_which_language_they_have(site: Path) -> None:
    for file in site.rglob("*.html"):
        japanese = file.parent == site / "course" / "ja"
        text = file.read_text(encoding="utf-8")
        assert f'<html lang="{"ja" if japanese else "en"}"' in text, file.name
        assert ('title="Permanent link"' in text) <= (not japanese)


@pytest.mark.parametrize("name", ["ja/index.html", "ja/08-resnet.html"])
@pytest.mark.slow
@pytest.mark.may_skip
def test_menus_and_buttons_of_japanese_pages_are_japanese(page: Any, address: str, name: str) -> None:
    page.goto(address + name)
    names = page.evaluate(
        """[...document.querySelectorAll("nav a, nav label, [aria-label], [title], button, .zoo-exercise label")]
        .map((one) => one.getAttribute("aria-label") ?? one.title ?? "" + one.textContent).map((text) => text.trim())"""
    )
    menu = page.locator(".md-nav--primary .md-nav__list a").all_text_contents()
    allowed = {"", "Zoo 0.1.0"}
    assert [text for text in names if text not in allowed and not KANA.search(text)] == []
    networks = re.compile(r"\d+\. (AlexNet|ZFNet|VGG|GoogLeNet|ResNet|DenseNet|FractalNet|RoR)$")
    texts = [" ".join(text.split()) for text in menu]
    assert len(texts) > 15
    assert [text for text in texts if not KANA.search(text) and not networks.search(text)] == []


@pytest.mark.slow
@pytest.mark.may_skip
def test_the_search_separates_words_of_japanese_and_speaks_it(page: Any, address: str) -> None:
    page.goto(f"{address}ja/08-resnet.html")
    page.get_by_role("button", name="検索").first.click()
    dialog = page.get_by_role("dialog", name="検索").last
    dialog.wait_for()
    page.wait_for_timeout(500)  # it opens
    for words in ("ガボール", "フィルタ"):  # chapter 1 has both in one word
        page.keyboard.press("Control+A")
        page.keyboard.type(words)
        page.get_by_role("option").first.wait_for()
        page.locator("a[role=option]", has_text=words).first.wait_for()
        addresses = [option.get_attribute("href") for option in page.get_by_role("option").all()]
        assert any("course/ja/01-cells.html" in str(found) for found in addresses), words
    page.get_by_text(re.compile("^[0-9]+件$")).wait_for()


@pytest.mark.parametrize(
    ("name", "right", "wrong", "says"),
    [
        ("05-vgg.html", ["27/49", " 0.55 ", "0.551"], "0.6", ("Right.", "Not right: your answer is too large.")),
        ("08-resnet.html", ["11.7", "11.74"], "11", ("Right.", "Not right: your answer is too small.")),
        ("ja/05-vgg.html", ["27/49", "０．５５"], "1", ("正解です。", "不正解です。答えが大きすぎます。")),  # noqa: RUF001
    ],
)
@pytest.mark.slow
@pytest.mark.may_skip
def test_an_answer_is_checked_in_the_page(
    page: Any, address: str, name: str, right: list[str], wrong: str, says: tuple[str, str]
) -> None:
    page.goto(address + name)
    field = page.locator(".zoo-exercise input")
    outcome = page.locator(".zoo-outcome")
    for answer in right:
        field.fill(answer)
        field.press("Enter")
        assert outcome.inner_text() == says[0], answer
    field.fill(wrong)
    field.press("Enter")
    assert outcome.inner_text().startswith(says[1])
    for nonsense in ("a", "1/2/3", "1/0", "1e999"):
        field.fill(nonsense)
        field.press("Enter")
        assert "27/49" in outcome.inner_text(), nonsense

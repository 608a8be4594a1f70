"""Takes the pictures of docs/site.md after ``make docs``: ``python docs/screenshots.py``."""

import re
from pathlib import Path

from pictures import PHONE, Picture, opened, served, take
from playwright.sync_api import Page, ViewportSize

FOLDER = Path(__file__).with_name("screenshots")
SITE = FOLDER.parents[1] / "build" / "docs"


def _search(page: Page) -> None:
    page.get_by_role("button", name="Search").first.click()
    page.wait_for_timeout(500)  # it opens
    page.keyboard.type("pinned on first use")
    page.get_by_text(re.compile(r"\d+ results")).wait_for()
    page.wait_for_timeout(500)  # it fades in


PICTURES = (
    Picture("start", "index.html"),
    Picture("search", "index.html", before=_search),
    Picture("concepts", "concepts.html#pins-and-locks"),
    Picture("fields", "fields.html#recipes", ViewportSize(width=1000, height=860), dark=True),
    Picture("chapter", "course/08-resnet.html#the-figure", PHONE),
)


def main() -> None:
    with opened() as browser, served(SITE) as address:
        take(browser, address, PICTURES, FOLDER)


if __name__ == "__main__":
    main()

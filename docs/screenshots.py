"""Takes the pictures of docs/site.md after ``make docs``: ``python docs/screenshots.py``. See docs/gallery.py."""

import os
import re
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import gallery
from playwright.sync_api import Page, sync_playwright

FOLDER = Path(__file__).with_name("screenshots")
SITE = FOLDER.parents[1] / "build" / "docs"
PICTURES = (
    ("start", "index.html", gallery.DESK, "light"),
    ("card", "index.html", {"width": 1200, "height": 630}, "light"),
    ("search", "index.html", gallery.DESK, "light"),
    ("concepts", "concepts.html#pins-and-locks", gallery.DESK, "light"),
    ("fields", "fields.html#recipes", {"width": 1000, "height": 860}, "dark"),
    ("python", "python/zoo.html#zoo.create", gallery.DESK, "light"),
    ("chapter", "course/08-resnet.html#the-figure", gallery.PHONE, "light"),
)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


def _search(page: Page) -> None:
    page.get_by_role("button", name="Search").first.click()
    page.wait_for_timeout(500)  # it opens
    page.keyboard.type("fine-tune on my own images")
    page.get_by_text(re.compile(r"\d+ results?")).wait_for()
    page.wait_for_timeout(500)  # it fades in


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    gallery.BEFORE["search"] = _search
    binary = os.environ.get("CHROMIUM") or shutil.which("chromium")
    handler = partial(_Quiet, directory=str(SITE))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, sync_playwright() as driver:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = driver.chromium.launch(executable_path=binary, args=["--no-sandbox", "--disable-gpu"])
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        gallery.take(browser, address, {name for name, *_ in PICTURES}, PICTURES, FOLDER)
        browser.close()
        server.shutdown()


if __name__ == "__main__":
    main()

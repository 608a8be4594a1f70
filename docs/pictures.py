"""Takes pictures of pages, for docs/gallery.py and docs/screenshots.py, with Chromium and Playwright installed."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

DESK, PHONE = ViewportSize(width=1280, height=860), ViewportSize(width=390, height=780)


class Picture(NamedTuple):
    """``before`` is what the reader does first."""

    name: str
    address: str
    window: ViewportSize = DESK
    dark: bool = False
    before: Callable[[Page], object] = lambda page: None


@contextmanager
def opened() -> Iterator[Browser]:
    binary = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=binary, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of ``folder``."""

    class Quiet(SimpleHTTPRequestHandler):
        extensions_map = SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript"}

        def log_message(self, *words: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def take(browser: Browser, site: str, pictures: Sequence[Picture], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, address, window, dark, before in pictures:
        context = browser.new_context(
            viewport=window, color_scheme="dark" if dark else "light", reduced_motion="reduce"
        )
        page = context.new_page()
        page.goto(site + address, wait_until="networkidle")
        before(page)
        file = folder / f"{name}.png"
        page.screenshot(path=file)
        Image.open(file).convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(file, optimize=True)
        context.close()

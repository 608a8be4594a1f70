"""Takes the pictures of docs/gallery.md: ``python docs/gallery.py [NAME...]``, with Chromium and Playwright installed.

It builds the site of all built-in models in a temporary folder, with the atlas in docs/atlas, and prints how large the
first view is. The picture of the page to try networks needs onnxruntime-web: ``ONNXRUNTIME_WEB`` is its folder
``dist``.
"""

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from zoo_gallery import server, site

FOLDER = Path(__file__).with_name("gallery")
_RESULTS = ("robustness.json", "series.json", "patch.json", "looking/invariance.json", "looking/confusion.json")
FAILURES = [FOLDER.parent / name for name in _RESULTS]
DESK, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 780}
PICTURES = (
    ("front", "index.html", DESK, "light"),
    ("weights", "index.html#weights", DESK, "light"),
    ("charts", "index.html#charts", DESK, "light"),
    ("timeline", "index.html#timeline", DESK, "light"),
    ("model", "models/googlenet.html", DESK, "light"),
    ("models", "models.html", DESK, "dark"),
    ("phone", "models/resnet20.html", PHONE, "dark"),
    ("failures", "models/resnet20.html#c10-failures", {"width": 1280, "height": 1120}, "light"),
    ("series", "models/resnet20.html#c10-attacked", {"width": 1280, "height": 420}, "light"),
    ("patch", "models/resnet20.html#c10-patch", {"width": 1280, "height": 420}, "dark"),
    ("layer", "atlas/resnet20.c10/layer2/index.html", DESK, "light"),
    ("channel", "atlas/alexnet_small.c10/features.1/7.html", {"width": 1280, "height": 1060}, "light"),
    ("try", "try.html?network=resnet20.digits", {"width": 1280, "height": 1300}, "light"),
    (
        "compare",
        "compare.html?weights=resnet20.c10&weights=plain20.c10&weights=resnet56.c10",
        {"width": 1280, "height": 1300},
        "light",
    ),
    ("train", "train.html", {"width": 1280, "height": 1300}, "light"),
    ("gabor", "gabor.html", {"width": 1280, "height": 1000}, "light"),
)
"""Name, address, size of the window, colours."""


def _try(page: Page) -> None:
    page.get_by_role("button", name="7", exact=True).click()
    page.locator("#results table").wait_for()
    page.get_by_label("Show what the answer rests on").check()
    page.get_by_label("Show feature maps").check()
    page.get_by_label("Turn").fill("20")
    page.locator(".maps canvas").nth(1).wait_for()
    page.locator(".sight").nth(1).wait_for()


def _train(page: Page) -> None:
    page.get_by_role("button", name="Start").click()
    page.get_by_text("Epoch 20:").wait_for(timeout=300_000)  # a busy machine is slow
    page.get_by_role("button", name="Pause").click()


def _series(page: Page) -> None:
    page.get_by_label("Epsilon").fill("2")


BEFORE: dict[str, Callable[[Page], None]] = {"try": _try, "train": _train, "series": _series}
"""What the reader did before the picture."""


def take(browser: Browser, address: str, names: set[str], pictures: Any = PICTURES, folder: Path = FOLDER) -> None:
    for name, path, window, colors in pictures:
        if name not in names:
            continue
        context = browser.new_context(viewport=window, color_scheme=colors, reduced_motion="reduce")  # type: ignore[arg-type]  # literals
        page = context.new_page()
        page.goto(address + path, wait_until="networkidle")
        BEFORE.get(name, lambda page: None)(page)
        file = folder / f"{name}.png"
        page.screenshot(path=file)
        Image.open(file).convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(file, optimize=True)
        context.close()


def first_view(browser: Browser, address: str) -> int:
    """Returns the bytes that the front page loads."""
    page, sizes = browser.new_page(), []
    page.on("response", lambda response: sizes.append(len(response.body())))
    page.goto(address, wait_until="networkidle")
    page.close()
    return sum(sizes)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    runtime = os.environ.get("ONNXRUNTIME_WEB")
    tried = ["resnet20.digits", "resnet20.c10"] if runtime else []
    names = set(sys.argv[1:]) or {name for name, *_ in PICTURES}
    if not runtime:
        names -= {"try"}
    binary = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        explored = FOLDER.with_name("atlas")
        built = site.build(Path(folder, "site"), failures=FAILURES, channels=explored, tried=tried, runtime=runtime)
        browser = driver.chromium.launch(executable_path=binary, args=["--no-sandbox", "--disable-gpu"])
        with server.listening(built.folder) as listening:
            thread = threading.Thread(target=listening.serve_forever)
            thread.start()
            try:
                take(browser, server.address_of(listening), names)
                view = first_view(browser, server.address_of(listening))
            finally:
                listening.shutdown()
                thread.join()
                browser.close()
        print(f"{built.pages} models, {built.size:,} bytes; first view {view:,} bytes")


if __name__ == "__main__":
    main()

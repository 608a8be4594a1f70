"""Takes the pictures of docs/gallery.md: ``python docs/gallery.py [NAME...]``, with Chromium and Playwright installed.

It builds the site of all built-in models in a temporary folder, and prints how large the first view is. The picture of
the page to try networks needs onnxruntime-web: ``ONNXRUNTIME_WEB`` is its folder ``dist``.
"""

import os
import sys
import tempfile
from pathlib import Path

from pictures import PHONE, Picture, opened, served, take
from playwright.sync_api import Browser, Page, ViewportSize

from zoo.gallery import site

FOLDER = Path(__file__).with_name("gallery")
FAILURES = [FOLDER.parent / name for name in ("robustness.json", "looking/invariance.json", "looking/confusion.json")]


def _try(page: Page) -> None:
    page.get_by_label("resnet20.c10").check()
    page.get_by_label("Image file").set_input_files(FOLDER.parents[1] / "examples" / "digit.png")
    page.get_by_text("Classified by 2 of 2 networks.").wait_for()


def _train(page: Page) -> None:
    page.get_by_role("button", name="Start").click()
    page.get_by_text("Epoch 20:").wait_for()
    page.get_by_role("button", name="Pause").click()


PICTURES = (
    Picture("front", "index.html"),
    Picture("weights", "index.html#weights"),
    Picture("charts", "index.html#charts"),
    Picture("timeline", "index.html#timeline"),
    Picture("model", "models/googlenet.html"),
    Picture("models", "models.html", dark=True),
    Picture("phone", "models/resnet20.html", PHONE, dark=True),
    Picture("failures", "models/resnet20.html#c10-failures", ViewportSize(width=1280, height=1120)),
    Picture("try", "try.html", before=_try),
    Picture("train", "train.html", ViewportSize(width=1280, height=1300), before=_train),
    Picture("gabor", "gabor.html", ViewportSize(width=1280, height=1000)),
)


def first_view(browser: Browser, address: str) -> int:
    """The bytes that the front page loads."""
    page, sizes = browser.new_page(), []
    page.on("response", lambda response: sizes.append(len(response.body())))
    page.goto(address, wait_until="networkidle")
    page.close()
    return sum(sizes)


def main() -> None:
    runtime = os.environ.get("ONNXRUNTIME_WEB")
    tried = ["resnet20.digits", "resnet20.c10"] if runtime else []
    names = set(sys.argv[1:]) or {picture.name for picture in PICTURES}
    if not runtime:
        names -= {"try"}
    with tempfile.TemporaryDirectory() as folder, opened() as browser:
        built = site.build(Path(folder, "site"), failures=FAILURES, tried=tried, runtime=runtime)
        with served(built.folder) as address:
            take(browser, address, [picture for picture in PICTURES if picture.name in names], FOLDER)
            view = first_view(browser, address)
        print(f"{built.pages} models, {built.size:,} bytes; first view {view:,} bytes")


if __name__ == "__main__":
    main()

"""A small gallery, and what its pages refer to."""

from html.parser import HTMLParser
from pathlib import Path

from zoo_gallery import site

MODELS = ("resnet20", "resnet32", "plain20", "hog_svm", "zfnet", "neocognitron_1980")
"""Some with weights, of which four are scored on CIFAR-10, and some without."""


_DOCS = Path(__file__).parents[2] / "docs"
ROBUSTNESS, CONFUSION = _DOCS / "robustness.json", _DOCS / "looking" / "confusion.json"
FAILURES = (ROBUSTNESS, CONFUSION, _DOCS / "series.json", _DOCS / "patch.json")


def build(folder: Path, **options: object) -> site.Built:
    return site.build(folder, MODELS, failures=FAILURES, **options)  # type: ignore[arg-type]  # the caller's


class Page(HTMLParser):
    """The elements of a page: ``ids``, ``links`` (where the reader may go) and ``loads`` (what the browser fetches)."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.elements.append((tag, given))
        self.ids += [given["id"] or ""] if "id" in given else []
        if tag == "a":
            self.links.append(given.get("href") or "")
        else:
            self.loads += [given[key] or "" for key in ("src", "href", "srcset", "data", "poster") if key in given]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def pages(site: Path) -> dict[Path, Page]:
    return {file: Page(file) for file in sorted(site.rglob("*.html"))}

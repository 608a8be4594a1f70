"""The documentation site: complete, without broken links, and without requests to other hosts."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


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
    assert len(listed) == len(set(listed))
    assert set(listed) == {file.name for file in DOCS.glob("*.md")} | {"decisions/README.md"}


def test_the_page_on_python_names_every_public_function() -> None:
    specification = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert specification is not None
    assert specification.loader is not None
    reference = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(reference)
    assert reference.PAGE.read_text(encoding="utf-8") == reference.render(), "run python docs/reference.py"
    assert "::: zoo.creation.create\n" in reference.render()


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

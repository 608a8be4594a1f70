"""A small site that the tests of a process share; none changes it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import browser, hostile_plugin, small_site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("jinja2", reason="needs jinja2")
    folder = tmp_path_factory.mktemp("gallery") / "site"
    small_site.build(folder)
    return folder


@pytest.fixture
def pet(tmp_path: Path) -> Iterator[None]:
    """A third party's plugin is installed."""
    with hostile_plugin.installed(tmp_path / "packages"):
        yield


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def address(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The site below a path, as a static host may have it."""
    root = tmp_path_factory.mktemp("host")
    shutil.copytree(site, root / "some" / "path")
    with browser.served(root) as top:
        yield f"{top}some/path/"

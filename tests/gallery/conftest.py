"""A small site that the tests of a process share; none changes it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import hostile_plugin, small_site


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

"""A small site that the tests of a process share; none changes it."""

from pathlib import Path

import pytest
from support import small_site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("jinja2", reason="needs jinja2")
    folder = tmp_path_factory.mktemp("gallery") / "site"
    small_site.build(folder)
    return folder

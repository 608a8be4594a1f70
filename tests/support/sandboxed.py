"""Tests that take this process for a sandbox: starting one takes seconds, which a test of each kind pays."""

import pytest

from zoo.system import sandbox


@pytest.fixture(autouse=True)
def _sandboxed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_layers", frozenset())

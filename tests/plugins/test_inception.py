"""The inception family's plugin as a whole; its networks have test files of their own."""

import pytest

from zoo.testing import Check, conformance


@pytest.mark.first(23)
@conformance("inception")
def test_conformance(check: Check) -> None:
    check()

"""The inception family's plugin as a whole; its networks have test files of their own."""

from zoo.testing import Check, conformance


@conformance("inception")
def test_conformance(check: Check) -> None:
    check()

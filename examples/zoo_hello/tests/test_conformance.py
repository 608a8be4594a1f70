from zoo.testing import Check, conformance


@conformance("hello")
def test_conformance(check: Check) -> None:
    check()

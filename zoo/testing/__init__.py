"""The conformance kit: what every plugin promises, checked. Needs pytest.

::

    from zoo.testing import conformance

    @conformance("hello")
    def test_conformance(check):
        check()

runs one test a promise and model, called ``test_conformance[hello_net-num_classes]`` and the like.
Models whose every promise would take too long for each commit (``GIANT_PARAMS``, ``GIANT_MACS``)
have some of their tests marked ``slow``: register that marker, leave them out with
``pytest -m "not slow"``, run everything with ``pytest``.
"""

from zoo.testing.checks import Check, checks_of, conformance
from zoo.testing.subject import GIANT_MACS, GIANT_PARAMS

__all__ = ["GIANT_MACS", "GIANT_PARAMS", "Check", "checks_of", "conformance"]

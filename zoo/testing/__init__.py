"""The conformance kit: checks of every plugin. Needs pytest.

::

    from zoo.testing import conformance

    @conformance("hello")
    def test_conformance(check):
        check()

runs one test a promise and model, called ``test_conformance[hello_net-num_classes]`` and the like.
Models of one kind have the same build hook and the same choices (strings and booleans among ``args``)
with other numbers, such as a depth. What a row declares is tested of each model; what follows from the
code, of the smallest of its kind. The same tests of the others, and the costly ones of giants
(``GIANT_PARAMS``, ``GIANT_MACS``), are marked ``slow``: register that marker, leave them out with
``pytest -m "not slow"``, run everything with ``pytest``.
"""

from typing import TYPE_CHECKING

from zoo.system import lazy

if TYPE_CHECKING:
    from zoo.testing.checks import Check, checks_of, conformance
    from zoo.testing.subject import GIANT_MACS, GIANT_PARAMS

_HOMES = {
    "GIANT_MACS": "zoo.testing.subject",
    "GIANT_PARAMS": "zoo.testing.subject",
    "Check": "zoo.testing.checks",
    "checks_of": "zoo.testing.checks",
    "conformance": "zoo.testing.checks",
}

__all__ = ["GIANT_MACS", "GIANT_PARAMS", "Check", "checks_of", "conformance"]

__getattr__ = lazy.binder(__name__, _HOMES)

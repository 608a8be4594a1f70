"""The conformance kit: checks of every plugin.

::

    from zoo.testing import conformance

    @conformance("hello")
    def test_conformance(check):
        check()

runs one test a promise and model, called ``test_conformance[hello_net-num_classes]`` and the like;
``pytest --zoo-plugin hello`` does so without a file, ``zoo plugins check hello`` without pytest.
What a row declares is tested of each model; what follows from the code, of the smallest model of its
build hook. The same tests of the others, and the costly ones of giants (``GIANT_PARAMS``,
``GIANT_MACS``), are marked ``slow``: leave them out with ``pytest -m "not slow"``, run everything with
``pytest``.
"""

from zoo.system import lazy

__getattr__, __dir__, __all__ = lazy.exports(__name__)

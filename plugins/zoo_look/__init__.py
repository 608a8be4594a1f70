"""Shows what a network has learned, with one function for each question, for every network of the registry.

::

    from zoo import look

    look.layers("resnet20.c10")                                   # names and shapes
    look.filters("alexnet.tv_in1k").save("filters.png")
    look.features("resnet20.c10", "cat.png", "layer1").save("maps.png")

``model`` is a name, for which trained weights are taken, or a network that :func:`zoo.create` made; such a network
comes back as it was. Each function returns a :class:`zoo_look.result.Look`: tensors to work with, facts, a figure.
``zoo look`` does the same from the command line.
"""

from zoo.spec import Plugin
from zoo.system import lazy

plugin = Plugin(
    "look",
    api=2,
    commands={"look": "zoo_look.cli:look"},
    modules={"look": "zoo_look"},
    checks=("zoo_look.checks:look",),
)

__getattr__, __dir__, __all__ = lazy.exports(__name__)

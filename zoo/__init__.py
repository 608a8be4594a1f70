"""A registry of vision architectures with verified pretrained weights.

::

    import zoo

    zoo.list_models("resnet*")              # architectures; "resnet20.*" lists weights
    model = zoo.create("resnet20.digits")   # every file and every tensor is verified
    zoo.predict(model, "digit.png")         # the likeliest classes
    zoo.evaluate(model, "digits")           # accuracy, with its 95% interval

``dir(zoo)`` lists the public names; exceptions are in ``zoo.errors``. After ``import zoo``, ``zoo.classifiers``,
``zoo.evaluation``, ``zoo.hub``, ``zoo.manifest``, ``zoo.modules``, ``zoo.registry``, ``zoo.spec``, ``zoo.testing`` and
``zoo.training`` can be used too. Importing this package imports no torch: each name is bound on first use.
"""

from zoo.errors import *  # noqa: F403  # zoo.HubError is zoo.errors.HubError
from zoo.system import lazy

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy.exports(__name__)

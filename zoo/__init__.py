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

from typing import TYPE_CHECKING

from zoo.errors import *  # noqa: F403  # zoo.HubError is zoo.errors.HubError
from zoo.system import lazy

if TYPE_CHECKING:
    from zoo import attack, data, errors, look
    from zoo import classifiers as classifiers
    from zoo import evaluation as evaluation
    from zoo import hub as hub
    from zoo import manifest as manifest
    from zoo import modules as modules
    from zoo import registry as registry
    from zoo import spec as spec
    from zoo import testing as testing
    from zoo import training as training
    from zoo.creation import create, fetch, preprocess
    from zoo.errors import ZooError
    from zoo.evaluation.by_name import evaluate
    from zoo.evaluation.prediction import predict
    from zoo.extraction import features
    from zoo.loading import Network
    from zoo.registry import register
    from zoo.registry.listing import info, list_models
    from zoo.spec import Model, Paper, Plugin, Preprocess
    from zoo.training.by_name import train
    from zoo.training.reproduction import reproduce

__version__ = "0.1.0"

_HOMES = {
    "Model": "zoo.spec",
    "Network": "zoo.loading",
    "Paper": "zoo.spec",
    "Plugin": "zoo.spec",
    "Preprocess": "zoo.spec",
    "attack": "zoo.attack",
    "classifiers": "zoo.classifiers",
    "create": "zoo.creation",
    "data": "zoo.data",
    "errors": "zoo.errors",
    "evaluate": "zoo.evaluation.by_name",
    "evaluation": "zoo.evaluation",
    "features": "zoo.extraction",
    "fetch": "zoo.creation",
    "hub": "zoo.hub",
    "info": "zoo.registry.listing",
    "list_models": "zoo.registry.listing",
    "look": "zoo.look",
    "manifest": "zoo.manifest",
    "modules": "zoo.modules",
    "predict": "zoo.evaluation.prediction",
    "preprocess": "zoo.creation",
    "register": "zoo.registry",
    "registry": "zoo.registry",
    "reproduce": "zoo.training.reproduction",
    "spec": "zoo.spec",
    "testing": "zoo.testing",
    "train": "zoo.training.by_name",
    "training": "zoo.training",
}

__all__ = [
    "Model",
    "Network",
    "Paper",
    "Plugin",
    "Preprocess",
    "ZooError",
    "attack",
    "create",
    "data",
    "errors",
    "evaluate",
    "features",
    "fetch",
    "info",
    "list_models",
    "look",
    "predict",
    "preprocess",
    "register",
    "reproduce",
    "train",
]

__getattr__ = lazy.binder(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__

"""A model zoo for PyTorch: vision architectures with verified pretrained weights.

::

    import zoo

    zoo.list_models("resnet*")              # architectures; "resnet20.*" lists weights
    model = zoo.create("resnet20.digits")   # verified byte for byte, every tensor accounted for
    image = zoo.preprocess(model)(picture)  # as these weights expect it: float32 C H W
    zoo.evaluate("resnet20.digits", "digits")

Importing this package imports no torch: each name is bound on first use.
"""

from typing import TYPE_CHECKING

from zoo import errors
from zoo.errors import *  # noqa: F403  # the exception tree is small and belongs here
from zoo.system import lazy

if TYPE_CHECKING:
    from zoo import attack, look
    from zoo.creation import create, fetch, preprocess
    from zoo.extraction import features
    from zoo.registry.listing import info, list_models
    from zoo.training.by_name import evaluate, train
    from zoo.training.reproduction import reproduce

__version__ = "0.1.0"

_HOMES = {
    "attack": "zoo.attack",
    "create": "zoo.creation",
    "evaluate": "zoo.training.by_name",
    "features": "zoo.extraction",
    "fetch": "zoo.creation",
    "info": "zoo.registry.listing",
    "list_models": "zoo.registry.listing",
    "look": "zoo.look",
    "preprocess": "zoo.creation",
    "reproduce": "zoo.training.reproduction",
    "train": "zoo.training.by_name",
}

__all__ = [
    *errors.__all__,
    "attack",
    "create",
    "evaluate",
    "features",
    "fetch",
    "info",
    "list_models",
    "look",
    "preprocess",
    "reproduce",
    "train",
]

__getattr__ = lazy.binder(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])

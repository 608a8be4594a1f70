"""A registry of vision architectures with verified pretrained weights.

::

    import zoo

    zoo.list_models("resnet*")              # architectures; "resnet20.*" lists weights
    model = zoo.create("resnet20.digits")   # every file and every tensor is verified
    zoo.predict(model, "digit.png")         # the likeliest classes
    zoo.evaluate(model, "digits")           # accuracy, with its 95% interval

``dir(zoo)`` lists the public names, those that plugins bring (``zoo.look``) among them; exceptions are in
``zoo.errors``. After ``import zoo``, ``zoo.classifiers``,
``zoo.evaluation``, ``zoo.hub``, ``zoo.manifest``, ``zoo.modules``, ``zoo.registry``, ``zoo.spec``, ``zoo.testing`` and
``zoo.training`` can be used too. Importing this package imports no torch: each name is bound on first use.
"""

import os
import sys
from typing import Any

from zoo.errors import *  # noqa: F403  # zoo.HubError is zoo.errors.HubError
from zoo.system import lazy

__version__ = "0.1.0"
_own, _, __all__ = lazy.exports(__name__)
_FILES = {entry.removesuffix(".py") for entry in os.listdir(os.path.dirname(__file__))}


def __getattr__(name: str) -> Any:
    try:
        return _own(name)
    except AttributeError:
        if name.startswith("_") or name in _FILES:  # the import system asks for a module of Zoo before it imports it
            raise
        from zoo.registry import extensions

        address = extensions.modules().get(name)
        if address is None:
            raise
        value = globals()[name] = extensions.import_tool(name, address)
        return value


def __dir__() -> list[str]:
    from zoo.registry import extensions

    return sorted({*__all__, *extensions.modules()})


class _Brought:
    """Finds ``import zoo.look`` among what plugins bring, once nothing else has found it."""

    @staticmethod
    def find_spec(name: str, path: Any, target: Any = None) -> Any:
        if not name.startswith("zoo.") or name.count(".") > 1:
            return None
        from zoo.registry import extensions

        return extensions.module_spec(name)


sys.meta_path.append(_Brought)  # type: ignore[arg-type]  # a class with the method that importing calls

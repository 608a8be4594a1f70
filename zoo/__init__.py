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
            raise AttributeError(f"module 'zoo' has no attribute {name!r}.{_advice(name)}") from None
        value = globals()[name] = extensions.import_tool(name, address)
        return value


_ELSEWHERE = {
    "checkpoint_path": "zoo.create(NAME, weights=FILE)",
    "create_model": "zoo.create(NAME), or import zoo.timm as timm",
    "get_model": "zoo.create(NAME)",
    "get_pretrained_cfg": "zoo.info(NAME), or import zoo.timm as timm",
    "get_weight": "zoo.info(NAME)",
    "is_model": "NAME in zoo.list_models(), or import zoo.timm as timm",
    "list_pretrained": "zoo.list_models(pretrained=True), or import zoo.timm as timm",
    "load": "zoo.create(NAME)",
    "load_model": "zoo.create(NAME)",
    "models": "zoo.list_models() and zoo.create(NAME)",
    "register_model": "zoo.model, or import zoo.timm as timm",
}
"""Replacements for names of timm and torchvision, and for likely guesses."""


def _advice(name: str) -> str:
    from difflib import get_close_matches

    near = " or ".join(f"zoo.{other}" for other in get_close_matches(name, __dir__(), cutoff=0.75))
    wanted = _ELSEWHERE.get(name) or near
    return f" Use {wanted}." if name in _ELSEWHERE else f" Did you mean {wanted}?" if wanted else ""


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

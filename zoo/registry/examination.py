"""Imports one plugin and turns it, or what is wrong with it, into an entry of the index."""

import importlib
import traceback

from zoo.errors import PluginError
from zoo.registry import import_failure
from zoo.registry.contents import contents_of, packages_of
from zoo.registry.imported import Entry, Imported, encode
from zoo.registry.installed import DISTRIBUTION
from zoo.spec import API, Plugin


def examine(name: str, target: str) -> Imported:
    """The plugin that the entry point ``name = target`` names. Every error of the plugin's code becomes a reason."""
    try:
        value = _load(target)
    except BaseException as error:  # sys.exit at import is a BaseException too
        return _refused("broken", import_failure.explain(target, error), error)
    if not isinstance(value, Plugin):
        return _refused("broken", f"{target} is a {type(value).__name__}, not a zoo.spec.Plugin")
    if value.api > API:
        return _refused("set aside", _needs(value.api))
    if value.name != name:
        return _refused("broken", f"its entry point is named {name!r}, the plugin {value.name!r}")
    try:
        return encode(value, contents_of(value), packages_of(target, value))
    except PluginError as error:
        return _refused("broken", error.message, error)
    except (TypeError, OverflowError, ValueError) as error:
        return _refused("broken", f"{target} holds a value that is not data: {error}", error)


def refused_by_contract(target: str) -> Imported | None:
    """The state of a plugin whose text asks for a newer contract: its import would fail at what is new there."""
    asked = import_failure.contract_of(target)
    return _refused("set aside", _needs(asked)) if asked is not None and asked > API else None


def _load(target: str) -> object:
    module, _, attributes = target.partition("[")[0].strip().partition(":")
    value: object = importlib.import_module(module.strip())
    for name in filter(None, attributes.strip().split(".")):
        value = getattr(value, name)
    return value


def _needs(contract: int) -> str:
    return f"it needs plugin contract {contract}, this Zoo has {API}: pip install -U {DISTRIBUTION}"


def _refused(status: str, reason: str, error: BaseException | None = None) -> Imported:
    text = "".join(traceback.format_exception(error)) if error is not None else ""
    return Imported(Entry(status, reason, text), ())

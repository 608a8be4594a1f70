"""The installed plugins and their models."""

from zoo.registry.hooks import hook, require, resource
from zoo.registry.installed import DISTRIBUTION, GROUP
from zoo.registry.plugin_row import PluginRow
from zoo.registry.process import clear, current, register, unregister
from zoo.registry.registry import Found, Listed, Registry

__all__ = [
    "DISTRIBUTION",
    "GROUP",
    "Found",
    "Listed",
    "PluginRow",
    "Registry",
    "clear",
    "current",
    "hook",
    "register",
    "require",
    "resource",
    "unregister",
]

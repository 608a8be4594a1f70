"""The installed plugins and their models."""

from zoo.registry.discovery import DATA_GROUP, GROUP
from zoo.registry.hooks import hook, require, resource
from zoo.registry.plugin_row import DISTRIBUTION, PluginRow
from zoo.registry.registry import Found, Listed, Registry
from zoo.registry.session import clear, current, model, register, unregister

__all__ = [
    "DATA_GROUP",
    "DISTRIBUTION",
    "GROUP",
    "Found",
    "Listed",
    "PluginRow",
    "Registry",
    "clear",
    "current",
    "hook",
    "model",
    "register",
    "require",
    "resource",
    "unregister",
]

"""The installed plugins and their models."""

from zoo.registry.discovery import DATA_GROUP, GROUP
from zoo.registry.here import model
from zoo.registry.hooks import hook, require, resource
from zoo.registry.named import Found, Listed
from zoo.registry.plugin_row import DISTRIBUTION, PluginRow
from zoo.registry.registry import Registry, clear, current, register, unregister

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

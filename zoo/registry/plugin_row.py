"""A plugin with its state."""

import contextlib
import importlib.metadata
import importlib.util
import re
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from zoo import manifest
from zoo.errors import ManifestError, PluginError
from zoo.manifest import Weights
from zoo.registry.hooks import hook, resource
from zoo.registry.roles import COLLECTION
from zoo.spec import API, Model, Plugin

DISTRIBUTION = "zoo-vision"


class PluginRow:
    """One entry point and the state of its plugin.

    ``status`` is ``ok``, ``slow`` (usable, but its import brings torch), ``broken`` (its import or its
    manifest failed), ``set aside`` (a conflict or a newer contract) or ``disabled`` (by ``ZOO_PLUGINS``
    or ``ZOO_DISABLE_PLUGINS``); ``reason`` says why it is not ``ok``, ``error`` is what was raised.
    ``plugin`` is None unless the plugin can be used.
    """

    def __init__(
        self,
        entry_point: importlib.metadata.EntryPoint,
        distribution: importlib.metadata.Distribution | None,
        *,
        is_builtin: bool,
    ) -> None:
        self.name = entry_point.name
        self.is_builtin = is_builtin
        self.status = "ok"
        self.reason = ""
        self.error: BaseException | None = None
        self.plugin: Plugin | None = None
        self._entry_point = entry_point
        self._distribution = distribution

    @classmethod
    def of_value(cls, plugin: Plugin) -> "PluginRow":
        """The row of a plugin added by :func:`zoo.register`."""
        row = cls(importlib.metadata.EntryPoint(plugin.name, "__main__", ""), None, is_builtin=False)
        row.plugin = plugin
        return row

    def refuse(self, status: str, reason: str, error: BaseException | None = None) -> None:
        self.status, self.reason, self.error, self.plugin = status, reason, error, None

    def resolve(self) -> None:
        """Imports the plugin; an error becomes the row's reason."""
        had_torch = "torch" in sys.modules
        try:
            value = self._import()
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"while plugin {self.name!r} ({self._entry_point.value}, of {self.distribution}) was imported; "
                f"ZOO_DISABLE_PLUGINS={self.name} disables it"
            ) from None
        except BaseException as error:  # sys.exit at import is a BaseException too
            from zoo.registry import import_failure

            newer = import_failure.asked_by(self._entry_point)
            if newer is not None and newer > API:
                return self._set_aside(newer, error)
            return self.refuse("broken", import_failure.explain(self._entry_point.value, error), error)
        if not isinstance(value, Plugin):
            return self.refuse(
                "broken", f"{self._entry_point.value} is a {type(value).__name__}, not a zoo.spec.Plugin"
            )
        if value.api > API:
            return self._set_aside(value.api)
        if value.name != self.name:
            return self.refuse("broken", f"its entry point is named {self.name!r}, the plugin {value.name!r}")
        self.plugin = value
        if not had_torch and "torch" in sys.modules:
            self.status = "slow"
            self.reason = f"importing {self._entry_point.module} imports torch, which slows down every command"
        return None

    def _import(self) -> Any:
        with contextlib.redirect_stdout(sys.stderr):  # a chatty plugin must not spoil --json
            if self.is_builtin:
                return self._entry_point.load()
            from zoo.registry import import_guard

            identity = self._identity()
            if failure := import_guard.failure(self.name, identity):
                raise PluginError(f"{failure}; zoo plugins show {self.name} tries again")
            with import_guard.watched(self.name, identity):
                return self._entry_point.load()

    def _identity(self) -> str:
        """The code that an import would run, as far as it can be determined without running it."""
        target = self._entry_point.value
        package = re.split("[.:]", target)[0]
        try:
            spec = importlib.util.find_spec(package)
            place = Path(spec.origin) if spec and spec.origin else None
            state = f"{place} {place.stat().st_mtime_ns}" if place else ""
        except (ImportError, OSError, ValueError):
            state = ""
        return f"{target} {folder_of(self._distribution)} {state}"

    def _set_aside(self, needed: int, error: BaseException | None = None) -> None:
        reason = f"it needs plugin contract {needed}, this Zoo has {API}: pip install -U {DISTRIBUTION}"
        self.refuse("set aside", reason, error)

    @property
    def module(self) -> str:
        """The module that defines the plugin."""
        return self._entry_point.module

    # A distribution's metadata is parsed as an e-mail: too slow to do for a plugin nobody asks about.
    @cached_property
    def distribution(self) -> str:
        return name_of(self._distribution) if self._distribution is not None else ""  # of the process

    @cached_property
    def version(self) -> str:
        return version_of(self._distribution) if self._distribution is not None else ""

    @property
    def is_collection(self) -> bool:
        return self.plugin is not None and bool(self.plugin.collection)

    @property
    def packages(self) -> set[str]:
        """The top-level packages with the plugin's code and manifests."""
        addresses = [self._entry_point.value, *self.plugin.weights] if self.plugin else []
        return {re.split("[.:]", address)[0] for address in addresses}

    @property
    def models(self) -> dict[str, Model]:
        """The plugin's models by name. Those of a collection are read on first use; raises :class:`PluginError`."""
        if self.is_collection:
            return self._collected[0]
        return {model.name: model for model in self.plugin.models} if self.plugin else {}

    @cached_property
    def weights(self) -> dict[str, tuple[Weights, ...]]:
        """The plugin's weights by architecture, its manifests' first; raises :class:`ManifestError`.

        A manifest entry for weights of a collection replaces the collection's own.
        """
        if self.plugin is None:
            return {}
        found: dict[str, dict[str, Weights]] = {name: {} for name in self.models}
        present = {alias: model.name for model in self.models.values() for alias in model.aliases}
        for address in self.plugin.weights:
            file = resource(address)
            for entry in manifest.read(file):
                if entry.arch in present:
                    entry = replace(entry, arch=present[entry.arch])
                if entry.arch not in found:
                    raise ManifestError(f"{file}: [{entry.name}]: plugin {self.name!r} has no model {entry.arch!r}")
                if entry.tag in found[entry.arch]:
                    raise ManifestError(f"{file}: [{entry.name}] is defined twice")
                found[entry.arch][entry.tag] = entry
        for entry in self._collected[1] if self.is_collection else ():
            found[entry.arch].setdefault(entry.tag, entry)
        return {arch: tuple(tags.values()) for arch, tags in found.items()}

    @cached_property
    def _collected(self) -> tuple[dict[str, Model], tuple[Weights, ...]]:
        """The contents of the plugin's collection; if they cannot be read, the plugin is ``broken``."""
        assert self.plugin is not None
        target = self.plugin.collection
        try:
            with contextlib.redirect_stdout(sys.stderr):
                given, weights = hook(target, role=COLLECTION)()
            models = {model.name: model for model in given}
            strange = [name for name in models if not name.startswith(f"{self.name}/")]
            strange += [entry.name for entry in weights if entry.arch not in models]
            if strange:
                raise ValueError(f"{strange[0]!r} does not begin with {self.name}/")
        except Exception as error:  # a plugin's code may raise anything
            reason = f"its collection {target} raised {type(error).__name__}: {error}"
            self.refuse("broken", reason)
            raise PluginError(f"Plugin {self.name!r} is broken: {reason}", hint="zoo plugins shows all.") from error
        return models, tuple(weights)


def name_of(distribution: importlib.metadata.Distribution) -> str:
    """The distribution's name, or its folder's name if its metadata cannot be read."""
    try:
        name = distribution.metadata["Name"]
    except Exception:  # missing or not UTF-8: the standard library raises what it runs into
        name = None
    return str(name or folder_of(distribution).partition("-")[0])


def version_of(distribution: importlib.metadata.Distribution) -> str:
    try:
        version = distribution.metadata["Version"]
    except Exception:  # as above
        version = None
    return str(version or folder_of(distribution).partition("-")[2])


def folder_of(distribution: importlib.metadata.Distribution | None) -> str:
    """``zoo_pet-1.0`` of ``zoo_pet-1.0.dist-info``: there is no public API for a distribution's path."""
    return Path(str(getattr(distribution, "_path", ""))).name.rpartition(".")[0]

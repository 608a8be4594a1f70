"""A plugin with its state."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from zoo.errors import ManifestError, PluginError
from zoo.manifest import Weights
from zoo.registry.contents import Architecture, contents_of, packages_of
from zoo.registry.imported import Entry, Imported, Key, Rows
from zoo.registry.installed import Distribution
from zoo.spec import Model, Plugin

T = TypeVar("T")


class PluginRow:
    """One entry point and the state of its plugin.

    ``status`` is one of

    - ``ok``;
    - ``slow`` or ``noisy``: the plugin works, but its import brings torch, or writes to standard output;
    - ``broken``: its import, its manifest or its collection failed;
    - ``set aside``: it has the name of another one, or needs a newer contract;
    - ``disabled``: by the user.

    ``reason`` says why it is not ``ok``, ``traceback`` is that of the error. ``module`` defines the plugin.
    """

    def __init__(self, name: str, target: str, distribution: Distribution) -> None:
        self.name = name
        self.target = target
        self.module = target.partition(":")[0].strip()
        self.distribution = distribution.name
        self.version = distribution.version
        self.is_builtin = distribution.is_builtin
        self.key = Key(distribution.folder, name, target)
        self.refuse("ok", "")

    @classmethod
    def of_value(cls, plugin: Plugin) -> "PluginRow":
        """The row of a plugin added by :func:`zoo.register`."""
        row = cls(plugin.name, "__main__", Distribution("", None))
        try:
            with contextlib.redirect_stdout(sys.stderr):  # a chatty collection must not spoil --json
                contents = contents_of(plugin)
        except PluginError as error:
            row.refuse("broken", error.message)
        else:
            row._take(Rows.given(plugin, contents, packages_of("__main__", plugin)))
        return row

    def fill(self, imported: Imported) -> None:
        """Takes the state from what importing the plugin showed."""
        self._take(Rows(*imported[:2]))

    def refuse(self, status: str, reason: str) -> None:
        """Sets a state in which the plugin is not used."""
        self._take(Rows(Entry(status, reason)))

    def _take(self, rows: Rows) -> None:
        self._rows = rows
        self.status, self.reason, self.traceback = rows.entry.status, rows.entry.reason, rows.entry.traceback

    @property
    def plugin(self) -> Plugin | None:
        """The plugin; None if it cannot be used."""
        return self._rows.plugin

    @property
    def bare(self) -> Plugin | None:
        """The plugin, perhaps without its models, for what else it brings; None if it cannot be used."""
        return self._rows.bare

    @property
    def is_usable(self) -> bool:
        """Whether there is a ``plugin``; it is not decoded for the answer."""
        return self._rows.is_usable

    @property
    def is_collection(self) -> bool:
        return self._rows.entry.is_collection

    @property
    def packages(self) -> set[str]:
        """The top-level packages with the plugin's code and manifests."""
        return {*self._rows.entry.packages}

    @property
    def tags(self) -> Mapping[str, Sequence[str]]:
        """The tags of each model's weights by the model's name; nothing is decoded for them."""
        return self._rows.tags

    @property
    def aliases(self) -> Mapping[str, str]:
        """The present names of models by their other names; nothing is decoded for them."""
        return self._rows.aliases

    @property
    def models(self) -> Mapping[str, Model]:
        """The plugin's models by name, decoded on first use."""
        return _Part(self._rows, lambda row: row.model)

    @property
    def weights(self) -> Mapping[str, tuple[Weights, ...]]:
        """The weights of each model by its name, first those of manifests; raises :class:`ManifestError`."""
        if self._rows.entry.fault:
            raise ManifestError(self._rows.entry.fault)
        return _Part(self._rows, lambda row: row.weights)


class _Part(Mapping[str, T]):
    """The models of architectures, or their weights."""

    def __init__(self, rows: Rows, part: Callable[[Architecture], T]) -> None:
        self._rows, self._part = rows, part

    def __getitem__(self, name: str) -> T:
        return self._part(self._rows[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, name: object) -> bool:
        return name in self._rows

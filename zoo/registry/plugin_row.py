"""A plugin with its state and its contents: its models and their weights, from its rows, manifests and collection.

A plugin is kept as encoded rows, one for each model: each is decoded when somebody asks for it.
"""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec.msgpack import Ext
from msgspec.structs import force_setattr, replace

from zoo import manifest
from zoo.errors import ManifestError, PluginError, StorageError
from zoo.manifest import Weights
from zoo.registry.hooks import hook, resource
from zoo.registry.roles import COLLECTION
from zoo.spec import KeyMap, Model, Plugin
from zoo.spec.checked import trusted

T = TypeVar("T")

DISTRIBUTION = "zoo-vision"

Stamp = tuple[int, int, int, int]
"""What changes with a file: its size, its times of modification and of change in nanoseconds, its inode."""


class Distribution(msgspec.Struct, frozen=True, array_like=True):
    """A distribution and its entry points of the group ``zoo.plugins``: names and targets, ``"module:attribute"``.

    ``folder`` holds its metadata. ``damage`` says why its entry points cannot be read.
    """

    folder: str
    entry_points: Stamp | None
    metadata: Stamp | None = None
    name: str = ""
    version: str = ""
    points: tuple[tuple[str, str], ...] = ()
    damage: str = ""

    @property
    def key(self) -> str:
        """The name as pip compares names. Other distributions cannot take it, whatever their metadata states."""
        stem = self.folder.rpartition("/")[2].rpartition(".")[0].partition("-")[0]
        return as_pip_compares(stem or self.name)

    @property
    def is_builtin(self) -> bool:
        return self.key == DISTRIBUTION


def as_pip_compares(distribution: str) -> str:
    """The name in the form in which pip compares names."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


class PluginRow:
    """One entry point and the state of its plugin.

    ``status`` is one of

    - ``ok``;
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
            row.fill(Rows.given(plugin, contents, packages_of("__main__", plugin)), contents.fault)
        return row

    def fill(self, rows: "Rows", fault: str = "") -> None:
        """Takes the plugin; ``fault`` says why its manifests cannot be read."""
        self._rows, self._fault = rows, fault
        self.status, self.reason, self.traceback = "broken" if fault else "ok", fault, ""

    def refuse(self, status: str, reason: str, traceback: str = "") -> None:
        """Sets a state in which the plugin is not used."""
        self.fill(Rows(Entry()))
        self.status, self.reason, self.traceback = status, reason, traceback

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
        if self._fault:
            raise ManifestError(self._fault)
        return _Part(self._rows, lambda row: row.weights)


class _Part(Mapping[str, T]):
    """The models of architectures, or their weights."""

    def __init__(self, rows: "Rows", part: "Callable[[Architecture], T]") -> None:
        self._rows, self._part = rows, part

    def __getitem__(self, name: str) -> T:
        return self._part(self._rows[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, name: object) -> bool:
        return name in self._rows


# ---- what a plugin contains ---------------------------------------------------------------------


class Architecture(NamedTuple):
    """A model and its weights, first those of the plugin's manifests."""

    model: Model
    weights: tuple[Weights, ...] = ()


class Contents(NamedTuple):
    """The architectures of a plugin by name; without weights if ``fault`` says why its manifests cannot be read."""

    architectures: dict[str, Architecture]
    fault: str = ""


def contents_of(plugin: Plugin) -> Contents:
    """Reads the manifests and the collection of ``plugin``; raises :class:`PluginError` if the collection is invalid.

    A manifest entry for weights of a collection replaces the collection's own.
    """
    models, collected = _collected(plugin) if plugin.collection else (plugin.models, ())
    try:
        weights = _weights(plugin, models, collected)
    except ManifestError as error:
        return Contents({model.name: Architecture(model) for model in models}, str(error))
    return Contents({model.name: Architecture(model, tuple(weights[model.name].values())) for model in models})


def packages_of(target: str, plugin: Plugin) -> tuple[str, ...]:
    """The top-level packages with the plugin's code and manifests."""
    addresses = [target, *plugin.weights, *filter(None, [plugin.collection])]
    return tuple(sorted({top_of(address) for address in addresses}))


def top_of(address: str) -> str:
    """The top-level package of ``"package.module:name"``."""
    return re.split("[.:]", address)[0].strip()


def _weights(plugin: Plugin, models: Sequence[Model], collected: Sequence[Weights]) -> dict[str, dict[str, Weights]]:
    found: dict[str, dict[str, Weights]] = {model.name: {} for model in models}
    present = {alias: model.name for model in models for alias in model.aliases}
    for address in plugin.weights:
        file = resource(address)
        for entry in manifest.read(file):
            if entry.arch in present:
                entry = replace(entry, arch=present[entry.arch])
            if entry.arch not in found:
                raise ManifestError(f"{file}: [{entry.name}]: plugin {plugin.name!r} has no model {entry.arch!r}")
            if entry.tag in found[entry.arch]:
                raise ManifestError(f"{file}: [{entry.name}] is defined twice")
            found[entry.arch][entry.tag] = entry
    for entry in collected:
        found[entry.arch].setdefault(entry.tag, entry)
    return found


def _collected(plugin: Plugin) -> tuple[Sequence[Model], Sequence[Weights]]:
    target = plugin.collection
    try:
        given, weights = hook(target, role=COLLECTION)()
        models = {one.name: one if one.api == plugin.api else replace(one, api=plugin.api) for one in given}
        strange = [name for name in models if not name.startswith(f"{plugin.name}/")]
        strange += [entry.name for entry in weights if entry.arch not in models]
        if strange:
            raise ValueError(f"{strange[0]!r} does not begin with {plugin.name}/")
    except (Exception, SystemExit) as error:  # a plugin's code may raise anything
        raise PluginError(f"its collection {target} raised {type(error).__name__}: {error}") from error
    return [*models.values()], weights


# ---- the same as rows that are decoded on first use ---------------------------------------------


class Key(NamedTuple):
    """An entry point: the folder of its distribution, its name and its target."""

    folder: str
    name: str
    target: str


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A plugin in the index.

    ``plugin`` is its value without models, ``packages`` are those with its code and manifests, ``names`` are those of
    its models, ``tags`` those of each model's weights and ``aliases`` its other names, separated by spaces.
    """

    plugin: bytes = b""
    is_collection: bool = False
    packages: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


class Rows(Mapping[str, Architecture]):
    """The architectures of a plugin by name, decoded on first use."""

    def __init__(self, entry: Entry, rows: Sequence[bytes] = ()) -> None:
        self.entry, self.encoded = entry, rows
        self._decoded: dict[str, Architecture] = {}

    @classmethod
    def given(cls, plugin: Plugin, contents: Contents, packages: tuple[str, ...]) -> "Rows":
        """Those of a plugin of this process, as they are."""
        rows = cls(_entry(plugin, contents, packages))
        rows._decoded, rows.plugin = contents.architectures, plugin
        return rows

    @property
    def is_usable(self) -> bool:
        return bool(self.entry.plugin) or "plugin" in vars(self)

    @cached_property
    def bare(self) -> Plugin | None:
        """The plugin, perhaps without its models: cheap to decode. None if it cannot be used."""
        if "plugin" in vars(self) or not self.entry.plugin:
            return vars(self).get("plugin")
        with trusted():
            plugin: Plugin = _plugin_decoder.decode(self.entry.plugin)
        return plugin

    @cached_property
    def plugin(self) -> Plugin | None:
        """The plugin with all its models; a collection has none. None if it cannot be used."""
        if not self.entry.plugin:
            return None
        with trusted():
            plugin = _plugin_decoder.decode(self.entry.plugin)
        if not plugin.collection:
            force_setattr(plugin, "models", tuple(row.model for row in self.values()))  # they are complete already
        return plugin

    @cached_property
    def tags(self) -> dict[str, list[str]]:
        """The tags of each model's weights; no row is decoded for them."""
        return {name: tags.split() for name, tags in zip(self.entry.names, self.entry.tags, strict=True)}

    @cached_property
    def aliases(self) -> dict[str, str]:
        """The present names of models by their other names."""
        pairs = zip(self.entry.names, self.entry.aliases, strict=True)
        return {alias: name for name, aliases in pairs if aliases for alias in aliases.split()}

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.entry.names)}

    def __getitem__(self, name: str) -> Architecture:
        if name not in self._decoded:
            place = self._places[name]
            try:
                with trusted():
                    self._decoded[name] = Architecture(*_decoder.decode(self.encoded[place]))
            except ValueError as error:  # of text that is not UTF-8, too
                hint = "Remove the folder 'index' of the cache: it is made again."
                raise StorageError(f"The index of the plugins is damaged at {name}: {error}.", hint=hint) from None
        return self._decoded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entry.names)

    def __len__(self) -> int:
        return len(self.entry.names)

    def __contains__(self, name: object) -> bool:
        return name in self._places


def encode(plugin: Plugin, contents: Contents, packages: tuple[str, ...]) -> Rows:
    """``plugin`` as data; raises TypeError for a value that is not data, such as a function among arguments."""
    bare = replace(plugin, models=(), key_maps=tuple(map(_marked_map, plugin.key_maps)))
    entry = replace(_entry(plugin, contents, packages), plugin=_encoder.encode(bare))
    return Rows(entry, [_encoder.encode(_marked_architecture(one)) for one in contents.architectures.values()])


def _entry(plugin: Plugin, contents: Contents, packages: tuple[str, ...]) -> Entry:
    return Entry(
        packages=packages,
        is_collection=bool(plugin.collection),
        names=tuple(contents.architectures),
        tags=tuple(" ".join(one.tag for one in row.weights) for row in contents.architectures.values()),
        aliases=tuple(" ".join(row.model.aliases) for row in contents.architectures.values()),
    )


# ---- values of any type: MessagePack has no tuples and no dates ----------------------------------

_CODES: dict[type, int] = {tuple: 1, datetime: 2, date: 3, time: 4}


def _marked(value: Any) -> Any:
    """``value`` with tuples and dates as extension values, so that they come back as what they were."""
    kind = type(value)
    if kind is dict:
        return {key: _marked(item) for key, item in value.items()}
    if kind in (list, tuple):
        items = [*map(_marked, value)]
        return Ext(_CODES[tuple], msgspec.msgpack.encode(items)) if kind is tuple else items
    if kind in (set, frozenset):
        raise TypeError(f"a {kind.__name__}, expected a list or a tuple")  # it would come back as a list
    return Ext(_CODES[kind], value.isoformat().encode()) if kind in _CODES else value


def _restored(code: int, data: memoryview) -> Any:
    if code == _CODES[tuple]:
        return tuple(msgspec.msgpack.decode(data, ext_hook=_restored))
    kind: Any = next(kind for kind, known in _CODES.items() if known == code)
    return kind.fromisoformat(bytes(data).decode())


def _marked_architecture(one: Architecture) -> Architecture:
    model: Model = _with(one.model, args=_marked(one.model.args))
    return Architecture(model, tuple(_with(weights, args=_marked(weights.args)) for weights in one.weights))


def _marked_map(key_map: KeyMap) -> KeyMap:
    marked: KeyMap = _with(key_map, args=_marked(key_map.args), preprocess=_marked(key_map.preprocess))
    return marked


def _with(value: Any, **marked: Any) -> Any:
    """``value`` with the ``marked`` fields, unless they are what it has."""
    return value if all(getattr(value, name) == given for name, given in marked.items()) else replace(value, **marked)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[Model, tuple[Weights, ...]], ext_hook=_restored)
_plugin_decoder = msgspec.msgpack.Decoder(Plugin, ext_hook=_restored)

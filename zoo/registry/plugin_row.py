"""A plugin with its state and its contents, its models and their weights.

A plugin is kept as encoded rows, one for each model: each is decoded when somebody asks for it.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec.msgpack import Ext
from msgspec.structs import force_setattr, replace

from zoo.errors import ManifestError, PluginError, StorageError
from zoo.manifest import Weights
from zoo.registry.contents import Architecture, Contents, contents_of, packages_of
from zoo.spec import KeyMap, Model, Plugin
from zoo.spec.checked import trusted
from zoo.system import terminal

T = TypeVar("T")

DISTRIBUTION = "zoo-vision"

Stamp = tuple[int, int, int, int]
"""The marks that change with a file: its size, its times of modification and of change in nanoseconds, its inode."""


class Distribution(msgspec.Struct, frozen=True, array_like=True):
    """A distribution and its entry points: names and targets.

    ``points`` are those of the group ``zoo.plugins``, ``"module:attribute"``; ``data`` those of ``zoo.weights``, a
    manifest of weights each, ``"package:file.toml"``. ``folder`` holds its metadata. ``damage`` says why its entry
    points cannot be read.
    """

    folder: str
    entry_points: Stamp | None
    metadata: Stamp | None = None
    name: str = ""
    version: str = ""
    points: tuple[tuple[str, str], ...] = ()
    damage: str = ""
    data: tuple[tuple[str, str], ...] = ()

    @property
    def every_point(self) -> tuple[tuple[str, str], ...]:
        return self.points + self.data

    @property
    def key(self) -> str:
        """The name as pip compares names. Other distributions cannot take it, whatever their metadata states."""
        stem = self.folder.rpartition("/")[2].rpartition(".")[0].partition("-")[0]
        return as_pip_compares(stem or self.name)

    @property
    def is_builtin(self) -> bool:
        return self.key == DISTRIBUTION


def as_pip_compares(distribution: str) -> str:
    """Returns the name in the form in which pip compares names."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


class PluginRow:
    """One entry point and the state of its plugin.

    ``status`` is one of

    - ``ok``;
    - ``broken``: its import, its manifest or its collection failed;
    - ``set aside``: it has the name of another one, or needs a newer contract;
    - ``disabled``: by the user.

    ``reason`` says why it is not ``ok``, ``traceback`` is that of the error. ``module`` defines the plugin; if it
    ``is_data``, that is a manifest of weights, and there is no code.
    """

    def __init__(self, name: str, target: str, distribution: Distribution) -> None:
        self.name = name
        self.target = target
        self.module = target.partition(":")[0].strip()
        self.distribution = distribution.name
        self.version = distribution.version
        self.is_builtin = distribution.is_builtin
        self.is_data = (name, target) in distribution.data
        self.key = Key(distribution.folder, name, target)
        self.refuse("ok", "")

    @classmethod
    def of_value(cls, plugin: Plugin) -> "PluginRow":
        """Returns the row of a plugin added by :func:`zoo.register`."""
        row = cls(plugin.name, "__main__", Distribution("", None))
        try:
            with terminal.guarded(f"plugin {plugin.name!r}"):  # a chatty collection spoils no --json
                contents = contents_of(plugin)
        except PluginError as error:
            row.refuse("broken", error.message)
        else:
            plugin = _with(plugin, key_maps=contents.key_maps)
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

    @property
    def brought_tags(self) -> Mapping[str, Sequence[str]]:
        """The tags of the weights that it brings for models of other plugins, by the model as its manifest names it."""
        return self._rows.brought_tags

    def brought(self, arch: str) -> tuple[Weights, ...]:
        """Returns the weights that it brings for the model ``arch`` of another plugin; each is named
        ``plugin/arch.tag``.
        """
        return self._rows.brought(arch)


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


# ---- the same as rows that are decoded on first use ---------------------------------------------


class Key(NamedTuple):
    """An entry point: the folder of its distribution, its name and its target."""

    folder: str
    name: str
    target: str


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A plugin in the index.

    ``plugin`` is its value without models, ``packages`` are those with its code and manifests, ``names`` are those of
    its models, ``tags`` those of each model's weights and ``aliases`` its other names, separated by spaces. ``brought``
    are models of other plugins, as ``brought_tags`` of weights that it brings for each.
    """

    plugin: bytes = b""
    is_collection: bool = False
    packages: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    brought: tuple[str, ...] = ()
    brought_tags: tuple[str, ...] = ()


class Rows(Mapping[str, Architecture]):
    """The architectures of a plugin by name, and the weights that it brings for others, decoded on first use.

    ``encoded`` has a row for each architecture, and one for the weights of each model of another plugin.
    """

    def __init__(self, entry: Entry, rows: Sequence[bytes] = ()) -> None:
        self.entry, self.encoded = entry, rows
        self._decoded: dict[str, Architecture] = {}
        self._brought: dict[str, tuple[Weights, ...]] = {}

    @classmethod
    def given(cls, plugin: Plugin, contents: Contents, packages: tuple[str, ...]) -> "Rows":
        """Returns those of a plugin of this process, as they are."""
        rows = cls(_entry(plugin, contents, packages))
        rows._decoded, rows._brought, rows.plugin = contents.architectures, dict(contents.brought), plugin
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
    def brought_tags(self) -> dict[str, list[str]]:
        """The tags of the weights for each model of another plugin; no row is decoded for them."""
        pairs = zip(self.entry.brought, self.entry.brought_tags, strict=True)
        return {arch: tags.split() for arch, tags in pairs}

    def brought(self, arch: str) -> tuple[Weights, ...]:
        if arch not in self._brought:
            place = len(self.entry.names) + self.entry.brought.index(arch)
            with _explained(arch), trusted():
                self._brought[arch] = _weights_decoder.decode(self.encoded[place])
        return self._brought[arch]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.entry.names)}

    def __getitem__(self, name: str) -> Architecture:
        if name not in self._decoded:
            place = self._places[name]
            with _explained(name), trusted():
                self._decoded[name] = Architecture(*_decoder.decode(self.encoded[place]))
        return self._decoded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entry.names)

    def __len__(self) -> int:
        return len(self.entry.names)

    def __contains__(self, name: object) -> bool:
        return name in self._places


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:  # of text that is not UTF-8, too
        hint = "Remove the folder 'index' of the cache: it is made again."
        raise StorageError(f"The index of the plugins is damaged at {name}: {error}.", hint=hint) from None


def encode(plugin: Plugin, contents: Contents, packages: tuple[str, ...]) -> Rows:
    """Returns ``plugin`` as data; raises TypeError for a value that is not data, such as a function among arguments."""
    bare = replace(plugin, models=(), key_maps=tuple(map(_marked_map, contents.key_maps)))
    entry = replace(_entry(plugin, contents, packages), plugin=_encoder.encode(bare))
    rows = [_encoder.encode(_marked_architecture(one)) for one in contents.architectures.values()]
    return Rows(entry, rows + [_encoder.encode(_marked_weights(entries)) for entries in contents.brought.values()])


def _entry(plugin: Plugin, contents: Contents, packages: tuple[str, ...]) -> Entry:
    return Entry(
        packages=packages,
        is_collection=bool(plugin.collection),
        names=tuple(contents.architectures),
        tags=tuple(" ".join(one.tag for one in row.weights) for row in contents.architectures.values()),
        aliases=tuple(" ".join(row.model.aliases) for row in contents.architectures.values()),
        brought=tuple(contents.brought),
        brought_tags=tuple(" ".join(one.tag for one in entries) for entries in contents.brought.values()),
    )


# ---- values of any type: MessagePack has no tuples and no dates ----------------------------------

_CODES: dict[type, int] = {tuple: 1, datetime: 2, date: 3, time: 4}


def _marked(value: Any) -> Any:
    """Returns ``value`` with tuples and dates as extension values, so that they come back as what they were."""
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
    return Architecture(model, _marked_weights(one.weights))


def _marked_weights(entries: Sequence[Weights]) -> tuple[Weights, ...]:
    return tuple(_with(weights, args=_marked(weights.args)) for weights in entries)


def _marked_map(key_map: KeyMap) -> KeyMap:
    marked: KeyMap = _with(key_map, args=_marked(key_map.args), preprocess=_marked(key_map.preprocess))
    return marked


def _with(value: Any, **marked: Any) -> Any:
    """Returns ``value`` with the ``marked`` fields, unless they are what it has."""
    return value if all(getattr(value, name) == given for name, given in marked.items()) else replace(value, **marked)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[Model, tuple[Weights, ...]], ext_hook=_restored)
_weights_decoder = msgspec.msgpack.Decoder(tuple[Weights, ...], ext_hook=_restored)
_plugin_decoder = msgspec.msgpack.Decoder(Plugin, ext_hook=_restored)

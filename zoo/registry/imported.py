"""What importing a plugin showed, as data: its rows are encoded, and decoded when somebody asks for one."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time
from functools import cached_property
from typing import Any, NamedTuple

import msgspec
from msgspec.msgpack import Ext
from msgspec.structs import force_setattr, replace

from zoo.errors import StorageError
from zoo.manifest import Weights
from zoo.registry.contents import Architecture, Contents
from zoo.registry.seen import Seen
from zoo.spec import KeyMap, Model, Plugin
from zoo.spec.checked import trusted


class Key(NamedTuple):
    """An entry point: the folder of its distribution, its name and its target."""

    folder: str
    name: str
    target: str


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """The state of a plugin after its import.

    ``status`` and ``reason`` are those of :class:`zoo.registry.PluginRow`, ``traceback`` is that of the error. If the
    plugin can be used, ``plugin`` is its value without models, ``names`` are those of its models, ``tags`` those of
    each model's weights and ``aliases`` its other names, separated by spaces. ``fault`` says why its manifests cannot
    be read.
    """

    status: str = "ok"
    reason: str = ""
    traceback: str = ""
    plugin: bytes = b""
    is_collection: bool = False
    packages: tuple[str, ...] = ()
    fault: str = ""
    names: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


class Imported(NamedTuple):
    """``rows`` are the encoded architectures, as many as the entry has names. Without ``seen``, it is not recorded."""

    entry: Entry
    rows: Sequence[bytes]
    seen: Seen | None = None


def encode(plugin: Plugin, contents: Contents, packages: tuple[str, ...]) -> Imported:
    """``plugin`` as data; raises TypeError for a value that is not data, such as a function among arguments."""
    bare = replace(plugin, models=(), key_maps=tuple(map(_marked_map, plugin.key_maps)))
    entry = replace(_entry(plugin, contents, packages), plugin=_encoder.encode(bare))
    rows = [_encoder.encode(_marked_architecture(one)) for one in contents.architectures.values()]
    return Imported(entry, rows)


def _entry(plugin: Plugin, contents: Contents, packages: tuple[str, ...]) -> Entry:
    return Entry(
        status="broken" if contents.fault else "ok",
        reason=contents.fault,
        packages=packages,
        is_collection=bool(plugin.collection),
        fault=contents.fault,
        names=tuple(contents.architectures),
        tags=tuple(" ".join(one.tag for one in row.weights) for row in contents.architectures.values()),
        aliases=tuple(" ".join(row.model.aliases) for row in contents.architectures.values()),
    )


class Rows(Mapping[str, Architecture]):
    """The architectures of a plugin by name, decoded on first use."""

    def __init__(self, entry: Entry, rows: Sequence[bytes] = ()) -> None:
        self.entry, self._rows = entry, rows
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
                    self._decoded[name] = Architecture(*_decoder.decode(self._rows[place]))
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

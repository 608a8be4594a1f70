"""Names to plugins and models.

A plugin that cannot be used becomes a row with the reason and harms nothing else. Two plugins or two
models with one name never depend on the order of installation: the built-in distribution owns short
names, a third party's same name is reached as ``plugin/arch``, and what third parties contest among
themselves has to be spelled out. The models of a collection have no short names. No row is decoded
until its model is asked for.

A plugin may bring weights for the models of others. Their full name is ``plugin/arch.tag``; ``arch.tag`` means them
if nobody else has that name. They are never a default.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from zoo import names
from zoo.errors import AmbiguousNameError, PluginError, UnknownNameError
from zoo.manifest import Weights
from zoo.registry.plugin_row import PluginRow, as_pip_compares
from zoo.spec import Model, Plugin

_ENDINGS = {
    ".bin",
    ".ckpt",
    ".h5",
    ".jpg",
    ".keras",
    ".npz",
    ".onnx",
    ".pkl",
    ".png",
    ".pt",
    ".pth",
    ".safetensors",
    ".th",
}
"""Endings of files, which a mistaken name may have in place of a tag."""


class Found(NamedTuple):
    """The result of looking up a name; ``weights`` is None if the name has no tag.

    ``description`` is the file of a repository that says which network its weights are of; None for other weights.
    ``bringer`` is the plugin that brings the weights, if that is not the model's own.
    """

    row: PluginRow
    plugin: Plugin
    model: Model
    weights: Weights | None
    description: Weights | None = None
    bringer: PluginRow | None = None

    @property
    def source(self) -> PluginRow:
        """The plugin whose manifest states the weights."""
        return self.bringer or self.row


class Listed(NamedTuple):
    """A model in a listing: with its short name, or ``plugin/arch`` if that is taken.

    Weights that have no short name are listed apart, under the name ``bringer/arch``.
    """

    name: str
    row: PluginRow
    model: Model
    weights: tuple[Weights, ...]
    bringer: PluginRow | None = None


class Named(NamedTuple):
    """The names of a model in a listing and of its weights, ``name.tag``; ``arch`` is the model's own name.

    ``bringer`` is as in :class:`Listed`.
    """

    name: str
    row: PluginRow
    arch: str
    tags: Sequence[str]
    bringer: PluginRow | None = None


class Described(NamedTuple):
    """Weights, and the directory of ``ZOO_HUB`` whose manifest defines them."""

    folder: str
    weights: Weights


class Bringer(NamedTuple):
    """A plugin that brings weights of a model, and the name of the model in its manifest."""

    row: PluginRow
    arch: str

    @property
    def tags(self) -> Sequence[str]:
        return self.row.brought_tags[self.arch]

    @property
    def full_name(self) -> str:
        """The name of the model as this plugin calls it, ``plugin/arch``."""
        return f"{self.row.name}/{self.arch.rpartition('/')[2]}"


class Registry:
    """All plugins of this environment, read-only."""

    def __init__(self, rows: list[PluginRow], local: "dict[str, tuple[Described, ...]] | None" = None) -> None:
        self.plugins = tuple(rows)
        self._owners: dict[str, tuple[PluginRow, ...]] = {}
        self._aliases: dict[str, list[tuple[PluginRow, str]]] = {}
        for row in sorted(self.plugins, key=lambda row: not row.is_builtin):
            alone = (row,)
            for arch in () if row.is_collection else row.models:
                before = self._owners.setdefault(arch, alone)
                if before is not alone:
                    self._owners[arch] = before + alone
            for alias, arch in row.aliases.items():
                self._aliases.setdefault(alias, []).append((row, arch))
        self._local = self._by_present_name(local or {})
        self._bringers: dict[tuple[str, str], list[Bringer]] = {}  # by the model's plugin and name
        self._short: dict[tuple[str, str], dict[str, Bringer]] = {}
        self._defaults: dict[tuple[PluginRow, str], Weights | None] = {}
        for row in sorted(self.plugins, key=lambda row: not row.is_builtin):
            for arch in row.brought_tags:
                if model := self._model_of(arch):
                    self._bringers.setdefault((model[0].name, model[1]), []).append(Bringer(row, arch))

    @property
    def collections(self) -> tuple[PluginRow, ...]:
        return tuple(row for row in self.plugins if row.is_collection)

    def named(self, collections: Iterable[PluginRow] = ()) -> Iterator[Named]:
        """Yields the names of all usable models, and of those of the given collections, in no order. No row is
        decoded.
        """
        for row in self.plugins:
            if not row.is_collection and row.status != "broken":
                for arch in row.tags:
                    yield Named(self._listed_name(arch, row), row, arch, self._tags(row, arch))
        for row in collections:
            if row.status != "broken":
                yield from (Named(arch, row, arch, self._tags(row, arch)) for arch in row.tags)
        asked = {row.name for row in collections}
        for (plugin, arch), bringers in self._bringers.items():
            if "/" not in arch or plugin in asked:
                yield from self._named_in_full(plugin, arch, bringers)

    def listed(self, named: Named) -> Listed:
        """Returns the model and the weights of a name."""
        model = named.row.models[named.arch]
        if named.bringer is None:
            return Listed(named.name, named.row, model, self.weights_of(named.row, model))
        bringers = self._bringers[named.row.name, named.arch]
        every = [one for row, arch in bringers if row is named.bringer for one in row.brought(arch)]
        weights = tuple(one for one in every if one.tag in named.tags)
        return Listed(named.name, named.row, model, weights, named.bringer)

    def models(self, collections: Iterable[PluginRow] = ()) -> list[Listed]:
        """Returns every usable model in natural order, and those of the given collections."""
        every = sorted(self.named(collections), key=lambda named: names.natural(named.name))
        return [self.listed(named) for named in every]

    def find(self, text: str, *, distribution: str = "") -> Found:
        """Returns the model and weights of the name ``text``; ``distribution`` is the one that a file or an entry
        names: :func:`zoo.names.requirement`.

        Raises :class:`UnknownNameError` with the nearest names, :class:`AmbiguousNameError` if several third parties
        use a short name.
        """
        try:
            name = names.parse(text)
        except UnknownNameError:
            self._guess(text)
            raise
        if name.plugin and (match := self._brought_as(name, distribution)):
            return match
        try:
            row, model = self._find_model(name)
        except UnknownNameError as error:
            if f".{name.tag}" in _ENDINGS:
                is_image = name.tag in ("jpg", "png")
                of_file = names.OF_FILE if os.path.isfile(text) else "There is no such file."
                raise UnknownNameError(
                    f"{text!r} is not a model name.",
                    hint="The name of a model comes first, then images." if is_image else of_file,
                ) from None
            entries = [one.weights for one in self._local.get(name.arch, ())]
            full = f"{name.plugin}/{name.arch}" if name.plugin else name.arch
            bringers = [row for row in self.plugins if full in row.brought_tags]
            if bringers:
                raise self._not_installed(bringers[0], full, distribution) from None
            local = (names.requirement(entry.distribution, entry.distribution_version) for entry in entries)
            if of := distribution or next(filter(None, local), ""):
                error.hint = to_install(of, self.plugins)
            raise
        assert row.plugin is not None
        match = Found(row, row.plugin, model, None)
        return self.tagged(match, name.tag) if name.tag else match

    def tagged(self, match: Found, tag: str) -> Found:
        """Returns ``match`` with its model's weights ``tag``; raises :class:`UnknownNameError` with the known tags.

        Raises :class:`AmbiguousNameError` if several distributions bring these weights.
        """
        arch = match.model.name
        tags = {weights.tag: weights for weights in self.weights_of(match.row, match.model)}
        if tag not in tags:
            rivals = [one for one in self._bringers.get((match.row.name, arch), ()) if tag in one.tags]
            if rivals:
                whose = " and ".join(sorted(one.row.distribution for one in rivals))
                full = " or ".join(sorted(f"{one.full_name}.{tag}" for one in rivals))
                raise AmbiguousNameError(f"{whose} bring weights {f'{arch}.{tag}'!r}.", hint=f"Use {full}.")
            full_names = [f"{arch}.{other}" for other in tags]
            hint = f"Tags: {', '.join(full_names)}." if full_names else f"There are no weights for {arch}."
            raise UnknownNameError.of("weights", f"{arch}.{tag}", full_names, hint=hint)
        return match._replace(weights=tags[tag], bringer=self.bringer_of(match, tag))

    def bringer_of(self, match: Found | Listed, tag: str) -> PluginRow | None:
        """Returns the plugin that brings the weights ``tag`` of ``match``; None if they are of the model's own
        plugin.
        """
        if match.bringer is not None or not self._bringers:
            return match.bringer
        short = self._short_of(match.row, match.model.name).get(tag)
        return short.row if short else None

    def missing(self, row: PluginRow) -> list[str]:
        """Returns the models that ``row`` brings weights for and that are not installed, or that several plugins
        have.
        """
        return [arch for arch in row.brought_tags if self._model_of(arch) is None]

    def weights_of(self, row: PluginRow, model: Model) -> tuple[Weights, ...]:
        """Returns the model's weights: those of its plugin's manifests and of ``ZOO_HUB``, then what other plugins
        bring.
        """
        own = self.own_weights_of(row, model)
        short = self._short_of(row, model.name)
        brought = [one for bringer in dict.fromkeys(short.values()) for one in bringer.row.brought(bringer.arch)]
        return own + tuple(one for one in brought if one.tag in short and one.arch == short[one.tag].full_name)

    def own_weights_of(self, row: PluginRow, model: Model) -> tuple[Weights, ...]:
        """Returns the model's weights without what other plugins bring: see :meth:`default_of`."""
        stated = row.weights.get(model.name, ())
        extra = self._local_weights(row, model.name)
        if not extra:
            return stated
        tags = {weights.tag for weights in stated}
        return stated + tuple(weights for weights in extra if weights.tag not in tags)

    def default_of(self, row: PluginRow, model: Model) -> Weights | None:
        """Returns the weights that the model's name alone means: those that its manifest states as ``default``, or the
        first that need no conversion; None without any of its own: what others bring is never a default.

        Whether weights are pinned has no say: pinning must not change what a name means.
        """
        key = (row, model.name)
        if key not in self._defaults:  # a list asks for each of the weights
            every = self.own_weights_of(row, model)
            first = min(every, key=lambda weights: (not weights.default, weights.needs_conversion), default=None)
            self._defaults[key] = first
        return self._defaults[key]

    def folder_of(self, weights: Weights) -> str:
        """Returns the directory of ``ZOO_HUB`` whose manifest defines ``weights``; empty if a plugin does."""
        return next((one.folder for one in self._local.get(weights.arch, ()) if one.weights == weights), "")

    def distribution_of(self, model: Model) -> dict[str, Any]:
        """Returns what to install for ``model``, for files: ``distribution`` and ``distribution_version``.

        Empty for a model of this process alone.
        """
        owners = [row for row in self._owners.get(model.name, ()) if row.models[model.name] == model]
        owners += [row for row in self.collections if model.name.startswith(f"{row.name}/")]
        rows = [row for row in owners if row.distribution]
        return {"distribution": rows[0].distribution, "distribution_version": rows[0].version} if rows else {}

    def present_name(self, arch: str) -> str:
        """Returns the name under which the model of the alias ``arch`` is listed; ``arch`` if it is not an alias."""
        for row, name in self._having(arch)[:1] if arch in self._aliases else ():
            return self._listed_name(name, row)
        return arch

    def _having(self, name: str) -> list[tuple[PluginRow, str]]:
        """Returns who has a model of this name or alias, with its present name; built-in families come first."""
        found = [(row, name) for row in self._owners.get(name, ())] + self._aliases.get(name, [])
        return sorted(found, key=lambda owner: not owner[0].is_builtin)

    def _by_present_name(self, local: "dict[str, tuple[Described, ...]]") -> "dict[str, tuple[Described, ...]]":
        """Returns ``local`` with weights of an alias as those of the model; its own entries come first."""
        by_name: dict[str, tuple[Described, ...]] = {}
        for is_alias in (False, True):
            for arch, described in local.items():
                name = next((name for _, name in self._having(arch)), arch)
                if (name != arch) is is_alias:
                    renamed = (one._replace(weights=replace(one.weights, arch=name)) for one in described)
                    by_name[name] = (*by_name.get(name, ()), *renamed)
        return by_name

    def _listed_name(self, arch: str, row: PluginRow) -> str:
        owners = [owner for owner, _ in self._having(arch)] if arch in self._aliases else self._owners[arch]
        is_short = len(owners) == 1 or (row.is_builtin and owners[0] is row)
        return arch if is_short else f"{row.name}/{arch}"

    def _local_weights(self, row: PluginRow, arch: str) -> tuple[Weights, ...]:
        """Returns the weights that directories of ``ZOO_HUB`` add to the model that owns its short name."""
        is_short = row.is_collection or self._owners[arch][0] is row
        return tuple(one.weights for one in self._local.get(arch, ())) if is_short else ()

    def own_tags(self, row: PluginRow, arch: str) -> Sequence[str]:
        """Returns the tags of a model's weights without those that other plugins bring."""
        extra = [weights.tag for weights in self._local_weights(row, arch)] if self._local else []
        return [*dict.fromkeys((*row.tags[arch], *extra))] if extra else row.tags[arch]

    def _tags(self, row: PluginRow, arch: str) -> Sequence[str]:
        own = self.own_tags(row, arch)
        short = self._short_of(row, arch) if self._bringers else {}
        return [*own, *short] if short else own

    def _short_of(self, row: PluginRow, arch: str) -> dict[str, Bringer]:
        """Returns who brings weights of a model, by tag, that nobody else has."""
        key = (row.name, arch)
        if key not in self._bringers:
            return {}
        if key not in self._short:
            offered: dict[str, list[Bringer]] = {}
            for bringer in self._bringers[key]:
                for tag in bringer.tags:
                    offered.setdefault(tag, []).append(bringer)
            own_tags = {*self.own_tags(row, arch)}
            self._short[key] = {
                tag: rivals[0]
                for tag, rivals in offered.items()
                if tag not in own_tags and (len(rivals) == 1 or rivals[0].row.is_builtin)
            }
        return self._short[key]

    def _named_in_full(self, plugin: str, arch: str, bringers: list[Bringer]) -> Iterator[Named]:
        """Yields the names of weights that are brought and have no short ones."""
        row = next(row for row in self.plugins if row.name == plugin and arch in row.models)
        short = self._short_of(row, arch)
        for bringer in bringers:
            if tags := [tag for tag in bringer.tags if short.get(tag) is not bringer]:
                yield Named(bringer.full_name, row, arch, tags, bringer.row)

    def _model_of(self, arch: str) -> tuple[PluginRow, str] | None:
        """Returns the model that a manifest of another plugin calls ``arch`` or ``plugin/arch``, with its own name."""
        plugin, _, short = arch.rpartition("/")
        if not plugin:
            owners = self._having(short)
            return owners[0] if len(owners) == 1 or (owners and owners[0][0].is_builtin) else None
        for row in self.plugins:
            if row.name == plugin and row.is_usable:
                name = arch if row.is_collection else row.aliases.get(short, short)
                return (row, name) if name in row.models else None
        return None

    def _brought_as(self, name: names.Name, distribution: str) -> Found | None:
        """Returns the weights that the plugin of the name brings for a model of another one; None without any."""
        bringers = [
            Bringer(row, arch)
            for row in self.plugins
            if row.name == name.plugin
            for arch in row.brought_tags
            if name.arch in {each.rpartition("/")[2] for each in (arch, (self._model_of(arch) or ("", ""))[1])}
        ]
        if not bringers:
            return None
        for bringer in bringers:
            if not name.tag or name.tag in bringer.tags:
                if (model := self._model_of(bringer.arch)) is None:
                    raise self._not_installed(bringer.row, bringer.arch, distribution)
                for weights in bringer.row.brought(bringer.arch):
                    if weights.tag == name.tag:
                        row, arch = model
                        assert row.plugin is not None
                        return Found(row, row.plugin, row.models[arch], weights, bringer=bringer.row)
        full_names = [f"{bringer.full_name}.{tag}" for bringer in bringers for tag in bringer.tags]
        raise UnknownNameError.of(
            "weights", str(name), full_names, hint=f"{name.plugin} brings {', '.join(full_names)}."
        )

    def _not_installed(self, bringer: PluginRow, arch: str, distribution: str) -> UnknownNameError:
        """Returns the error for a model that ``bringer`` has weights of, and that cannot be found itself."""
        if owners := self._having(arch):
            full = " or ".join(sorted(f"{row.name}/{arch}" for row, _ in owners))
            hint = f"Its manifest must say which: {full}."
            return UnknownNameError(
                f"{bringer.distribution} brings weights of {arch!r}, which several plugins have.", hint=hint
            )
        stated = (names.requirement(one.distribution, one.distribution_version) for one in bringer.brought(arch))
        of = distribution or next(filter(None, stated), "")
        return UnknownNameError(
            f"{bringer.distribution} brings weights of the model {arch!r}, which is not installed.",
            hint=to_install(of, self.plugins) if of else "zoo list shows all models.",
        )

    def _find_model(self, name: names.Name) -> tuple[PluginRow, Model]:
        owners = self._having(name.arch)
        if name.plugin:
            full = f"{name.plugin}/{name.arch}"
            for row, arch in owners:
                if row.name == name.plugin:
                    return row, row.models[arch]
            for row in self.collections:
                if row.name == name.plugin:
                    if full not in row.models:
                        hint = f"zoo list '{row.name}/*' shows its models."
                        raise UnknownNameError.of("model", full, row.models, hint=hint)
                    return row, row.models[full]
            self._explain_plugin(name.plugin)
            full_names = [f"{row.name}/{arch}" for arch, owners in self._owners.items() for row in owners]
            raise UnknownNameError.of("model", full, full_names, hint="zoo list shows all models.")
        if not owners:
            raise self._unknown(name.arch)
        if len(owners) > 1 and not owners[0][0].is_builtin:
            candidates = " or ".join(sorted(f"{row.name}/{name.arch}" for row, _ in owners))
            raise AmbiguousNameError(f"Several plugins have a model {name.arch!r}.", hint=f"Use {candidates}.")
        row, arch = owners[0]
        return row, row.models[arch]

    def _unknown(self, arch: str) -> UnknownNameError:
        """Returns the error for a short name that nobody has; what a collection calls so is what was meant."""
        for row in self.collections:
            if (full := f"{row.name}/{arch}") in row.models:
                return UnknownNameError(f"Unknown model {arch!r}.", hint=f"Did you mean {full}?")
        archs = {**self._owners, **self._aliases}
        error = UnknownNameError.of("model", arch, archs, hint="zoo list shows all models.")
        unusable = [row for row in self.plugins if not row.is_usable]
        if unusable:
            states = ", ".join(f"{row.name} ({row.status})" for row in unusable)
            error.hint += f" It may be part of a plugin that cannot be used: {states}; zoo plugins says why."
        return error

    def _guess(self, text: str) -> None:
        """Raises :class:`UnknownNameError` for a text that is a name but for case and signs: ``ResNet-50``."""
        plugin, slash, _ = text.lower().rpartition("/")
        arch, _, tag = text.partition(".")
        candidates: Iterable[str] = {**self._owners, **self._aliases}
        for row in self.plugins if slash else ():
            if row.name == plugin:
                candidates = [name if "/" in name else f"{row.name}/{name}" for name in row.models]
        wanted = re.sub("[^a-z0-9/]", "", arch.lower())
        for name in candidates:
            if name.replace("_", "") == wanted:
                raise UnknownNameError(
                    f"Unknown model {text!r}.", hint=f"Did you mean {name}{f'.{tag}'.lower() if tag else ''}?"
                )

    def _explain_plugin(self, plugin: str) -> None:
        rows = [row for row in self.plugins if row.name == plugin]
        if not rows:
            raise UnknownNameError.of(
                "plugin",
                plugin,
                (row.name for row in self.plugins),
                hint="zoo plugins shows all plugins. If a run was meant: there is no such folder.",
            )
        if not any(row.is_usable for row in rows):
            raise PluginError(f"Plugin {plugin!r} is {rows[0].status}: {rows[0].reason}", hint="zoo plugins shows all.")


def to_install(requirement: str, rows: Iterable[PluginRow]) -> str:
    """Returns what to do about a model of the distribution ``requirement``, such as ``zoo-pet>=1.0``."""
    name = requirement.partition(">")[0]
    for row in rows:
        if as_pip_compares(row.distribution) == as_pip_compares(name):
            if not row.is_usable:
                return f"It is in {name}. Plugin {row.name!r} is {row.status}: {row.reason}. zoo plugins shows all."
            there = f"{row.distribution} {row.version}"
            return f"It is in {requirement}, but not in the installed {there}: pip install -U '{requirement}'"
    return f"It is in the distribution {name}, which is not installed. If you trust it: pip install '{requirement}'"

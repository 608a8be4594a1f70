"""What the registry answers with: models and weights by name."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from zoo.manifest import Weights
from zoo.registry.plugin_row import PluginRow, as_pip_compares
from zoo.spec import Model, Plugin


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

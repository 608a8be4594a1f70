"""Weights in any repository of the Hugging Face Hub: ``hf-hub:OWNER/NAME``, ``hf-hub:OWNER/NAME@REVISION``.

A repository describes its weights in ``weights.toml``, which ``zoo publish`` writes, or in a ``config.json`` that a
plugin understands (``Plugin.repositories``). The description decides which network is built, so the rules for weights
apply to it as well: it is of the same commit, the same lock holds its sha256, and its bytes are in the cache.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from zoo import hub, manifest, names, registry
from zoo.errors import (
    AmbiguousNameError,
    IntegrityError,
    PluginError,
    UnknownNameError,
    UnpinnedError,
    WeightsError,
    ZooError,
)
from zoo.manifest import License, Weights
from zoo.registry import Found, PluginRow, hooks
from zoo.spec import Described
from zoo.trust import first_use, lock, pinning, policy
from zoo.trust.lock import Locked

OURS, THEIRS = "weights.toml", "config.json"
FILES = ("model.safetensors", "pytorch_model.bin")
"""The usual files with weights, the preferred one first."""

LARGEST = 1 << 23
"""Bytes of a description: the names of 20,000 classes fit."""


class _Place(NamedTuple):
    """The description of the repository ``text`` at one commit, and the usual files with weights that are there."""

    text: str
    description: Weights
    files: tuple[str, ...]


def find(text: str) -> Found:
    """Returns the model and the weights of the repository ``text``, at the commit of a lock or else at its present one.

    Raises :class:`UnknownNameError` for a name or an architecture that does not exist, :class:`HubError` if there is no
    such repository, :class:`UnpinnedError` if it is in no lock and first use is refused, :class:`WeightsError` if its
    description cannot be understood.
    """
    name = names.parse_repository(text)
    cached = _held(text)
    place = _at(text, name.repo, cached) if cached and cached.repository else _asked(text, name)
    try:
        file = hub.fetch(place.description)
    except IntegrityError as error:
        hint = f"{text} was {first_use.since(cached)}. {error.hint}" if cached else error.hint
        raise IntegrityError(error.message, hint=hint) from None
    content = file.read_bytes()
    return (_ours if place.description.file == OURS else _theirs)(place, content)


def entries() -> Iterator[tuple[Weights, Weights]]:
    """Yields the description and the weights of each repository that the user's pins and the project's lock hold."""
    locked = lock.of_project()
    for text, held in {**(locked.weights if locked else {}), **first_use.pins()}.items():
        if held.repository:
            about = _at(text, names.parse_repository(text).repo, held).description
            yield about, replace(about, file=held.repository.file, sha256=held.sha256, size=held.size)


def _held(text: str) -> Locked | None:
    """Returns what the project's lock, or else the user's pins, have of ``text``."""
    locked = lock.of_project()
    return (locked.weights.get(text) if locked else None) or first_use.find(text)


def _at(text: str, repo: str, held: Locked) -> _Place:
    assert held.repository is not None
    about = held.repository
    description = Weights(about.description, tag=text, repo=repo, revision=held.revision, sha256=about.sha256)
    return _Place(text, description, (about.file,))


def _asked(text: str, name: names.Repository) -> _Place:
    """Returns the place at the present commit; its description is fetched, and has the sha256 of what was received."""
    if reason := policy.refuses_first_use():
        raise UnpinnedError(
            f"{text} is not pinned: no lock has its commit and sha256, and {reason}.",
            hint=f"zoo fetch {text}, where first use is allowed, and zoo lock {text} record them in zoo.lock.",
        )
    hub.require_network(f"{text} is in no lock, so its repository must be asked")
    commit, rows = pinning.at_commit(name.repo, name.revision, [OURS, THEIRS, *FILES])
    file = next((file for file in (OURS, THEIRS) if file in rows), None)
    if file is None:
        raise WeightsError(
            f"{text} has neither {OURS} nor {THEIRS}, so Zoo cannot know which network its weights are of.",
            hint=f"Fetch the file. {names.OF_FILE}",
        )
    if rows[file].size > LARGEST:
        raise WeightsError(f"{text}: {file} has {rows[file].size:,} bytes, expected at most {LARGEST:,}.")
    asked = Weights(file, tag=text, repo=name.repo, revision=commit, size=rows[file].size, pinned=False)
    got = hub.fetch_unpinned(asked)
    description = replace(asked, sha256=got.sha256, size=got.size, pinned=True)
    return _Place(text, description, tuple(file for file in FILES if file in rows))


def _ours(place: _Place, content: bytes) -> Found:
    """Returns the weights that ``weights.toml`` describes, as zoo publish writes it."""
    about = place.description
    try:
        (entry,) = manifest.parse(content.decode(), f"{place.text}: {OURS}")
    except ValueError:  # not one entry, or not UTF-8
        raise WeightsError(f"{place.text}: {OURS} does not describe one weights file.") from None
    match = registry.current().find(
        entry.arch, distribution=names.requirement(entry.distribution, entry.distribution_version)
    )
    weights = replace(
        entry,
        arch=match.model.name,
        tag=place.text,
        hub="hf",
        repo=about.repo,
        revision=about.revision,
        sha256="",
        sha256_prefix=entry.sha256 or entry.sha256_prefix,
        size=0,
        pinned=False,
    )
    return match._replace(weights=weights, description=about)


def _theirs(place: _Place, content: bytes) -> Found:
    """Returns the weights that ``config.json`` describes, according to the plugin that understands it."""
    about = place.description
    try:
        config = msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise WeightsError(f"{place.text}: {THEIRS} cannot be read: {error}.") from None
    row, description = _understood(place.text, config)
    if description.model not in row.models:
        near = UnknownNameError.of("model", description.model, row.models)
        raise UnknownNameError(
            f"{place.text} is of {description.model}, which plugin {row.name!r} lacks.", hint=near.hint
        )
    model = row.models[description.model]
    weights = Weights(
        file=description.file or _file_in(place),
        arch=model.name,
        tag=place.text,
        repo=about.repo,
        revision=about.revision,
        pinned=False,
        origin=f"as {about.repo.partition('/')[0]} publishes them",
        license=License(weights=description.license or "unknown"),
        classes=description.classes,
        class_names=description.class_names,
        num_classes=description.num_classes,
        params=description.params,
        preprocess=description.preprocess,
        args=description.args,
    )
    assert row.plugin is not None
    return Found(row, row.plugin, model, weights, about)


def _understood(text: str, config: dict[str, Any]) -> tuple[PluginRow, Described]:
    """Returns the plugin that understands ``config``, a built-in one before others, and what it says."""
    asked = [row for row in registry.current().plugins if row.plugin is not None and row.plugin.repositories]
    claims = [(row, description) for row in asked if (description := _described(row, text, config)) is not None]
    claims = [claim for claim in claims if claim[0].is_builtin] or claims
    if len(claims) > 1:
        rivals = ", ".join(sorted(row.name for row, _ in claims))
        raise AmbiguousNameError(f"{text}: several plugins claim its {THEIRS}: {rivals}.", hint="Disable all but one.")
    if not claims:
        raise WeightsError(
            f"{text}: no plugin understands its {THEIRS}, which has {', '.join(sorted(config))[:200] or 'nothing'}.",
            hint=f"Plugins that read repositories: {', '.join(row.name for row in asked) or 'none'}. If you know the "
            f"model, fetch the file. {names.OF_FILE}",
        )
    return claims[0]


def _described(row: PluginRow, text: str, config: dict[str, Any]) -> Described | None:
    """Returns what the plugin of ``row`` says about ``config``; None if it is not of its form."""
    assert row.plugin is not None
    target = row.plugin.repositories
    hook = registry.hook(target, role=hooks.REPOSITORIES)
    try:
        description = hook(config)
    except ZooError as error:
        raise WeightsError(f"{text}: {THEIRS}: {error.message}", hint=error.hint) from None
    except Exception as error:  # a plugin's code may raise anything
        raise PluginError(f"{text}: {target} raised {type(error).__name__}: {str(error)[:200]}") from error
    if description is None or isinstance(description, Described):
        return description
    raise PluginError(
        f"{text}: {target} returned a {type(description).__name__}, expected a zoo.spec.Described or None."
    )


def _file_in(place: _Place) -> str:
    if not place.files:
        raise WeightsError(f"{place.text} has neither {' nor '.join(FILES)}.")
    return place.files[0]

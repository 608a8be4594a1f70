"""``zoo.lock``: fixes the weights that names mean, whatever later plugin versions define.

The lock only restricts: names that it holds are used with its bytes or not at all, defaults that it
holds do not move, and an entry that its manifest does not pin is pinned by the lock. Names that it
does not hold are used as without it. This module is about a project's lock and the format;
a user's pins are in :mod:`zoo.trust.first_use`.
"""

import datetime
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from zoo import registry
from zoo.errors import LockError, UnpinnedError, ZooError
from zoo.manifest import Commit, Count, Digest, Entry, Sha256, Text, Weights
from zoo.names import is_arch, is_part, is_repository, natural
from zoo.registry import Found, Listed
from zoo.spec import Preprocess
from zoo.system import storage, toml

NAME = "zoo.lock"
VARIABLE = "ZOO_LOCK"


class Repository(Entry, frozen=True):
    """The files of a repository of the Hugging Face Hub.

    Args:
        file: The weights.
        description: The file that describes them.
        sha256: The hash of the description.
    """

    file: Text
    description: Text
    sha256: Sha256


class Locked(Entry, frozen=True):
    """The bytes and the input of one name.

    Args:
        distribution: The distribution whose plugin had the name when it was locked.
        version: Its version.
        sha256: The file's hash.
        size: Bytes.
        revision: Commit of the Hugging Face Hub.
        digest: Another hash that the publisher states.
        num_classes: Classes of a network with these weights; None in a user's own pins and in locks of old versions.
        preprocess: Its preprocessing; None likewise.
        source: In a user's own pins: the hub of the first use.
        date: In a user's own pins: the day of the first use.
        repository: The files, if the name is a repository.
    """

    distribution: Text
    version: Text
    sha256: Sha256
    size: Count = 0
    revision: Commit = ""
    digest: Digest = ""
    num_classes: Count | None = None
    preprocess: Preprocess | None = None
    source: Text = ""
    date: datetime.date | None = None
    repository: Repository | None = None

    def __post_init__(self) -> None:
        if not self.sha256:
            raise ValueError("sha256 must not be empty")


class Lock(Entry, frozen=True):
    """The meaning of a project's names.

    Args:
        version: Of the format, 1.
        weights: By name, ``arch.tag`` or ``plugin/arch.tag``.
        defaults: The tag that an architecture's bare name selects.
    """

    version: int
    weights: Mapping[str, Locked] = {}
    defaults: Mapping[str, str] = {}

    def __post_init__(self) -> None:
        if self.version != 1:
            raise ValueError(f"version {self.version} is not 1: it was written by another version of Zoo")
        for name, locked in self.weights.items():
            arch, _, tag = name.rpartition(".")
            if not (is_repository(name) or (is_arch(arch) and is_part(tag))):
                raise ValueError(f"{name!r} is not a weights name: expected arch.tag or hf-hub:OWNER/NAME")
            if is_repository(name) != bool(locked.repository and locked.revision):
                raise ValueError(f"{name!r}: expected a revision and a repository for hf-hub:OWNER/NAME alone")
        for arch, tag in self.defaults.items():
            if f"{arch}.{tag}" not in self.weights:
                raise ValueError(f"defaults has {arch} = {tag!r}, but weights does not contain {arch}.{tag}")


class Difference(NamedTuple):
    """The locked and the present state of ``name``."""

    name: str
    field: str
    locked: str
    now: str

    def __str__(self) -> str:
        return f"{self.name}: {self.field} locked {self.locked}, now {self.now}"


EMPTY = Lock(version=1)

_HEAD = "# Written by zoo lock; zoo lock --check compares it with what is installed."

_HELD = ("repository", "sha256", "digest", "size", "num_classes", "preprocess")
"""The fields that make weights other weights."""


def place() -> Path:
    """Returns where the project's lock is, or would be written."""
    return storage.project_file(NAME, VARIABLE) or Path(NAME)


def read(file: Path) -> Lock:
    """Reads the lock in ``file``; raises :class:`LockError`."""
    return toml.read(file, Lock, LockError, f"zoo lock NAME... writes the file; {VARIABLE} sets another path.")


def of_project() -> Lock | None:
    """Returns the lock that applies here: ``ZOO_LOCK``, or the project's ``zoo.lock``; None if there is none."""
    file = storage.project_file(NAME, VARIABLE)
    return read(file) if file else None


def full_name(match: Found | Listed, tag: str = "", alias: str = "") -> str:
    """Returns the name of ``match`` that is the same whatever else is installed, or that of its ``alias``."""
    if is_repository(tag):
        return tag
    if tag and (bringer := registry.current().bringer_of(match, tag)):
        return f"{bringer.name}/{match.model.name.rpartition('/')[2]}.{tag}"
    arch = alias or match.model.name
    short = match.row.is_builtin or "/" in arch
    return (arch if short else f"{match.row.name}/{arch}") + (f".{tag}" if tag else "")


def name_in(held: Collection[str], match: Found | Listed, tag: str = "") -> str:
    """Returns the full name under which ``held`` has ``match``, which may be an alias.

    If it has none, it is the present one.
    """
    names = [full_name(match, tag, alias) for alias in ("", *match.model.aliases)]
    return next((name for name in names if name in held), names[0])


def default_of(lock: Lock, match: Found) -> Weights | None:
    """Returns the locked default weights of a model, or None."""
    tag = lock.defaults.get(name_in(lock.defaults, match))
    return registry.current().find(f"{full_name(match)}.{tag}").weights if tag else None


def follow(lock: Lock, match: Found, weights: Weights) -> Weights:
    """Returns ``weights`` as they are locked; raises :class:`LockError` if bytes, input or classes differ."""
    name = name_in(lock.weights, match, weights.tag)
    locked = lock.weights.get(name)
    if locked is None:
        _warn(name)
        return weights
    hint = f"pip install '{locked.distribution}=={locked.version}' restores the locked version; "
    return hold(name, locked, match, weights, place(), f"{hint}zoo lock {name} accepts the present one.")


def repository_of(match: Found, weights: Weights) -> Repository | None:
    """Returns the files of the repository that ``weights`` of ``match`` are in; None for weights of a manifest."""
    about = match.description
    return Repository(weights.file, about.file, about.sha256) if about else None


def hold(name: str, held: Locked, match: Found, weights: Weights, file: Path, hint: str) -> Weights:
    """Returns ``weights`` as ``held`` in the lock ``file`` has them; raises :class:`LockError` with ``hint``."""
    changed = [line for line in _compare(name, held, match, weights) if line.field.partition(".")[0] in _HELD]
    if changed:
        raise LockError("\n  ".join([f"{name} differs from {file}:", *map(str, changed)]), hint=hint)
    return weights if weights.sha256 else pinned(weights, held)


def pinned(weights: Weights, held: Locked) -> Weights:
    """Returns ``weights``, which have no sha256, with the bytes of ``held``."""
    revision = held.revision or weights.revision
    return msgspec.structs.replace(
        weights, sha256=held.sha256, sha256_prefix="", size=held.size, revision=revision, pinned=True
    )


def make(chosen: Iterable[tuple[Found, Weights]], old: Lock = EMPTY) -> Lock:
    """Returns ``old`` with the present state of the ``chosen`` weights; names without a tag define the default.

    Weights without a sha256 keep what ``old`` has; raises :class:`UnpinnedError` if it does not have them.
    """
    weights, defaults = dict(old.weights), dict(old.defaults)
    for match, entry in chosen:
        name = full_name(match, entry.tag)
        weights[name] = _lock(match, entry if entry.sha256 or name not in weights else pinned(entry, weights[name]))
        if not match.weights:
            defaults[full_name(match)] = entry.tag
    return Lock(version=1, weights=weights, defaults=defaults)


def differences(lock: Lock, find: Callable[[str], Found]) -> list[Difference]:
    """Returns all differences between the lock and what ``find`` finds now, including versions."""
    lines = []
    for name, locked in lock.weights.items():
        try:
            match = find(name)
        except ZooError as error:  # no such name any more, or a plugin that cannot be used
            lines.append(Difference(name, "name", f"{locked.distribution} {locked.version}", error.message))
            continue
        assert match.weights is not None
        lines += _compare(name, locked, match, match.weights)
    return lines


def render(lock: Lock, head: str = _HEAD) -> str:
    """Returns the text of ``zoo.lock``, with names in order."""
    lines = [head, "", "version = 1"]
    for name in sorted(lock.weights, key=natural):
        lines += ["", f"[weights.{json.dumps(name)}]"]
        fields = msgspec.to_builtins(lock.weights[name])
        tables = {key: fields.pop(key) for key in ("preprocess", "repository") if key in fields}
        lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
        lines += [f"{key}.{own} = {json.dumps(value)}" for key, table in tables.items() for own, value in table.items()]
    if lock.defaults:
        lines += ["", "[defaults]"]
        lines += [
            f"{json.dumps(arch)} = {json.dumps(lock.defaults[arch])}" for arch in sorted(lock.defaults, key=natural)
        ]
    return "\n".join(lines) + "\n"


def names_in(lock: Lock) -> list[str]:
    """Returns the names to lock again: those with a tag, then those without, whose defaults may have changed."""
    return [*lock.weights, *lock.defaults]


def _lock(match: Found, entry: Weights) -> Locked:
    about: dict[str, Any] = {
        "distribution": match.source.distribution,
        "version": match.source.version,
        "num_classes": _num_classes(match, entry),
        "preprocess": _preprocess(match, entry),
        "repository": repository_of(match, entry),
    }
    if not entry.sha256:
        raise UnpinnedError(
            f"{entry.name} cannot be locked: its sha256 is neither in the manifest nor in your own pins.",
            hint=f"zoo fetch {entry.name} pins it on first use; then it can be locked.",
        )
    return Locked(**about, sha256=entry.sha256, digest=entry.digest, size=entry.size, revision=entry.revision)


def _num_classes(match: Found, entry: Weights) -> int:
    return match.model.num_classes if entry.num_classes is None else entry.num_classes


def _preprocess(match: Found, entry: Weights) -> Preprocess:
    return entry.preprocess or match.model.preprocess


def _compare(name: str, locked: Locked, match: Found, now: Weights) -> list[Difference]:
    """Compares field by field; a value that one side lacks is not a difference, except for the distribution."""
    stated = {
        "distribution": match.source.distribution,
        "version": match.source.version,
        "revision": now.revision,
        "sha256": now.sha256,
        "digest": now.digest,
        "size": now.size,
    }
    lines = []
    for field, value in stated.items():
        before = getattr(locked, field)
        if before != value and value and (before or field == "distribution"):
            lines.append(Difference(name, field, str(before), str(value)))
    if not now.sha256 and not locked.sha256.startswith(now.sha256_prefix):
        lines.append(Difference(name, "sha256", locked.sha256, f"{now.sha256_prefix}..."))
    if locked.repository != (repository := repository_of(match, now)):
        lines.append(Difference(name, "repository", str(locked.repository), str(repository)))
    if locked.num_classes not in (None, classes := _num_classes(match, now)):
        lines.append(Difference(name, "num_classes", str(locked.num_classes), str(classes)))
    if locked.preprocess is not None:
        for field in Preprocess.__struct_fields__:
            before, value = getattr(locked.preprocess, field), getattr(_preprocess(match, now), field)
            if before != value:
                lines.append(Difference(name, f"preprocess.{field}", str(before), str(value)))
    return lines


def _warn(name: str) -> None:
    import logging

    logging.getLogger("zoo").warning("%s is not in %s. Add it with: zoo lock %s", name, place(), name)

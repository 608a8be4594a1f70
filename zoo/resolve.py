"""Finds the model and the weights of a name in this project."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from zoo import names, registry
from zoo.errors import LockError, SpecError, UnknownNameError, WeightsError
from zoo.manifest import Weights
from zoo.registry import Found, key_maps, listing
from zoo.system import storage
from zoo.trust import first_use, lock, policy

OTHER_FORMATS = (".pth", ".pt", ".th", ".ckpt", ".bin", ".h5", ".hdf5", ".keras", ".onnx")
"""Ends of the names of files that :mod:`zoo.convert` reads."""

if TYPE_CHECKING:  # few weights need a conversion
    from zoo.hub.converted import Job


def find(name: str, *, distribution: str = "") -> Found:
    """The model and weights of ``name``, also of a repository: ``hf-hub:OWNER/NAME``.

    Raises as :meth:`zoo.registry.Registry.find` and :func:`zoo.trust.repository.find`. The error for an unknown name
    says which distribution had it when it was locked.
    """
    if names.is_repository(name):
        from zoo.trust import repository

        return repository.find(name)
    try:
        return registry.current().find(name, distribution=distribution)
    except UnknownNameError:
        if distribution or not (locked := _locked_of(name)):
            raise
        return registry.current().find(name, distribution=locked)


def _locked_of(name: str) -> str:
    """The distribution that had the model ``name`` when the project's or the user's lock was written."""
    try:
        found = lock.of_project()
        held = {**(found.weights if found else {}), **first_use.pins()}
    except LockError:
        return ""
    known = (of for full, of in held.items() if _arch_of(full) == _arch_of(name))
    return next((names.requirement(of.distribution, of.version) for of in known), "")


def _arch_of(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[0]


def model_named(name: str, weights: str | Path | None) -> Found:
    """The model ``name``; if it is unknown, the file ``weights`` may name the distribution that has it."""
    try:
        return find(name)
    except UnknownNameError as error:
        if weights is None or names.is_repository(name):
            raise
        from zoo.loading import safetensors_file

        try:
            about = safetensors_file.metadata(Path(weights))
        except WeightsError:
            raise error from None
        of = names.requirement(about.get("distribution", ""), about.get("distribution_version", ""))
        return find(name, distribution=of)


def with_tag(found: Found, pretrained: bool | str) -> Found:
    """``found`` with the weights whose tag ``pretrained`` is; as it is for True and False."""
    if isinstance(pretrained, bool):
        return found
    if not isinstance(pretrained, str):
        raise SpecError(f"pretrained={pretrained!r}: expected True, False or a tag of {found.model.name}'s weights.")
    if found.weights is not None and found.weights.tag != pretrained:
        raise WeightsError(
            f"{found.weights.name} and pretrained={pretrained!r} both name weights.", hint="Give one of them."
        )
    return registry.current().tagged(found, pretrained)


def use(found: Found) -> tuple[Weights, Path]:
    """The weights of a name and a safetensors file with them, fetched if it is not in the cache.

    A file of another format is converted once (:mod:`zoo.hub.converted`); the weights then state what its key map does.
    """
    weights = weights_for(found)
    if not weights.needs_conversion:
        return first_use.fetch(found, weights)
    if not weights.sha256:  # with one, a conversion may be there, which does not need its source
        weights = first_use.fetch(found, weights).weights
    return as_safetensors(found, weights, lambda: first_use.fetch(found, weights).path)


def use_given(found: Found, given: str | Path) -> tuple[Weights | None, Path]:
    """The safetensors file that ``weights=given`` means for a model, and its entry if it is of a repository.

    A file of another format is converted once, as those of manifests are. Raises :class:`WeightsError` if there is no
    such file, or if the repository has another model; otherwise as :func:`use`.
    """
    if names.is_repository(str(given)):
        there = find(str(given))
        if names.parse(there.model.name).arch != names.parse(found.model.name).arch:
            raise WeightsError(
                f"{given} has weights of {there.model.name}, not of {found.model.name}.", hint=f"zoo.create({given!r})"
            )
        entry, file = use(there)
        return (entry if there.model is found.model else replace(entry, args={})), file
    file = Path(given)
    if file.suffix not in OTHER_FORMATS:
        return None, file
    try:
        sha256 = storage.sha256_of(file)
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read: {error.strerror or error}") from None
    weights = Weights(file.name, arch=found.model.name, tag=names.as_part(file.stem), sha256=sha256)
    return None, as_safetensors(found, weights, lambda: file)[1]


def as_safetensors(found: Found, weights: Weights, bring: Callable[[], Path]) -> tuple[Weights, Path]:
    """``weights`` as their key map completes them, and their conversion; ``bring`` returns the source if it is needed.

    Raises as :func:`zoo.hub.converted.use`.
    """
    from zoo.hub import converted

    made = converted.use(job_of(found, weights), weights, bring)
    return made.record.describe(weights), made.path


def job_of(found: Found, weights: Weights) -> "Job":
    """The conversion of ``weights``, which have a sha256, to safetensors for the model ``found``."""
    from zoo.hub import converted

    is_trunk = weights.num_classes == 0
    model, maps = lock.full_name(found), found.plugin.key_maps
    if weights.key_map not in {"", *(known.name for known in maps)} and (
        brought := key_maps.find(found, weights.key_map)
    ):
        maps = (*maps, brought)
    return converted.Job(weights.sha256, model, weights.key_map, weights.args, is_trunk, maps)


def weights_for(found: Found) -> Weights:
    """The weights of a name in this project: by tag or default, as its lock, its policy and the user's lock allow.

    Without a sha256 if none of them, nor the manifest, states one: :func:`zoo.trust.first_use.fetch` pins them. Raises
    :class:`zoo.LockError` if the bytes of two of them differ, :class:`zoo.PolicyError` if the project's policy does not
    accept them.
    """
    lock_file = storage.project_file(lock.NAME, lock.VARIABLE)
    locked = lock.read(lock_file) if lock_file else None
    default = lock.default_of(locked, found) if locked and not found.weights else None
    entry = found.weights or default or default_weights(found)
    held = first_use.follow(found, lock.follow(locked, found, entry) if locked else entry)
    if storage.project_file(policy.NAME, policy.VARIABLE):
        policy.check(found, entry)
    return held


def default_weights(found: Found) -> Weights:
    """The first weights of a model: files that need no conversion come first, of these the pinned ones.

    Raises :class:`WeightsError` with the weights of its family if it has none.
    """
    every = registry.current().own_weights_of(found.row, found.model)  # what others bring is never a default
    if every:
        return min(every, key=lambda weights: (weights.needs_conversion, not weights.pinned))
    arch = found.model.name
    brought = [weights.name for weights in registry.current().weights_of(found.row, found.model)]
    if brought:
        raise WeightsError(
            f"{arch} has no weights of its own.",
            hint=f"Name those that another distribution brings: {', '.join(brought)}.",
        )
    having = listing.list_models(pretrained=True, family=found.row.name)
    more = f" and {len(having) - 10} more: zoo list --pretrained --family {found.row.name}" if len(having) > 10 else ""
    raise WeightsError(f"{arch} has no weights.", hint=f"Its family has {', '.join(having[:10]) or 'none'}{more}.")

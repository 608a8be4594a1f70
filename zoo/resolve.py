"""Finds the model and the weights of a name in this project."""

from pathlib import Path

from zoo import registry
from zoo.errors import SpecError, UnknownNameError, UnpinnedError, WeightsError
from zoo.manifest import Weights
from zoo.registry import Found, listing
from zoo.trust import lock, policy, project


def model_named(name: str, weights: str | Path | None) -> Found:
    """The model ``name``; if it is unknown, the file ``weights`` may name the distribution that has it."""
    try:
        return registry.current().find(name)
    except UnknownNameError as error:
        if weights is None:
            raise
        from zoo.loading import safetensors_file

        try:
            about = safetensors_file.metadata(Path(weights))
        except WeightsError:
            raise error from None
        return registry.current().find(name, distribution=str(about.get("distribution", "")))


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


def weights_for(found: Found, *, allow_unpinned: bool = False) -> Weights:
    """The weights of a name in this project: by tag or default, according to its lock and policy.

    Raises :class:`zoo.LockError` if their bytes differ from the lock, :class:`zoo.PolicyError` if the project's policy
    does not accept them.
    """
    lock_file = project.find(lock.NAME, lock.VARIABLE)
    locked = lock.read(lock_file) if lock_file else None
    default = lock.default_of(locked, found) if locked and not found.weights else None
    entry = found.weights or default or default_weights(found, allow_unpinned=allow_unpinned)
    if project.find(policy.NAME, policy.VARIABLE):
        policy.check(found, entry)
    return lock.follow(locked, found, entry) if locked else entry


def default_weights(found: Found, *, allow_unpinned: bool = False) -> Weights:
    """The first pinned weights of a model; raises an error that lists what exists instead."""
    every = registry.current().weights_of(found.row, found.model)
    for weights in every:
        if weights.pinned or allow_unpinned:
            return weights
    arch = found.model.name
    if every:
        raise UnpinnedError(
            f"{arch} has no pinned weights: the manifest has no sha256 for {', '.join(w.name for w in every)}.",
            hint=f"zoo fetch {every[0].name} --allow-unpinned fetches the hub's file without verification. "
            f"After that, use {every[0].name} instead of {arch}.",
        )
    having = listing.list_models(pretrained=True, family=found.row.name)
    more = f" and {len(having) - 10} more: zoo list --pretrained --family {found.row.name}" if len(having) > 10 else ""
    raise WeightsError(f"{arch} has no weights.", hint=f"Its family has {', '.join(having[:10]) or 'none'}{more}.")
